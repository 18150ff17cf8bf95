"""Drawn pictures for training: flat fields, smooth ramps, shapes, lines and text.

Photographs hold little of this, and a network that never saw it leaves grain on flat areas and
ripples along the edges of drawings. Everything follows from the seed and the fonts that are given.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from upscale.weights.train.bicubic import Picture

SIDE = 512
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789.,:;!?%&()+-=/"
_COMMON = "eeeeetttaaaooiinnnsshhrrddllucmwfgypbvk"


def drawings(count: int, seed: int, fonts: tuple[Path, ...] = ()) -> list[Picture]:
    """`count` pictures uint8 [512, 512, 3]: in turn a ramp, shapes, lines with text, panels.

    With `fonts` (files of TrueType or OpenType) also pages of text, and plans drawn with a pen.
    """
    random = np.random.default_rng(seed)
    makers: list[Callable[[np.random.Generator], Picture]] = [_ramp, _shapes, _writing, _panels]
    if fonts:
        makers += [partial(_page, fonts=fonts), partial(_plan, fonts=fonts)]
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


def _page(random: np.random.Generator, fonts: tuple[Path, ...]) -> Picture:
    """Lines of words in sizes as they are read, dark on light or the reverse, with rules."""
    light, dark = int(random.integers(225, 256)), int(random.integers(0, 50))
    paper, ink = (light, dark) if random.random() < 0.75 else (dark, light)
    image = Image.new("RGB", (SIDE, SIDE), (paper, paper, paper))
    draw = ImageDraw.Draw(image)
    top = int(random.integers(0, 12))
    while top < SIDE:
        size = int(random.choice([11, 13, 14, 16, 18, 20, 24, 30, 40]))
        font = ImageFont.truetype(fonts[int(random.integers(len(fonts)))], size)
        colour = (ink, ink, ink) if random.random() < 0.7 else _colour(random)
        for _ in range(int(random.integers(1, 6))):
            words = " ".join(_word(random) for _ in range(2 * SIDE // (3 * size) + 2))
            draw.text((int(random.integers(-20, 24)), top), words, fill=colour, font=font)
            top += int(size * 1.35)
        if random.random() < 0.4:
            draw.line((0, top, SIDE, top), fill=colour, width=int(random.integers(1, 4)))
            top += 6
    return np.asarray(image, dtype=np.uint8)


def _word(random: np.random.Generator) -> str:
    if random.random() < 0.15:
        return str(int(random.integers(10 ** int(random.integers(1, 6)))))
    letters = random.choice(list(_COMMON), int(random.integers(1, 10)))
    word = "".join(letters)
    word = word.capitalize() if random.random() < 0.2 else word
    return word + str(random.choice(["", "", "", "", ",", ".", ":", ";"]))


def _plan(random: np.random.Generator, fonts: tuple[Path, ...]) -> Picture:
    """Areas, thin curves, hatching and names, as on a map or a technical drawing."""
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), _colour(random))
    draw = ImageDraw.Draw(image)
    for _ in range(6):
        corners = random.integers(-100, 2 * SIDE + 100, (7, 2))
        draw.polygon([(int(x), int(y)) for x, y in corners], fill=_colour(random))
    for _ in range(3):  # hatching
        x, y = (int(v) for v in random.integers(0, 3 * SIDE // 2, 2))
        gap, width = int(random.integers(6, 20)), int(random.integers(2, 5))
        lean, colour = int(random.integers(-60, 60)), _colour(random)
        for i in range(0, 360, gap):
            draw.line((x + i, y, x + i + lean, y + 300), fill=colour, width=width)
    for _ in range(16):
        walk = random.normal(0, 60, (12, 2)).cumsum(axis=0) + random.integers(0, 2 * SIDE, 2)
        path = [(float(px), float(py)) for px, py in walk]
        draw.line(path, fill=_colour(random), width=int(random.integers(2, 9)), joint="curve")
    for _ in range(24):
        font = ImageFont.truetype(
            fonts[int(random.integers(len(fonts)))], int(random.integers(22, 60))
        )
        x, y = (int(v) for v in random.integers(-40, 2 * SIDE, 2))
        draw.text((x, y), _word(random), fill=_colour(random), font=font)
    return _halved(image)


def _halved(image: Image.Image) -> Picture:
    """Drawn at twice the size and averaged, which smooths the edges as a good renderer does."""
    return np.asarray(image.reduce(2), dtype=np.uint8)
