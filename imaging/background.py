"""Pictures put on a plain colour, for formats without transparency.

Works on rows of pixels, 8 or 16 bits; knows nothing of formats.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from upscale.errors import ServerFault
from upscale.imaging.picture import Pixels


def plain_colour(background: str, channels: int, depth: int) -> Pixels:
    """`#rrggbb` as uint8 or uint16 [c], to put under pixels of 2 or 4 `channels`.

    c is 1 where both the pixels and the colour are grey, else 3. Raises ServerFault if `background`
    is no such colour: requests are checked long before.
    """
    if not re.fullmatch("#[0-9a-fA-F]{6}", background):
        raise ServerFault(f"{background!r} is no colour of the form #rrggbb.")
    colour = np.frombuffer(bytes.fromhex(background[1:]), np.uint8)
    if channels == 2 and (colour == colour[0]).all():
        colour = colour[:1]
    return colour.astype(np.uint16) * 257 if depth == 16 else colour


def flattened(rows: Pixels, colour: Pixels) -> Pixels:
    """Rows [n, W, 2 or 4] over the `colour` [c], without alpha: [n, W, c], rounded to nearest."""
    top = int(np.iinfo(rows.dtype).max)
    # Holds top * top + top // 2.
    wide: np.dtype[np.unsignedinteger[Any]] = np.dtype("u2" if rows.dtype == np.uint8 else "u4")
    alpha = rows[..., -1:].astype(wide)
    mixed = rows[..., :-1].astype(wide) * alpha + colour.astype(wide) * (top - alpha)
    mixed += top // 2  # top is odd: there are no ties
    flat: Pixels = (mixed // top).astype(rows.dtype)
    return flat
