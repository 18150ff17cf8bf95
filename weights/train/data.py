"""Sharp pictures in memory, and batches of pairs cut from them.

Works on a folder of pictures and a `torch.Generator`; knows nothing of networks. A pair's small
side is made on the fly at any offset of the pixel grid: mostly by the customary bicubic reduction,
which leaves dark and light seams along edges, for some by plain averaging, which leaves none. A
network that knows the first alone undoes seams that are not there. At the shares of the bundled
network's recipe this helps little: the card's overshoot is still far above bicubic's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
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
    """The pictures of `folder`, hashed."""
    return digest_of(picture_paths(folder), folder)


def font_paths(folder: Path) -> tuple[Path, ...]:
    """Font files under `folder`, sorted by name; ValueError where there is none."""
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".ttf", ".otf"))
    if not paths:
        raise ValueError(f"no fonts in {folder}")
    return tuple(paths)


def digest_of(paths: Iterable[Path], folder: Path) -> Listing:
    """Hash each file; the digest is over lines of `sha256  name`, in the order given."""
    files = tuple(
        (p.relative_to(folder).as_posix(), hashlib.sha256(p.read_bytes()).hexdigest())
        for p in paths
    )
    lines = "".join(f"{digest}  {name}\n" for name, digest in files)
    return Listing(files, hashlib.sha256(lines.encode()).hexdigest())


def read(path: Path) -> Picture:
    """A file as uint8 [H, W, 3], colours taken as they are."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def lesson(taught: Path, name: Path) -> Picture | None:
    """What the teacher made of the picture of this relative name, if it is there."""
    path = (taught / name).with_suffix(".png")
    return read(path) if path.exists() else None


def sharpest_pieces(picture: Picture) -> list[Picture]:
    """The picture itself if small, else its sharpest pieces of about 512 x 512.

    Pieces begin at multiples of 4; only the first three channels are judged.
    """
    height, width = picture.shape[:2]
    rows, columns = max(1, round(height / PIECE)), max(1, round(width / PIECE))
    tops = [height * r // rows // 4 * 4 for r in range(rows)] + [height]
    lefts = [width * c // columns // 4 * 4 for c in range(columns)] + [width]
    pieces = [
        picture[tops[r] : tops[r + 1], lefts[c] : lefts[c + 1]]
        for r in range(rows)
        for c in range(columns)
    ]
    return sorted(pieces, key=lambda p: sharpness(p[..., :3]), reverse=True)[:PIECES_OF_ONE]


def sharpness(picture: Picture) -> float:
    """Mean step between neighbours, in levels of grey."""
    grey = picture.astype(np.float32).mean(axis=2)
    return float(np.abs(np.diff(grey, axis=0)).mean() + np.abs(np.diff(grey, axis=1)).mean())


class Crops:
    """Random pairs from pictures in memory.

    Each picture is held with a copy of half its size (sharper, and other sizes of detail), and
    `drawn` drawings are added. Crops fall evenly over the area of all, in eight orientations;
    `averaged` is the share that is reduced by averaging, of photographs and of drawings.

    `taught` holds a teacher's enlargement of each picture's bicubic reduction, or None for some.
    Where such a picture is reduced by bicubic, the crop lies on the grid of that reduction, and
    `share` of what is to be learnt is the teacher's: the target is a blend of it and the original.

    `grey` is the share of crops that lose their colours: without them fine detail of grey pictures
    comes out tinted.
    """

    def __init__(
        self,
        pictures: list[Picture],
        side: int,
        scale: int = 4,
        drawn: int = 0,
        averaged: tuple[float, float] = (0.0, 0.0),
        seed: int = 0,
        *,
        taught: Sequence[Picture | None] = (),
        share: float = 0.0,
        grey: float = 0.0,
        fonts: tuple[Path, ...] = (),
    ) -> None:
        self.share = share if taught else 0.0
        self.grey = grey
        self.side, self.scale = side, scale
        self.margin = 4 * scale  # the kernel reaches 2 small pixels; 4 keeps phase and spare
        self.window = side * scale + 2 * self.margin
        if taught:
            pairs = zip(pictures, taught, strict=True)
            pictures = [a if b is None else _both(a, b) for a, b in pairs]
        sources = [piece for picture in pictures for piece in sharpest_pieces(picture)]
        sources += [_half(picture[..., :3]) for picture in sources]
        self.averaged = [averaged[0]] * len(sources) + [averaged[1]] * drawn
        sources += drawings(drawn, seed, fonts)
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

        The small ones hold whole 8-bit levels, and so do the large ones without a teacher. The same
        generator state gives the same batch.
        """
        draws = torch.rand(count, 6, generator=generator, dtype=torch.float64)
        chosen = torch.searchsorted(self.reach, draws[:, 0] * self.reach[-1], right=True)
        windows, targets, kinds = [], [], []
        for index, (_, y, x, turn, kind, grey) in zip(chosen.tolist(), draws.tolist(), strict=True):
            source = self.sources[index]
            kinds.append(int(kind < self.averaged[index]))
            top = int(y * (source.shape[0] - self.window + 1))
            left = int(x * (source.shape[1] - self.window + 1))
            is_taught = self.share > 0 and source.shape[2] == 6 and not kinds[-1]
            if is_taught:  # margin and pieces are whole multiples of the scale, too
                top, left = (v // self.scale * self.scale for v in (top, left))
            window = source[top : top + self.window, left : left + self.window]
            window = _greyed(window) if grey < self.grey else window
            window = np.rot90(window, int(turn * 4))
            window = window[:, ::-1] if int(turn * 8) % 2 else window
            windows.append(window[..., :3])
            targets.append(window[..., 3:] if is_taught else window[..., :3])
        stacked = torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)
        levels = stacked.float().contiguous()  # [count, 3, window, window], 0..255
        reduction = self.reductions[kinds][:, None]  # [count, 1, side, window]
        rows = (reduction @ levels).add_(0.5).floor_().clamp_(0, 255)
        small = (rows @ reduction.mT).add_(0.5).floor_().clamp_(0, 255)
        m, size = self.margin, self.side * self.scale
        large = levels[:, :, m : m + size, m : m + size]
        if self.share:
            lesson = torch.from_numpy(np.stack([t[m : m + size, m : m + size] for t in targets]))
            large = large.lerp(lesson.permute(0, 3, 1, 2).float(), self.share)
        return small / 255, large / 255


def _greyed(window: Picture) -> Picture:
    """The mean of each three channels in all of them, rounded half up: uint8 [H, W, C]."""
    thirds = window.reshape(*window.shape[:2], -1, 3).astype(np.uint16)  # [H, W, C / 3, 3]
    means = ((2 * thirds.sum(axis=3) + 3) // 6).astype(np.uint8)
    return np.repeat(means, 3, axis=2)


def _both(picture: Picture, taught: Picture) -> Picture:
    """uint8 [H, W, 6], cut to the teacher's size, which may lack the last rows and columns."""
    height, width = taught.shape[:2]
    if not (0 <= picture.shape[0] - height < 4 and 0 <= picture.shape[1] - width < 4):
        raise ValueError(f"the teacher's {taught.shape} does not belong to {picture.shape}")
    return np.concatenate([picture[:height, :width], taught], axis=2)


def _half(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    return reduce(picture[: height // 2 * 2, : width // 2 * 2], 2)
