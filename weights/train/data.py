"""Sharp pictures in memory, and batches of pairs cut from them.

Works on a folder of pictures and a `torch.Generator`; knows nothing of networks. A pair's small
side is made on the fly at any offset of the pixel grid: mostly by the customary bicubic reduction,
which leaves dark and light seams along edges, for some by plain averaging, which leaves none. A
network that knows the first alone undoes seams that are not there. At the shares of the bundled
network's recipe this helps little: the card's overshoot is still far above bicubic's.
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
    `drawn` drawings are added. Crops fall evenly over the area of all, in eight orientations;
    `averaged` is the share that is reduced by averaging, of photographs and of drawings.
    """

    def __init__(
        self,
        pictures: list[Picture],
        side: int,
        scale: int = 4,
        drawn: int = 0,
        averaged: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
    ) -> None:
        self.side, self.scale = side, scale
        self.margin = 4 * scale  # the kernel reaches 2 small pixels; 4 keeps phase and spare
        self.window = side * scale + 2 * self.margin
        sources = [piece for picture in pictures for piece in sharpest_pieces(picture)]
        sources += [_half(picture) for picture in sources]
        self.averaged = [averaged[0]] * len(sources) + [averaged[1]] * drawn
        sources += drawings(drawn, seed)
        edge = ((self.margin, self.margin), (self.margin, self.margin), (0, 0))
        self.sources = [np.pad(p, edge, mode="symmetric") for p in sources]
        areas = [
            float(p.shape[0] * p.shape[1]) if min(p.shape[:2]) >= self.window else 0.0
            for p in self.sources
        ]
        if not any(areas):
            raise ValueError(f"no picture is as large as a crop of {side * scale} pixels")
        self.reach = torch.tensor(areas, dtype=torch.float64).cumsum(0)
        cubic = resize_matrix(self.window, self.window // scale)
        box = np.kron(np.eye(self.window // scale), np.full((1, scale), 1 / scale))
        both = np.stack([cubic, box])[:, 4 : 4 + side]
        self.reductions = torch.from_numpy(both).float()  # [2, side, window]

    def batch(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """float32 [count, 3, side, side] and [count, 3, side * scale, side * scale], 0..1.

        Both hold whole 8-bit levels. The same generator state gives the same batch.
        """
        draws = torch.rand(count, 5, generator=generator, dtype=torch.float64)
        chosen = torch.searchsorted(self.reach, draws[:, 0] * self.reach[-1], right=True)
        windows, kinds = [], []
        for index, (_, y, x, turn, kind) in zip(chosen.tolist(), draws.tolist(), strict=True):
            source = self.sources[index]
            kinds.append(int(kind < self.averaged[index]))
            top = int(y * (source.shape[0] - self.window + 1))
            left = int(x * (source.shape[1] - self.window + 1))
            window = source[top : top + self.window, left : left + self.window]
            window = np.rot90(window, int(turn * 4))
            windows.append(window[:, ::-1] if int(turn * 8) % 2 else window)
        stacked = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)
        levels = stacked.float().contiguous()  # [count, 3, window, window], 0..255
        reduction = self.reductions[kinds][:, None]  # [count, 1, side, window]
        rows = (reduction @ levels).add_(0.5).floor_().clamp_(0, 255)
        small = (rows @ reduction.mT).add_(0.5).floor_().clamp_(0, 255)
        m, size = self.margin, self.side * self.scale
        return small / 255, levels[:, :, m : m + size, m : m + size] / 255


def _half(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    return reduce(picture[: height // 2 * 2, : width // 2 * 2], 2)
