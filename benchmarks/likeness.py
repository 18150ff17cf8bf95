"""How alike two files are: peak signal to noise, in bands, so that large ones fit."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image

_ROWS = 512


def psnr(one: Path, other: Path) -> float | None:
    """In dB at 8 bits, over all pixels and channels; None where they are equal."""
    Image.MAX_IMAGE_PIXELS = None
    a, b = np.asarray(Image.open(one).convert("RGB")), np.asarray(Image.open(other).convert("RGB"))
    if a.shape != b.shape:
        raise ValueError(f"{one.name} is {a.shape}, {other.name} is {b.shape}")
    total = 0.0
    for top in range(0, len(a), _ROWS):
        off = a[top : top + _ROWS].astype(np.int32) - b[top : top + _ROWS]
        total += float(np.sum(off * off))
    return None if total == 0 else 10 * math.log10(255**2 * a.size / total)
