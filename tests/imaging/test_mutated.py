"""Files made invalid, by the thousand in each format: each is decoded or refused, and no more.

They are read in a process of their own, so that a crash or an endless loop is a failure with a
number and a file, which `python -m tests.imaging.trial` makes again.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.imaging.samples import samples
from tests.imaging.trial import SECONDS, fault_of
from upscale.imaging.decode import decode
from upscale.imaging.kinds import NAMES
from upscale.imaging.probing import probe

PEAK_MB = 400  # of a process that reads pictures of at most 4 megapixels


# UPSCALE_TEST_MUTANTS=20000 looks longer.
MUTANTS = int(os.environ.get("UPSCALE_TEST_MUTANTS", "1000"))


@pytest.mark.parametrize("format", NAMES)
def test_mutants_by_the_thousand_are_decoded_or_refused(format, tmp_path):
    _try(format, 0, MUTANTS, tmp_path)


@pytest.mark.parametrize("format", NAMES)
def test_the_files_that_mutants_are_made_of_are_all_decoded(format, tmp_path):
    for name, data in samples(format).items():
        path = tmp_path / "sample"
        path.write_bytes(data)
        assert decode(path, probe(path)).colour.any(), name
        assert fault_of(path) == "", name


def _try(format: str, first: int, count: int, folder: Path) -> None:
    command = [sys.executable, "-m", "tests.imaging.trial", format, str(first), str(count)]
    done = subprocess.run(
        [*command, str(folder)],
        capture_output=True,
        text=True,
        timeout=60 + count * SECONDS,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    number = (folder / "number").read_text()
    if done.returncode:
        saved = shutil.copy(folder / "mutant", folder / f"{format}-{number}")
        pytest.fail(
            f"{format} {number}, kept as {saved}, ended the process with {done.returncode}:\n"
            f"{done.stdout}{done.stderr}"
        )
    *faults, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert not faults, f"{len(faults)} {format} files, the first: {faults[0]}"
    assert done.stderr == "", "libraries wrote to standard error"
    assert number == str(first + count - 1)
    assert summary["decoded"] > count / 20  # or the mutations are too coarse to test decoding
    assert summary["peak_mb"] < PEAK_MB
