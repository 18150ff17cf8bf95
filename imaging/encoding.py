"""How a PNG without a profile codes its colours: gAMA and cHRM, and the way from them to sRGB.

Numbers only; libvips and files are no matter here.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


class Encoding(NamedTuple):
    """gAMA and cHRM in units of 1 / 100000: `primaries` are x and y of white, red, green and blue.

    None: as sRGB does.
    """

    gamma: int | None
    primaries: tuple[int, ...] | None


_SRGB_PRIMARIES = (31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)

_BRADFORD: Floats = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def is_srgb(encoding: Encoding) -> bool:
    """Whether gAMA and cHRM say nothing but sRGB, as far as anyone could see."""
    gamma, primaries = encoding
    plain = gamma is None or abs(gamma - 45455) < 1000
    return plain and (
        primaries is None
        or all(abs(a - b) < 200 for a, b in zip(primaries, _SRGB_PRIMARIES, strict=True))
    )


def fault_of(encoding: Encoding) -> str:
    """Why gAMA and cHRM cannot be used, as a phrase; empty where they can."""
    gamma, primaries = encoding
    if gamma is not None and not 10_000 <= gamma <= 1_000_000:
        return f"a gamma of {gamma / 1e5:g} is none"
    if primaries is not None:
        try:
            matrix_to_srgb(primaries)
        except ValueError:
            return "its primaries are no colours"
    return ""


def matrix_to_srgb(primaries: tuple[int, ...]) -> Floats:
    """The matrix [3, 3] from linear light of `primaries` to that of sRGB.

    Raises ValueError if they span no colours.
    """
    theirs, white = _to_xyz(primaries)
    ours, d65 = _to_xyz(_SRGB_PRIMARIES)
    gain = np.diag((_BRADFORD @ d65) / (_BRADFORD @ white))
    found = np.linalg.inv(ours) @ np.linalg.inv(_BRADFORD) @ gain @ _BRADFORD @ theirs
    if not np.isfinite(found).all() or np.abs(found).max() > 100:
        raise ValueError("the primaries span no colours")
    return np.asarray(found)


def _to_xyz(primaries: tuple[int, ...]) -> tuple[Floats, Floats]:
    """The matrix from linear RGB to XYZ, and the white. Raises ValueError for no colours."""
    points = np.array(primaries, dtype=np.float64).reshape(4, 2) / 1e5  # white, red, green, blue
    if (points[:, 1] <= 0).any():
        raise ValueError("the primaries are no colours")
    xyz = np.stack([points[:, 0], points[:, 1], 1 - points.sum(axis=1)]) / points[:, 1]  # [3, 4]
    white, columns = xyz[:, 0], xyz[:, 1:]
    try:
        found: Floats = columns * np.linalg.solve(columns, white)
    except np.linalg.LinAlgError as fault:
        raise ValueError("the primaries span no colours") from fault
    return found, white
