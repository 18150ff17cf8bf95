"""Draws the strips of README.md beside it: input, bicubic, the bundled network, original.

`python docs/bundled/draw.py VALIDATION`, after a change of the bundled network. VALIDATION is the
validation part of CID22; the drawings are made here. Pictures are reduced by bicubic as a whole,
and enlarged through `upscale image` as its users do. Pixel art is small by nature: it is enlarged
as it is, and has no original.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from math import cos, pi, sin
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upscale.weights.train.bicubic import Picture, enlarge, reduce
from upscale.weights.train.data import read

HERE = Path(__file__).parent
SIDE = 168
"""Of a crop in large pixels."""
GAP = 4
PHOTOGRAPHS = {
    "face": ("5055743.png", (20, 20)),
    "foliage": ("5458393.png", (330, 20)),
    "architecture": ("2079234.png", (180, 180)),
    "night": ("382297.png", (40, 190)),
    "fabric": ("164595.png", (300, 300)),
    "food": ("70497.png", (240, 200)),
}
"""Name of the file, and left and top of the crop in the large picture."""
WORDS = """Letters stay apart,
strokes even, paper
white. 0123456789
(a + b) / 2 = 3.7 %
Foxes jump; 14:30."""
SPRITE = """
................
.....aaaaaa.....
...aabbbbbbaa...
..abbccbbbbbba..
..abccbbbbccba..
.abbccbbbbccbba.
.abbbbbbbbbbbba.
.abbbbccccbbbba.
.aaaabccccbaaaa.
...adddaadddda..
...adeddddedda..
...adeddddedda..
...addddddddda..
....addddddda...
.....aaaaaaa....
................
"""
COLOURS = {".": "#7ec8f0", "a": "#2b1d2e", "b": "#d63b3b", "c": "#fff4e0", "d": "#f3d3a2"}
COLOURS["e"] = COLOURS["a"]


def text(side: int) -> Image.Image:
    image = Image.new("RGB", (side, side), "#fbfaf6")
    draw = ImageDraw.Draw(image)
    draw.text((8, 4), "Small print", fill="#a02020", font=ImageFont.load_default(28))
    draw.line((8, 38, side - 8, 38), fill="#202020", width=2)
    font = ImageFont.load_default(20)
    draw.multiline_text((8, 44), WORDS, fill="#1a1a1a", font=font, spacing=4)
    return image


def line_art(side: int) -> Image.Image:
    """A rose of thin curves under hatching, black on white, drawn four times as large."""
    big = 4 * side
    image = Image.new("RGB", (big, big), "white")
    draw = ImageDraw.Draw(image)
    middle = 0.33 * big
    for petal in range(1, 6):
        points = []
        for i in range(721):
            angle = i * pi / 360
            radius = big * (0.03 + 0.045 * petal) * (1 + 0.18 * sin(5 * angle + petal))
            points.append((middle + radius * cos(angle), middle + radius * sin(angle)))
        draw.line(points, fill="black", width=12 if petal % 2 else 8, joint="curve")
    for i in range(0, big // 2, 36):
        top = big // 2 + i // 3
        draw.line((middle + i, top, middle + i - 160, top + 260), fill="black", width=7)
    return image.resize((side, side), Image.Resampling.BOX)


def plan(side: int) -> Image.Image:
    """A map: water, green, roads of two ranks and names."""
    big = 2 * side
    image = Image.new("RGB", (big, big), "#f4efe6")
    draw = ImageDraw.Draw(image)
    draw.polygon([(0, 60), (120, 110), (190, 250), (130, 420), (0, 470)], fill="#a9cfe8")
    draw.polygon([(250, 30), (430, 60), (400, 190), (260, 170)], fill="#c5dfb0")
    random = np.random.default_rng(4)
    for _ in range(26):
        x, y = (int(v) for v in random.integers(150, big, 2))
        w, h = (int(v) for v in random.integers(14, 44, 2))
        draw.rectangle((x, y, x + w, y + h), fill="#dccfc0", outline="#b09c86")
    roads = [((160, 0), (240, 240), (big, 330)), ((120, big), (300, 260), (big, 90))]
    for width, colour in ((22, "#c9913d"), (16, "#ffd98a")):
        for road in roads:
            draw.line(road, fill=colour, width=width, joint="curve")
    for i in range(6):
        draw.line((180 + 50 * i, 200, 160 + 60 * i, big), fill="#8d8d8d", width=3)
    for (x, y), name in {(16, 250): "Lake", (290, 90): "Park", (330, 350): "Mill St"}.items():
        draw.text((x, y), name, fill="#243b53", font=ImageFont.load_default(30))
    return image.resize((side, side), Image.Resampling.BOX)


def pixel_art() -> Picture:
    rows = SPRITE.split()
    sprite = Image.new("RGB", (len(rows[0]), len(rows)))
    draw = ImageDraw.Draw(sprite)
    for y, row in enumerate(rows):
        for x, key in enumerate(row):
            draw.point((x, y), COLOURS[key])
    return np.asarray(
        sprite.resize((2 * sprite.width, 2 * sprite.height), Image.Resampling.NEAREST)
    )


DRAWINGS: dict[str, Callable[[int], Image.Image]] = {
    "text": text,
    "line-art": line_art,
    "map": plan,
}


def pictures(validation: Path) -> dict[str, tuple[Picture, Picture | None, tuple[int, int]]]:
    """By kind: small picture, original, left and top of the crop in the large one."""
    found: dict[str, tuple[Picture, Picture | None, tuple[int, int]]] = {}
    for kind, (name, place) in PHOTOGRAPHS.items():
        large = read(validation / name)
        found[kind] = (reduce(large), large, place)
    for kind, draw in DRAWINGS.items():
        large = np.asarray(draw(256))
        found[kind] = (reduce(large), large, (0, 0))
    found["pixel-art"] = (pixel_art(), None, (0, 0))
    return found


def main(argv: list[str] | None = None) -> None:
    """Write a strip for each kind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("validation", type=Path)
    parser.add_argument("--model", default="bundled-x4")
    parser.add_argument("--out", type=Path, default=HERE)
    options = parser.parse_args(argv)
    found = pictures(options.validation)
    with tempfile.TemporaryDirectory() as place:
        small, large = Path(place, "small"), Path(place, "large")
        small.mkdir()
        for kind, (picture, _, _) in found.items():
            Image.fromarray(picture).save(small / f"{kind}.png")
        upscale = [sys.executable, "-m", "upscale.cli", "image", "-m", options.model, "-s", "4"]
        subprocess.run([*upscale, str(small), "--out", str(large)], check=True)
        for kind, (picture, original, (left, top)) in found.items():
            blocks = np.repeat(np.repeat(picture, 4, axis=0), 4, axis=1)
            parts = [blocks, enlarge(picture), read(large / f"{kind}-4x.png")]
            parts += [] if original is None else [original]
            strip = Image.new("RGB", (4 * SIDE + 3 * GAP, min(SIDE, len(blocks))), "white")
            for i, part in enumerate(parts):
                crop = Image.fromarray(part[top : top + SIDE, left : left + SIDE])
                strip.paste(crop, (i * (SIDE + GAP), 0))
            strip.save(options.out / f"{kind}.png", optimize=True)


if __name__ == "__main__":
    main()
