"""A seeded picture that compresses and upscales like a photograph: light, shapes, grain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

# Larger pictures are as soft at the pixel as those of large sensors are, but for the grain.
_SHARPEST = 2048

Floats = npt.NDArray[np.float32]


def photograph(side: int, seed: int = 11) -> Image.Image:
    """RGB, `side` x `side`: clouds of many sizes, shaded blobs with soft and hard edges, stalks,
    and grain of about 1.5 levels. Nothing in it repeats."""
    rng = np.random.default_rng(seed)
    scene = _scene(min(side, _SHARPEST), rng)
    pixels = np.asarray(scene.resize((side, side), Image.Resampling.BICUBIC), np.float32)
    pixels = pixels + rng.standard_normal((side, side, 1), np.float32) * 1.5
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))


def write_photograph(path: Path, side: int) -> Path:
    """The picture as a PNG at `path`."""
    photograph(side).save(path, compress_level=1)
    return path


def _scene(side: int, rng: np.random.Generator) -> Image.Image:
    light = _fractal(side, rng, 1.1)
    pixels = np.empty((side, side, 3), np.float32)
    for channel, (low, high) in enumerate(((62, 214), (78, 196), (96, 172))):
        pixels[..., channel] = low + (high - low) * light + 26 * (_fractal(side, rng, 1.4) - 0.5)
    picture = _shapes(Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)), rng)
    pixels = np.asarray(picture, np.float32) + 34 * (_fractal(side, rng, 0.55)[..., None] - 0.5)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _fractal(side: int, rng: np.random.Generator, fall: float) -> Floats:
    """Noise in 0..1 [side, side] whose octaves lose weight by 2**-fall from coarse to fine."""
    total, weights = np.zeros((side, side), np.float32), 0.0
    octaves = max(2, side.bit_length() - 2)
    for octave in range(1, octaves + 1):
        cells = 2**octave + 1
        weight = 2.0 ** (-fall * octave)
        layer = Image.fromarray(rng.random((cells, cells), np.float32))
        total += weight * np.asarray(layer.resize((side, side), Image.Resampling.BICUBIC))
        weights += weight
    total = (total / weights - 0.5) * 1.6 + 0.5
    return np.clip(total, 0, 1)


def _shapes(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    side = picture.width
    soft = picture.copy()
    pen = ImageDraw.Draw(soft)
    for _ in range(40):
        _blob(pen, side, rng, rng.uniform(0.03, 0.16))
    picture = Image.blend(picture, soft.filter(ImageFilter.GaussianBlur(side / 128)), 0.75)
    pen = ImageDraw.Draw(picture)
    for _ in range(30):
        _blob(pen, side, rng, rng.uniform(0.01, 0.06))
    for _ in range(220):
        x, y = rng.uniform(0, side, 2)
        dx, dy = rng.normal(0, side / 14, 2)
        colour = tuple(int(c) for c in rng.integers(20, 235, 3))
        pen.line(
            (x, y, x + dx, y + dy), fill=colour, width=max(1, side // int(rng.integers(250, 900)))
        )
    return picture.filter(ImageFilter.GaussianBlur(0.6))


def _blob(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator, size: float) -> None:
    x, y = rng.uniform(0, side, 2)
    turns = np.sort(rng.uniform(0, 2 * np.pi, 14))
    far = side * size * rng.uniform(0.6, 1.3, 14)
    points = [(x + r * np.cos(t), y + r * np.sin(t)) for r, t in zip(far, turns, strict=True)]
    pen.polygon(points, fill=tuple(int(c) for c in rng.integers(25, 235, 3)))
