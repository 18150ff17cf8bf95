"""Sharp pictures in memory, and batches of pairs cut from them.

Works on a folder of pictures and a `torch.Generator`; knows nothing of networks. A pair's small
side is made on the fly by the customary bicubic reduction, at any offset of the pixel grid.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from upscale.weights.train.bicubic import Picture, reduce, resize_matrix
from upscale.weights.train.drawings import drawings

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
PIECE = 512
PIECES_OF_ONE = 8
"""Larger pictures give their sharpest pieces only: blurred background teaches nothing."""


@dataclass(frozen=True)
class Listing:
    """The pictures a network was made from: name and sha256 of each file, and one digest of all."""

    files: tuple[tuple[str, str], ...]
    digest: str


def picture_paths(folder: Path) -> list[Path]:
    """Picture files under `folder`, sorted by name; ValueError where there is none."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not paths:
        raise ValueError(f"no pictures in {folder}; looked for {', '.join(SUFFIXES)}")
    return paths


def listing(folder: Path) -> Listing:
    """Hash each picture of `folder`; the digest is over lines of `sha256  name`, by name."""
    files = tuple(
        (p.relative_to(folder).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest())
        for p in picture_paths(folder)
    )
    lines = "".join(f"{digest}  {name}\n" for name, digest in files)
    return Listing(files, hashlib.sha256(lines.encode()).hexdigest())


def read(path: Path) -> Picture:
    """A file as uint8 [H, W, 3], colours taken as they are."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def sharpest_pieces(picture: Picture) -> list[Picture]:
    """The picture itself if small, else its sharpest pieces of about 512 x 512."""
    height, width = picture.shape[:2]
    rows, columns = max(1, round(height / PIECE)), max(1, round(width / PIECE))
    pieces = [
        picture[
            height * r // rows : height * (r + 1) // rows,
            width * c // columns : width * (c + 1) // columns,
        ]
        for r in range(rows)
        for c in range(columns)
    ]
    return sorted(pieces, key=_sharpness, reverse=True)[:PIECES_OF_ONE]


def _sharpness(picture: Picture) -> float:
    grey = picture.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


class Crops:
    """Random pairs from pictures in memory.

    Each picture is held with a copy of half its size (sharper, and other sizes of detail), and
    `drawn` drawings are added. Crops fall evenly over the area of all, in eight orientations.
    """

    def __init__(
        self, pictures: list[Picture], side: int, scale: int = 4, drawn: int = 0, seed: int = 0
    ) -> None:
        self.side, self.scale = side, scale
        self.margin = 4 * scale  # the kernel reaches 2 small pixels; 4 keeps phase and spare
        self.window = side * scale + 2 * self.margin
        sources = [piece for picture in pictures for piece in sharpest_pieces(picture)]
        sources += [_half(picture) for picture in sources]
        sources += drawings(drawn, seed)
        edge = ((self.margin, self.margin), (self.margin, self.margin), (0, 0))
        padded = [np.pad(p, edge, mode="symmetric") for p in sources]
        self.sources = [p for p in padded if min(p.shape[:2]) >= self.window]
        if not self.sources:
            raise ValueError(f"no picture is as large as a crop of {side * scale} pixels")
        areas = [float(p.shape[0] * p.shape[1]) for p in self.sources]
        self.reach = torch.tensor(areas, dtype=torch.float64).cumsum(0)
        small = resize_matrix(self.window, self.window // scale)
        inside = slice(4, 4 + side)
        self.reduction = torch.from_numpy(small[inside]).float()  # [side, window]

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """float32 [count, 3, side, side] and [count, 3, side * scale, side * scale], 0..1.

        Both hold whole 8-bit levels. The same generator state gives the same batch.
        """
        draws = torch.rand(count, 4, generator=generator, dtype=torch.float64)
        chosen = torch.searchsorted(self.reach, draws[:, 0] * self.reach[-1])
        windows = []
        for index, (_, y, x, turn) in zip(chosen.tolist(), draws.tolist(), strict=True):
            source = self.sources[min(index, len(self.sources) - 1)]
            top = int(y * (source.shape[0] - self.window + 1))
            left = int(x * (source.shape[1] - self.window + 1))
            window = source[top : top + self.window, left : left + self.window]
            window = np.rot90(window, int(turn * 4))
            windows.append(window[:, ::-1] if int(turn * 8) % 2 else window)
        stacked = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)
        levels = stacked.float().contiguous()  # [count, 3, window, window], 0..255
        rows = (self.reduction @ levels).add_(0.5).floor_().clamp_(0, 255)
        small = (rows @ self.reduction.T).add_(0.5).floor_().clamp_(0, 255)
        m, size = self.margin, self.side * self.scale
        return small / 255, levels[:, :, m : m + size, m : m + size] / 255


def _half(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    return reduce(picture[: height // 2 * 2, : width // 2 * 2], 2)
