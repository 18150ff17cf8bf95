"""Mutated files through probing and decoding, in a process that may die of them.

    python -m tests.imaging.trial FORMAT FIRST COUNT FOLDER

Each number from FIRST on makes one file, FOLDER/mutant, whose number stands in FOLDER/number while
it is read. What is wrong is printed, one JSON line each; a file that takes too long ends the
process. Nothing else may be written, to standard error least of all.
"""

from __future__ import annotations

import faulthandler
import json
import sys
import time
from pathlib import Path
from random import Random

import numpy as np

from tests.imaging.mutations import mutated
from tests.imaging.samples import samples
from upscale.errors import TooLarge, UnreadableImage
from upscale.imaging.decode import decode
from upscale.imaging.limits import check_input
from upscale.imaging.probing import probe

SECONDS = 5.0  # of processor time; a file of a few kilobytes
HANGS = 60  # seconds, whatever else the machine does
LARGEST = 1 << 22  # pixels; larger headers are another test's


def mutant(format: str, number: int) -> tuple[str, bytes]:
    """The kind of sample and the bytes that it became; the same for the same number."""
    random = Random(f"{format} {number}")
    kind = random.choice(sorted(_samples(format)))
    return kind, mutated(_samples(format)[kind], format, random)


_made: dict[str, dict[str, bytes]] = {}


def _samples(format: str) -> dict[str, bytes]:
    if format not in _made:
        _made[format] = samples(format)
    return _made[format]


def fault_of(path: Path) -> str | None:
    """What is wrong with how the file at `path` is read; "" if it is decoded, None if refused."""
    try:
        found = probe(path)
        check_input(found, LARGEST)
        picture = decode(path, found)
    except (UnreadableImage, TooLarge) as refusal:
        return None if refusal.message.isprintable() else f"odd message: {refusal.message!r}"
    except Exception as fault:
        return f"{type(fault).__name__}: {fault}"
    depth = np.uint16 if found.depth == 16 else np.uint8
    if picture.colour.shape != (found.height, found.width, found.channels):
        return f"{picture.colour.shape} is not as probed: {found}"
    if picture.colour.dtype != depth:
        return f"{picture.colour.dtype} is not as probed: {found}"
    if picture.alpha is not None:
        if not found.alpha:
            return "alpha came out that was not announced"
        if picture.alpha.shape != picture.colour.shape[:2] or picture.alpha.dtype != depth:
            return f"alpha is {picture.alpha.dtype} {picture.alpha.shape}"
    return ""


def main(format: str, first: int, count: int, folder: Path) -> None:
    """Try `count` files."""
    path, number_file = folder / "mutant", folder / "number"
    decoded = 0
    for number in range(first, first + count):
        kind, data = mutant(format, number)
        path.write_bytes(data)
        number_file.write_text(str(number))
        faulthandler.dump_traceback_later(HANGS, exit=True)
        began = time.process_time()
        fault = fault_of(path)
        if time.process_time() - began > SECONDS:
            fault = fault or f"took {time.process_time() - began:.1f} seconds"
        if fault:
            print(json.dumps({"number": number, "kind": kind, "fault": fault}), flush=True)
        decoded += fault == ""
    faulthandler.cancel_dump_traceback_later()
    # Not getrusage: its peak goes on from that of the process which started this one.
    status = Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
    print(json.dumps({"decoded": decoded, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
