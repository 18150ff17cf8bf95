"""Draws `sample.png`: a small landscape with soft gradients, hard edges, fine lines and texture.

Everything an upscaler may get wrong is in it. Seeded, so that it comes out the same:
`python examples/draw_sample.py [OUT]`. It is drawn more than four times as large and reduced, so
that it looks like a photograph of the scene rather than like its plan.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

WIDTH, HEIGHT = 288, 216
DRAWN = (1280, 960)
HORIZON = 0.56

Floats = npt.NDArray[np.float64]


def draw(seed: int = 7) -> Image.Image:
    """The picture, RGB, WIDTH x HEIGHT pixels."""
    rng = np.random.default_rng(seed)
    width, height = DRAWN
    picture = _sky(width, height, rng)
    for depth, colour in enumerate(((136, 146, 180), (94, 112, 152), (58, 82, 112))):
        picture = _ridge(picture, depth, colour, rng)
    picture = _lake(picture, rng)
    _house(picture)
    _fence(picture)
    _trees(picture, rng)
    _grass(picture, rng)
    _sign(picture)
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _noise(shape: tuple[int, int], cell: int, rng: np.random.Generator) -> Floats:
    """Smooth noise in 0..1, [H, W], with features of about `cell` pixels."""
    coarse = rng.random((shape[0] // cell + 3, shape[1] // cell + 3)) * 255
    image = Image.fromarray(coarse.astype(np.uint8)).resize(
        ((shape[1] // cell + 3) * cell, (shape[0] // cell + 3) * cell), Image.Resampling.BICUBIC
    )
    return np.asarray(image, np.float64)[: shape[0], : shape[1]] / 255


def _sky(width: int, height: int, rng: np.random.Generator) -> Image.Image:
    y = np.linspace(0, 1, height)[:, None, None]
    top, middle, low = (
        np.array(c, float) for c in ((52, 92, 160), (246, 178, 128), (252, 226, 178))
    )
    t = np.clip(y / HORIZON, 0, 1)
    sky = np.where(
        t < 0.7, top + (middle - top) * (t / 0.7), middle + (low - middle) * (t - 0.7) / 0.3
    )
    sky = np.broadcast_to(sky, (height, width, 3)).copy()
    cover = np.clip((_clouds(width, height, rng) - 0.5) * 5.5, 0, 0.8)[..., None] * (1 - t) ** 0.5
    sky += (np.array([255, 236, 222]) - sky) * cover
    yy, xx = np.mgrid[:height, :width]
    far = np.hypot(xx - 0.68 * width, yy - 0.36 * height) / width
    glow = np.exp(-((far / 0.11) ** 2))[..., None]
    sky += (np.array([255, 244, 214]) - sky) * glow * 0.75
    sky[far < 0.034] = (255, 250, 232)
    return Image.fromarray(np.clip(sky, 0, 255).astype(np.uint8))


def _clouds(width: int, height: int, rng: np.random.Generator) -> Floats:
    """Streaks in 0..1: noise of many sizes, stretched along the horizon, softened."""
    cells = (110, 60, 34, 20, 12, 7)
    layers = [_noise((height, width // 3), cell, rng) * cell**0.8 for cell in cells]
    total = sum(layers[1:], layers[0]) / sum(cell**0.8 for cell in cells)
    image = Image.fromarray((np.clip(total, 0, 1) * 255).astype(np.uint8))
    wide = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(wide.filter(ImageFilter.GaussianBlur(4)), np.float64) / 255


def _ridge(
    picture: Image.Image, depth: int, colour: tuple[int, int, int], rng: np.random.Generator
) -> Image.Image:
    width, height = picture.size
    x = np.arange(width) / width
    line = np.full(width, HORIZON - 0.13 + 0.055 * depth)
    for octave in range(1, 8):
        size = 0.05 / octave**1.25 * (1 - 0.18 * depth)
        line += size * np.sin(2 * np.pi * (octave * 1.3 * x + rng.random()))
    pixels = np.asarray(picture, np.float64).copy()
    below = (np.arange(height)[:, None] / height) > line[None]
    rock = _noise((height, width), 10, rng) - 0.5 + 0.6 * (_noise((height, width), 36, rng) - 0.5)
    pixels[below] = (np.array(colour) + rock[..., None] * 26)[below]
    if depth == 0:
        snow = below & ((np.arange(height)[:, None] / height) < line[None] + 0.022 + 0.02 * rock)
        pixels[snow] = (240, 240, 248)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _lake(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = picture.size
    shore, bank = int(HORIZON * height), int(0.8 * height)
    pixels = np.asarray(picture, np.float64).copy()
    rows = np.arange(bank - shore)
    mirrored = pixels[np.clip(shore - 1 - (rows * 1.25).astype(int), 0, None)]
    shift = (6 * np.sin(rows / 5.0) * (0.3 + rows / len(rows))).astype(int)
    for row in rows:
        mirrored[row] = np.roll(mirrored[row], shift[row], axis=0)
    ripples = _noise((len(rows), width // 8), 3, rng).repeat(8, axis=1)[:, :width, None] - 0.5
    pixels[shore:bank] = mirrored * 0.72 + np.array([20, 40, 62]) * 0.28 + ripples * 30
    meadow = np.arange(height - bank)[:, None, None] / (height - bank)
    grass = _noise((height - bank, width), 7, rng)[..., None] - 0.5
    pixels[bank:] = np.array([116, 142, 62]) * (1 - 0.45 * meadow) + grass * 44
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _house(picture: Image.Image) -> None:
    pen = ImageDraw.Draw(picture)
    x, y = 236, 560
    pen.rectangle((x, y, x + 200, y + 150), fill=(172, 58, 46))
    for board in range(y + 10, y + 150, 10):
        pen.line((x, board, x + 200, board), fill=(142, 44, 36), width=2)
    pen.polygon(((x - 20, y), (x + 100, y - 92), (x + 220, y)), fill=(66, 56, 60))
    for tile in range(1, 7):
        at = y - 92 + tile * 13
        half = (tile * 13) * 120 / 92
        pen.line((x + 100 - half, at, x + 100 + half, at), fill=(92, 80, 84), width=2)
    pen.rectangle((x + 148, y - 86, x + 168, y - 30), fill=(112, 96, 92))
    for left in (x + 22, x + 132):
        pen.rectangle(
            (left, y + 40, left + 46, y + 86),
            fill=(250, 222, 140),
            outline=(244, 240, 232),
            width=5,
        )
        pen.line((left + 23, y + 40, left + 23, y + 86), fill=(244, 240, 232), width=4)
        pen.line((left, y + 63, left + 46, y + 63), fill=(244, 240, 232), width=4)
    pen.rectangle(
        (x + 80, y + 66, x + 122, y + 150), fill=(84, 58, 44), outline=(244, 240, 232), width=4
    )


def _fence(picture: Image.Image) -> None:
    pen = ImageDraw.Draw(picture)
    for post in range(0, 1280, 26):
        base = 800 + int(18 * np.sin(post / 160))
        pen.polygon(
            (
                (post, base),
                (post, base - 62),
                (post + 6, base - 72),
                (post + 12, base - 62),
                (post + 12, base),
            ),
            fill=(238, 234, 224),
        )
    for rail in (22, 46):
        points = [(post, 800 - rail + int(18 * np.sin(post / 160))) for post in range(0, 1290, 26)]
        pen.line(points, fill=(214, 208, 196), width=6)


def _trees(picture: Image.Image, rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(picture)
    for x, base, tall in ((76, 770, 380), (170, 742, 230), (1170, 780, 430), (1060, 750, 260)):
        pen.rectangle((x - 8, base - 50, x + 8, base), fill=(74, 52, 40))
        for step in range(tall // 9):
            half = (step * 9) * 0.27 + 5
            at = base - tall + step * 9
            for _ in range(7):
                dx = float(rng.normal(0, half / 2))
                green = int(rng.integers(48, 108))
                pen.line(
                    (x + dx, at, x + dx * 1.5, at + 16),
                    fill=(green // 2, green, green // 2 + 8),
                    width=5,
                )


def _grass(picture: Image.Image, rng: np.random.Generator) -> None:
    pen = ImageDraw.Draw(picture)
    for _ in range(1500):
        x, y = rng.uniform(0, 1280), 815 + 150 * float(rng.random()) ** 0.8
        long, lean = rng.uniform(8, 26) * (0.6 + (y - 800) / 160), rng.normal(0, 7)
        green = int(rng.integers(90, 190))
        pen.line((x, y, x + lean, y - long), fill=(green - 34, green, 40), width=2)
    for _ in range(70):
        x, y = rng.uniform(0, 1280), rng.uniform(840, 955)
        colour = ((240, 96, 84), (250, 214, 90), (244, 242, 250))[int(rng.integers(3))]
        pen.ellipse((x - 6, y - 6, x + 6, y + 6), fill=colour)


def _sign(picture: Image.Image) -> None:
    """A board with strokes like letters: thin, dark, at every angle."""
    board = Image.new("RGB", (208, 104), (226, 206, 160))
    pen = ImageDraw.Draw(board)
    pen.rectangle((0, 0, 207, 103), outline=(96, 68, 44), width=6)
    ink = (48, 36, 30)
    strokes = (
        ((20, 22), (20, 52), (36, 52), (36, 22)),
        ((48, 52), (48, 22), (64, 24), (64, 36), (48, 38)),
        ((92, 24), (76, 24), (76, 36), (92, 40), (92, 52), (76, 52)),
        ((120, 26), (106, 24), (104, 50), (120, 50)),
        ((130, 52), (139, 22), (148, 52)),
        ((160, 22), (160, 52), (176, 52)),
        ((200, 22), (186, 22), (186, 52), (200, 52)),
        ((186, 37), (198, 37)),
    )
    for points in strokes:
        pen.line(points, fill=ink, width=5)
    for line, length in ((68, 176), (78, 150), (88, 168)):
        for x in range(18, length, 7):
            pen.line((x, line, x + 4, line), fill=ink, width=3)
    post = ImageDraw.Draw(picture)
    post.rectangle((738, 790, 752, 930), fill=(96, 68, 44))
    picture.paste(board.filter(ImageFilter.GaussianBlur(0.6)), (642, 716))


if __name__ == "__main__":
    out = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("sample.png")
    draw().save(out, optimize=True)
