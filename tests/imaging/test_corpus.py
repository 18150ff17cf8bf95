"""Every file of a folder of good and broken pictures is decoded or refused, quickly."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from upscale.errors import TooLarge, UnreadableImage
from upscale.imaging.decode import decode
from upscale.imaging.limits import check_input
from upscale.imaging.probing import probe

DATA = os.environ.get("UPSCALE_TEST_DATA", "")
FOLDERS = ("images/corrupt", "images/formats")
FILES = [p for folder in FOLDERS for p in sorted(Path(DATA, folder).rglob("*")) if p.is_file()]

pytestmark = pytest.mark.skipif(
    not DATA or not FILES, reason="UPSCALE_TEST_DATA names no folder with images/corrupt in it"
)


def test_every_file_is_decoded_or_refused_within_seconds():
    decoded = 0
    for path in FILES:
        began = time.monotonic()
        try:
            found = probe(path)
            check_input(found, 1 << 26)
            picture = decode(path, found)
        except (UnreadableImage, TooLarge):
            pass
        else:
            decoded += 1
            assert picture.colour.shape == (found.height, found.width, found.channels), path
            assert picture.alpha is None or found.alpha, path
        assert time.monotonic() - began < 5, path
    assert decoded > 20


def test_good_pictures_of_our_formats_are_all_decoded():
    for path in FILES:
        kind = path.parent.name
        if "formats" in path.parts and kind in ("png", "jpeg", "webp", "apng", "icc", "pngsuite"):
            decode(path, probe(path))


def test_the_eight_orientations_stand_as_pillow_puts_them():
    paths = [path for path in FILES if path.parent.name == "jpeg-orientation"]
    assert sorted(probe(path).orientation for path in paths) == list(range(1, 9))
    for path in paths:
        with Image.open(path) as image:
            want = np.asarray(ImageOps.exif_transpose(image))
        assert (decode(path, probe(path)).colour == want).all()
