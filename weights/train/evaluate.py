"""How close a network comes to the original: PSNR of the luminance, beside bicubic enlargement.

Works on folders and on any module that maps float32 [1, 3, H, W] to four times the size. A folder
holds either `HR` and `LRx4` with files of the same names, or originals only, which are then reduced
by our bicubic. Values are those of the literature: MATLAB's `rgb2ycbcr` luminance, rounded 8-bit
outputs, `scale` pixels cut from each border, mean over pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from upscale.weights.train.bicubic import Picture, enlarge, reduce
from upscale.weights.train.data import picture_paths, read


@dataclass(frozen=True)
class Score:
    """One picture (or the mean of a set, named `mean`): PSNR in dB."""

    name: str
    bicubic: float
    network: float


def luminance(picture: Picture) -> NDArray[np.float64]:
    """uint8 [H, W, 3] to float64 [H, W] in 16..235, as MATLAB's rgb2ycbcr before rounding."""
    return 16 + picture.astype(np.float64) @ (np.array([65.481, 128.553, 24.966]) / 255)


def psnr(ours: Picture, truth: Picture, border: int = 4) -> float:
    """PSNR in dB of the luminance of two uint8 [H, W, 3], `border` pixels cut; 100 where equal."""
    cut = slice(border, -border or None)
    difference = luminance(ours)[cut, cut] - luminance(truth)[cut, cut]
    error = float(np.mean(difference**2))
    return 100.0 if error == 0 else 10 * float(np.log10(255**2 / error))


def enlarge_by(network: nn.Module, picture: Picture) -> Picture:
    """uint8 [H, W, 3] through the network to uint8 [4H, 4W, 3], on the network's device."""
    first = next(network.parameters())
    x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].to(first)
    with torch.inference_mode():
        y = network(x / 255)[0].float().clamp(0, 1) * 255
    made: Picture = y.add(0.5).floor().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    return made


def pairs(folder: Path, scale: int = 4) -> Iterator[tuple[str, Picture, Picture]]:
    """Name, small and large picture of each pair; sides are cut to multiples of `scale`."""
    paired = (folder / "HR").is_dir()
    for path in picture_paths(folder / "HR" if paired else folder):
        large = read(path)
        height, width = (side // scale for side in large.shape[:2])
        large = large[: height * scale, : width * scale]
        given = folder / f"LRx{scale}" / path.name
        yield path.stem, read(given) if paired and given.exists() else reduce(large, scale), large


def evaluate(network: nn.Module, folder: Path, scale: int = 4) -> list[Score]:
    """A score for each picture of `folder`, and their mean as the last."""
    scores = [
        Score(
            name,
            psnr(enlarge(small, scale), large, scale),
            psnr(enlarge_by(network, small), large, scale),
        )
        for name, small, large in pairs(folder, scale)
    ]
    columns = ([s.bicubic for s in scores], [s.network for s in scores])
    return [*scores, Score("mean", *(float(np.mean(column)) for column in columns))]


def table(scores: list[Score]) -> str:
    """Plain text, one line a picture."""
    lines = [f"{'picture':24} {'bicubic':>8} {'network':>8} {'gain':>6}"]
    for s in scores:
        gain = s.network - s.bicubic
        lines.append(f"{s.name:24} {s.bicubic:8.3f} {s.network:8.3f} {gain:+6.3f}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> list[Score]:
    """`python -m upscale.weights.train.evaluate CHECKPOINT FOLDER...`: print and return a table."""
    from spandrel import ModelLoader

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args(argv)
    network = ModelLoader(device="cpu").load_from_file(options.checkpoint).model.float().eval()
    everything: list[Score] = []
    for folder in options.folders:
        scores = evaluate(network, folder)
        sys.stdout.write(f"{folder.name}\n{table(scores)}\n\n")
        everything += scores
    return everything


if __name__ == "__main__":
    main()
