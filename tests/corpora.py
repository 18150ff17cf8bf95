"""The folders of good and broken pictures that UPSCALE_TEST_DATA names, and what is expected.

What Pillow makes of each file stands in tables beside them (images/pillow13.tsv): what it loads we
must not refuse, but for what is listed here with its reason.
"""

from __future__ import annotations

import csv
import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file

from tests import networks
from upscale.imaging.kinds import NAMES
from upscale.weights.store import Store

DATA = os.environ.get("UPSCALE_TEST_DATA", "")
_IMAGES = Path(DATA, "images")

SCALE = 2

# Whatever Pillow makes of them.
REFUSED = {
    # 64 megapixels and more, over UPSCALE_MAX_INPUT_PIXELS, are refused by a rule, not by this
    # list. A fax whose data have a bad code word in the middle: Pillow leaves the rest white.
    "corrupt/tiff/crash-74d2a78403a5a59db1fb0a2b8735ac068a75f6e3.tif": "Bad code word",
}


@dataclass(frozen=True)
class Case:
    """A file, and the size (width, height) that Pillow finds if it loads it, upright."""

    path: Path
    name: str
    size: tuple[int, int] | None

    @property
    def must_work(self) -> bool:
        """Whether a refusal needs a reason."""
        return self.size is not None and self.name not in REFUSED


def cases() -> list[Case]:
    """All files of both folders. Skips the test where there are none."""
    table = _IMAGES / "pillow13.tsv"
    if not DATA or not table.exists():
        pytest.skip("UPSCALE_TEST_DATA names no folder with images/pillow13.tsv in it")
    with table.open(encoding="utf-8") as file:
        rows = {row["file"]: row for row in csv.DictReader(file, delimiter="\t")}
    paths = [p for f in ("corrupt", "formats") for p in sorted((_IMAGES / f).rglob("*"))]
    names = [(path, path.relative_to(_IMAGES).as_posix()) for path in paths if path.is_file()]
    return [Case(path, name, _size(path, rows.get(name))) for path, name in names]


def _size(path: Path, row: dict[str, str] | None) -> tuple[int, int] | None:
    """As Pillow loads it and turns it; None for what it does not load, or what is not ours."""
    if row is None or row["outcome"] != "loads":
        return None
    kind, *_ = row["detail"].split()
    if kind.lower() not in NAMES and kind != "MPO":  # several JPEG in one file
        return None
    found = re.search(r" (\d+)x(\d+) ", row["detail"])
    assert found is not None, row
    width, height = int(found[1]), int(found[2])
    turned = re.search(r"orientation=([5-8])", row["detail"])
    # Pillow turns a TIFF when it loads it, and forgets that it did.
    return (height, width) if turned and kind != "TIFF" else (width, height)


def tiny_network(weights: Path) -> str:
    """Installs a network of a few hundred parameters that doubles sizes; returns its name."""
    scratch = weights.parent / "tiny-x2.safetensors"
    state = networks.compact(SCALE, convs=1, features=4).descriptor.model.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, scratch)
    return Store(weights).register(scratch, name=None, serves=None, replace=False).name


def check_result(case: Case, result: Path) -> None:
    """The file opens and is of the size that Pillow's reading of its original leads to."""
    with Image.open(result) as image:
        image.load()
        if case.size is not None:
            assert image.size == tuple(SCALE * side for side in case.size), case.name
