"""From folders of pictures of any size to one folder of sharp crops for training.

`python -m upscale.weights.train.prepare OUT FOLDER...`. Works on files; knows nothing of networks.
A picture of up to 800 pixels a side is copied as it is. A larger one is first reduced by a whole
factor, which takes away the softness and the JPEG blocks of the original, and then gives its
sharpest pieces of 800 x 800. The same folders give the same files.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from upscale.weights.train.bicubic import Picture
from upscale.weights.train.data import picture_paths, sharpness

SIDE = 800
LONGEST = 2000
"""A picture is reduced by the whole factor that brings its longer side nearest to this."""


def prepare(folders: list[Path], out: Path, crops: int = 2) -> int:
    """Write PNG crops, at most `crops` of a picture, to `out`; how many files.

    Names begin with that of the folder, so that two folders may hold files of one name.
    """
    out.mkdir(parents=True, exist_ok=True)
    written = 0
    for folder in folders:
        for path in picture_paths(folder):
            stem = f"{folder.name}-{path.stem}"
            with Image.open(path) as image:
                if max(image.size) <= SIDE:
                    shutil.copyfile(path, out / f"{stem}{path.suffix}")
                    written += 1
                    continue
                picture = reduced(image.convert("RGB"))
            for i, crop in enumerate(sharpest(picture, crops)):
                Image.fromarray(crop).save(out / f"{stem}-{i}.png")
                written += 1
    return written


def reduced(image: Image.Image) -> Picture:
    """uint8 [H, W, 3], a whole factor smaller by antialiased bicubic where `image` is large."""
    factor = max(1, round(max(image.size) / LONGEST))
    size = (image.width // factor, image.height // factor)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), dtype=np.uint8)


def sharpest(picture: Picture, count: int) -> list[Picture]:
    """The `count` sharpest of the pieces of 800 x 800 that fit side by side, from the middle."""
    height, width = picture.shape[:2]
    rows, columns = max(1, height // SIDE), max(1, width // SIDE)
    tall, wide = min(SIDE, height), min(SIDE, width)
    top, left = (height - rows * tall) // 2, (width - columns * wide) // 2
    pieces = [
        picture[top + r * tall : top + (r + 1) * tall, left + c * wide : left + (c + 1) * wide]
        for r in range(rows)
        for c in range(columns)
    ]
    return sorted(pieces, key=sharpness, reverse=True)[:count]


def main(argv: list[str] | None = None) -> None:
    """Read the arguments and prepare."""
    parser = argparse.ArgumentParser(prog="upscale.weights.train.prepare", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--crops", type=int, default=2, help="at most so many of a large picture")
    options = parser.parse_args(argv)
    count = prepare(options.folders, options.out, options.crops)
    sys.stdout.write(f"{options.out}: {count} files\n")


if __name__ == "__main__":
    main()
