"""Drawn pictures for training: flat fields, smooth ramps, shapes, lines and text.

Photographs hold little of this, and a network that never saw it leaves grain on flat areas and
ripples along the edges of drawings. Everything follows from the seed; no files are read.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upscale.weights.train.bicubic import Picture

SIDE = 512
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:;!?%&()+-=/"


def drawings(count: int, seed: int) -> list[Picture]:
    """`count` pictures uint8 [512, 512, 3]: in turn a ramp, shapes, lines with text, panels."""
    random = np.random.default_rng(seed)
    makers = (_ramp, _shapes, _writing, _panels)
    return [makers[i % len(makers)](random) for i in range(count)]


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    if random.random() < 0.4:  # greys, on which a tint would be seen first
        level = int(random.integers(256))
        return (level, level, level)
    pure = random.random() < 0.4  # the corners of the colour cube hardly occur in photographs
    r, g, b = (
        int(v) for v in (random.integers(0, 2, 3) * 255 if pure else random.integers(0, 256, 3))
    )
    return (r, g, b)


def _ramp(random: np.random.Generator) -> Picture:
    """A field that changes linearly from one colour to another, under a flat one."""
    angle = random.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    share = np.clip(0.5 + (x * np.cos(angle) + y * np.sin(angle)) / 1.2, 0, 1)[..., None]
    a, b = (np.array(_colour(random), dtype=np.float64) for _ in range(2))
    field = a + (b - a) * share  # [H, W, 3]
    field[: SIDE // 3] = _colour(random)
    levels: Picture = np.floor(field + 0.5).astype(np.uint8)
    return levels


def _shapes(random: np.random.Generator) -> Picture:
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), _colour(random))
    draw = ImageDraw.Draw(image)
    for _ in range(24):
        x, y = random.integers(0, 2 * SIDE, 2)
        w, h = random.integers(24, SIDE, 2)
        box = (int(x - w // 2), int(y - h // 2), int(x + w // 2), int(y + h // 2))
        kind = random.integers(3)
        if kind == 0:
            draw.rectangle(box, fill=_colour(random))
        elif kind == 1:
            draw.ellipse(box, fill=_colour(random), outline=_colour(random), width=6)
        else:
            corners = [(int(x + dx), int(y + dy)) for dx, dy in random.integers(-300, 300, (3, 2))]
            draw.polygon(corners, fill=_colour(random))
    return _halved(image)


def _writing(random: np.random.Generator) -> Picture:
    paper = int(random.integers(200, 256)) if random.random() < 0.7 else int(random.integers(0, 60))
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    for _ in range(14):
        start, end = (tuple(int(v) for v in random.integers(0, 2 * SIDE, 2)) for _ in range(2))
        draw.line([start, end], fill=_colour(random), width=int(random.integers(2, 16)))
    top = 0
    while top < 2 * SIDE:
        size = int(random.integers(24, 110))
        letters = random.choice(list(_LETTERS + "     "), 3 * SIDE // size * 2)
        ink = 255 - paper if random.random() < 0.6 else None
        fill = _colour(random) if ink is None else (ink, ink, ink)
        font = ImageFont.load_default(size)
        draw.text((int(random.integers(-20, 60)), top), "".join(letters), fill=fill, font=font)
        top += int(size * 1.3)
    return _halved(image)


def _panels(random: np.random.Generator) -> Picture:
    """Boxes with thin frames on whole pixels and nothing smoothed, as on a screen."""
    image = Image.new("RGB", (SIDE, SIDE), _colour(random))
    draw = ImageDraw.Draw(image)
    for _ in range(60):
        x, y = (int(v) for v in random.integers(-20, SIDE, 2))
        w, h = (int(v) for v in random.integers(4, 160, 2))
        frame = _colour(random) if random.random() < 0.5 else None
        width = int(random.integers(1, 5))
        draw.rectangle((x, y, x + w, y + h), fill=_colour(random), outline=frame, width=width)
    return np.asarray(image, dtype=np.uint8)


def _halved(image: Image.Image) -> Picture:
    """Drawn at twice the size and averaged, which smooths the edges as a good renderer does."""
    return np.asarray(image.reduce(2), dtype=np.uint8)
