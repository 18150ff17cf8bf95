"""Where results go: names that say the scale, never meet, and fit the file system. Pure, except
for one look at what kind of thing the output path is.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from upscale.cli.inputs import Input
from upscale.errors import InvalidParameter
from upscale.imaging.limits import FORMATS, normalise_format

# Most file systems hold names of 255 bytes; the receipt adds `.json` to the result's name.
_LONGEST_NAME = 255 - len(".json")


def output_format(out: str, wanted: str | None, *, single: bool) -> tuple[str, bool]:
    """The format of the results, and whether `out` is the file itself rather than a folder.

    `single`: one file is the input. Then an output with an ending is a file, and the ending decides
    the format. Raises InvalidParameter where name and wish contradict each other.
    """
    chosen = normalise_format(wanted) if wanted else None
    if not out:
        raise InvalidParameter("--out", out, "a folder or a file")
    output = Path(out)
    folder = os.path.isdir(output) or out.endswith(("/", os.sep))
    ending = _format_of(output)
    if folder or not (output.suffix or os.path.lexists(output)):
        return chosen or "png", False
    if not single:
        if ending or os.path.lexists(output):
            raise InvalidParameter("--out", output, "a folder, since there are several inputs")
        return chosen or "png", False
    if os.path.exists(output) and not os.path.isfile(output):
        raise InvalidParameter("--out", output, "a folder or an ordinary file")
    if ending is None and chosen is None:
        allowed = "a name ending in .png, .jpg, .webp, .tif, .avif or .gif, or a folder/"
        raise InvalidParameter("--out", output, allowed)
    if ending and chosen and ending != chosen:
        raise InvalidParameter("--format", wanted, f"{ending}, as the output's name says")
    return chosen or ending or "png", True


def _format_of(path: Path) -> str | None:
    try:
        return normalise_format(path.suffix) if path.suffix else None
    except InvalidParameter:
        return None


def name_outputs(
    inputs: Sequence[Input], folder: Path, *, scale: Decimal, format: str
) -> list[Path]:
    """A path below `folder` for each input: `<stem>-<scale>x.<ending>`, all different.

    Where two would meet, they carry the ending of their source (`a-png-4x.png`, `a-jpg-4x.png`);
    if that does not part them, the source's folder (`summer-a-4x.png`); at last a number, in the
    order of the inputs.
    """
    tail = f"-{scale.normalize():f}x{FORMATS[format].extension}"
    choices = [_stems(item) for item in inputs]
    level = [0] * len(inputs)
    for next_level in range(1, max(map(len, choices), default=1)):
        keys = [_key(item, c[i], tail) for item, c, i in zip(inputs, choices, level, strict=True)]
        often = Counter(keys)
        level = [
            next_level if often[key] > 1 else old for key, old in zip(keys, level, strict=True)
        ]
    taken: set[str] = set()
    paths = []
    for item, stems, chosen in zip(inputs, choices, level, strict=True):
        name, number = _fitted(stems[chosen], tail), 1
        while _folded(item.folder / name) in taken:
            number += 1
            name = _fitted(stems[chosen], f"-{number}{tail}")
        taken.add(_folded(item.folder / name))
        paths.append(folder / item.folder / name)
    return paths


def _stems(item: Input) -> tuple[str, str, str]:
    """Stems to choose from, from the plainest to the most telling."""
    stem, ending = item.path.stem, item.path.suffix.removeprefix(".")
    full = f"{stem}-{ending}" if ending else stem
    parent = Path(os.path.abspath(item.path)).parent.name
    return stem, full, f"{parent}-{full}" if parent else full


def _key(item: Input, stem: str, tail: str) -> str:
    return _folded(item.folder / _fitted(stem, tail))


def _folded(path: Path) -> str:
    """What file systems that ignore case or Unicode forms take for the same name."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _fitted(stem: str, tail: str) -> str:
    """The name, its stem cut at a whole character where the file system would refuse it."""
    room = _LONGEST_NAME - len(os.fsencode(tail))
    raw = os.fsencode(stem)
    if len(raw) <= room:
        return stem + tail
    cut = raw[:room]
    while cut and (raw[len(cut)] & 0xC0) == 0x80:
        cut = cut[:-1]
    return os.fsdecode(cut or raw[:room]) + tail
