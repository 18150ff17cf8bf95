"""How close a network comes to the original, beside bicubic enlargement.

Works on folders and on any module that maps float32 [1, 3, H, W] to four times the size. A folder
holds either `HR` and `LRx4` with files of the same names, or originals only, which are then reduced
by our bicubic. Values are those of the literature: rounded 8-bit outputs, luminance, `scale` pixels
cut from each border, mean over pictures. With `--command` the pictures go through `upscale image`
as its users' do, files in and files out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from upscale.weights.train.bicubic import Picture, enlarge, reduce
from upscale.weights.train.data import picture_paths, read
from upscale.weights.train.measures import MEASURES

Figures = dict[str, float]
"""By the names of MEASURES."""


@dataclass(frozen=True)
class Score:
    """One picture, or the mean of a set, named `mean`."""

    name: str
    bicubic: Figures
    network: Figures


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


def evaluate(
    network: nn.Module, folder: Path, scale: int = 4, measures: Sequence[str] = ("psnr",)
) -> list[Score]:
    """A score for each picture of `folder`, and their mean as the last."""
    made = ((name, enlarge_by(network, small), small, t) for name, small, t in pairs(folder, scale))
    return _scores(made, scale, measures)


def evaluate_command(
    command: Sequence[str], folder: Path, scale: int = 4, measures: Sequence[str] = ("psnr",)
) -> list[Score]:
    """The same for a command that takes a folder, `--out` and another, as `upscale image` does.

    CalledProcessError where it fails.
    """
    with tempfile.TemporaryDirectory() as place:
        small, large = Path(place, "small"), Path(place, "large")
        small.mkdir()
        for name, picture, _ in pairs(folder, scale):
            Image.fromarray(picture).save(small / f"{name}.png")
        subprocess.run([*command, str(small), "--out", str(large)], check=True, capture_output=True)
        made = (
            (name, read(large / f"{name}-{scale}x.png"), picture, truth)
            for name, picture, truth in pairs(folder, scale)
        )
        return _scores(made, scale, measures)


def _scores(
    made: Iterator[tuple[str, Picture, Picture, Picture]], scale: int, measures: Sequence[str]
) -> list[Score]:
    """From names, results, small pictures and originals."""
    scores = [
        Score(
            name,
            {m: MEASURES[m](enlarge(small, scale), truth, scale) for m in measures},
            {m: MEASURES[m](result, truth, scale) for m in measures},
        )
        for name, result, small, truth in made
    ]

    def mean(figures: Callable[[Score], Figures]) -> Figures:
        return {m: float(np.mean([figures(s)[m] for s in scores])) for m in measures}

    return [*scores, Score("mean", mean(lambda s: s.bicubic), mean(lambda s: s.network))]


def table(scores: list[Score]) -> str:
    """Plain text, one line a picture: bicubic's figure, the network's, and the gain."""
    measures = list(scores[0].network)
    heads = "".join(f" | {m:>8} {'network':>8} {'gain':>7}" for m in measures)
    lines = [f"{'picture':24}{heads}"]
    for s in scores:
        cells = "".join(
            f" | {s.bicubic[m]:8.4f} {s.network[m]:8.4f} {s.network[m] - s.bicubic[m]:+7.4f}"
            for m in measures
        )
        lines.append(f"{s.name:24}{cells}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> list[Score]:
    """`python -m upscale.weights.train.evaluate CHECKPOINT FOLDER...`: print and return a table."""
    from spandrel import ModelLoader

    parser = argparse.ArgumentParser(prog="upscale.weights.train.evaluate", description=__doc__)
    parser.add_argument("checkpoint", help="a file, or with --command the name of a model")
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--command", action="store_true", help="through `upscale image`")
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=["psnr", "ssim"])
    options = parser.parse_args(argv)
    upscale = [str(Path(sys.executable).with_name("upscale")), "image", "-s", "4"]
    everything: list[Score] = []
    for folder in options.folders:
        if options.command:
            command = [*upscale, "-m", options.checkpoint]
            scores = evaluate_command(command, folder, measures=options.measures)
        else:
            found = ModelLoader(device="cpu").load_from_file(options.checkpoint)
            scores = evaluate(found.model.float().eval(), folder, measures=options.measures)
        sys.stdout.write(f"{folder.name}\n{table(scores)}\n\n")
        everything += scores
    return everything


if __name__ == "__main__":
    main()
