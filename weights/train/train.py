"""Train a x4 network on a folder of pictures: `python -m upscale.weights.train PICTURES --out DIR`.

Everything a run leaves lies in `--out`: `checkpoint.pt` (to go on from), `curve.jsonl` (loss and
validation over the steps), `listing.json` (what it was made from) and `best.safetensors` (averaged
weights, 16 bits, best on the validation pictures, or the latest where none are given). Starting
again with the same arguments goes on where the run stopped; with `--steps` the result then equals
that of an unbroken run, bit for bit on the same machine. With `--minutes` the learning rate follows
the clock, so that a run ends well on a busy machine, and repeats only in kind.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from upscale.weights.train.data import (
    Crops,
    digest_of,
    font_paths,
    lesson,
    listing,
    picture_paths,
    read,
)
from upscale.weights.train.evaluate import evaluate
from upscale.weights.train.export import export
from upscale.weights.train.muon import Muon
from upscale.weights.train.network import Compact, fresh, grown, parameters_of
from upscale.weights.train.recipe import Recipe

LOG_EVERY = 100
PIECE = 2
"""Crops that a thread takes at once: 8 pieces of 2 took 1.01 s where 2 of 8 took 1.36 (48/16)."""
ADAM = (0.9, 0.99)


class Run:
    """A network in training, with all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, crops: Crops, start: Path | None = None) -> None:
        self.recipe, self.crops = recipe, crops
        network = fresh(recipe.features, recipe.convs, recipe.seed)
        if start is not None:
            network = grown(load_file(start), recipe.features, recipe.convs, recipe.seed)
        self.network = network.to(recipe.device).to(memory_format=torch.channels_last)
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimisers = optimisers(self.network, recipe)
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.losses: list[float] = []  # since the last line of the curve
        self.threads = ThreadPoolExecutor(recipe.threads, initializer=_one_thread)

    @property
    def done(self) -> bool:
        return self.recipe.progress(self.step, self.seconds) >= 1

    def advance(self) -> None:
        """One step: L1 between the network's output and the target, no other term."""
        started = time.perf_counter()
        recipe = self.recipe
        small, large = self.crops.batch(recipe.batch, self.generator)
        loss = self._gradients(small, large)
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = recipe.rate_at(self.step, self.seconds)
            optimiser.step()
        # a shorter memory at the start, else the average would drag the first weights along
        keep = min(recipe.average, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            self.averaged[name].lerp_(value, 1 - keep)
        self.losses.append(loss)
        self.step += 1
        self.seconds += time.perf_counter() - started

    def _gradients(self, small: Tensor, large: Tensor) -> float:
        """Set the parameters' gradients for a batch; the loss.

        On a processor the batch is worked on in pieces by threads of their own: activations stay in
        the caches, and nobody waits for the other thread after each operation. Sums are in order.
        """
        on_cpu = self.recipe.device == "cpu"
        size = PIECE if on_cpu else len(small)
        pieces = list(zip(torch.split(small, size), torch.split(large, size), strict=True))
        parameters = list(self.network.parameters())

        def work(piece: tuple[Tensor, Tensor]) -> tuple[float, tuple[Tensor, ...]]:
            device = self.recipe.device
            x = piece[0].to(device, memory_format=torch.channels_last)
            with torch.autocast(device.split(":")[0], torch.bfloat16, self.recipe.bfloat16):
                made = self.network(x)
            share = len(piece[0]) / len(small)
            loss = F.l1_loss(made.float(), piece[1].to(device)) * share
            return float(loss.detach()), torch.autograd.grad(loss, parameters)

        done = list((self.threads.map if on_cpu else map)(work, pieces))
        for i, parameter in enumerate(parameters):
            parameter.grad = done[0][1][i]
            for _, others in done[1:]:
                parameter.grad += others[i]
        return sum(loss for loss, _ in done)

    def averaged_network(self) -> nn.Module:
        """The network with averaged weights, float32, for measuring."""
        network = Compact(self.recipe.features, self.recipe.convs)
        network.load_state_dict(self.averaged)
        return network.to(self.recipe.device).eval()

    def state(self) -> dict[str, Any]:
        return {
            "recipe": asdict(self.recipe),
            "network": self.network.state_dict(),
            "averaged": self.averaged,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "generator": self.generator.get_state(),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "losses": self.losses,
        }

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on from a checkpoint; ValueError if it was made by another recipe."""
        if saved["recipe"] != asdict(self.recipe):
            raise ValueError("the checkpoint in this folder was made with other arguments")
        self.network.load_state_dict(saved["network"])
        averaged: dict[str, Tensor] = saved["averaged"]
        self.averaged = {k: v.to(self.recipe.device) for k, v in averaged.items()}
        for optimiser, state in zip(self.optimisers, saved["optimisers"], strict=True):
            optimiser.load_state_dict(state)
        self.generator.set_state(saved["generator"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.best, self.losses = saved["best"], saved["losses"]


def optimisers(network: nn.Module, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Adam for all, or Muon for the convolutions of the body and Adam for what is left."""
    everything = list(network.parameters())
    if recipe.optimiser == "adam":
        return [torch.optim.Adam(everything, recipe.rate, ADAM)]
    body = [p for p in everything if p.dim() == 4][1:-1]
    others = [p for p in everything if all(p is not b for b in body)]
    return [Muon(body, recipe.rate), torch.optim.Adam(others, recipe.rate, ADAM)]


def lessons_of(taught: Path) -> dict[str, Any]:
    """Who the teacher was, how many pictures it enlarged, and the digest of these."""
    found = listing(taught)
    teacher = json.loads((taught / "teacher.json").read_text())
    return {"teacher": teacher, "pictures": len(found.files), "digest": found.digest}


def _one_thread() -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)


def train(
    pictures: Path,
    out: Path,
    validation: Path | None = None,
    save_minutes: float = 10,
    *,
    recipe: Recipe,
    start: Path | None = None,
    taught: Path | None = None,
    fonts: Path | None = None,
    stop: Callable[[int], bool] = lambda step: False,
) -> Run:
    """Train until the recipe's end, or until `stop`, asked after each step, says so.

    `start`: weights to start from, of as many features and convolutions or fewer; its hash is the
    recipe's `start`. `taught`: a folder that `teach.py` has written, for all of the pictures or
    some of them. `fonts`: files for the drawings; their digest is the recipe's `fonts`.
    """
    # a second thread inside an operation waits at its end, for long where others use the cores
    torch.set_num_threads(1 if recipe.device == "cpu" else recipe.threads)
    torch.set_flush_denormal(True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "listing.json").write_text(json.dumps(asdict(listing(pictures)), indent=1))
    paths = picture_paths(pictures)
    if taught is not None:
        (out / "lessons.json").write_text(json.dumps(lessons_of(taught), indent=1))
    lessons = [] if taught is None else [lesson(taught, p.relative_to(pictures)) for p in paths]
    crops = Crops(
        [read(path) for path in paths],
        recipe.side,
        drawn=recipe.drawn,
        averaged=(recipe.averaged_photographs, recipe.averaged_drawings),
        seed=recipe.seed,
        taught=lessons,
        share=recipe.taught,
        grey=recipe.grey,
        fonts=() if fonts is None else font_paths(fonts),
    )
    run = Run(recipe, crops, start)
    if start is not None and start.with_suffix(".json").exists():
        (out / "start.json").write_bytes(start.with_suffix(".json").read_bytes())
    checkpoint, curve = out / "checkpoint.pt", out / "curve.jsonl"
    if checkpoint.exists():
        run.restore(torch.load(checkpoint, map_location=recipe.device, weights_only=True))
    _cut_curve(curve, run.step)
    size = parameters_of(run.network)
    _say(f"{size} parameters, {len(crops.sources)} sources, from step {run.step}")
    saved_at, saved_step = time.monotonic(), run.step
    while not run.done and not stop(run.step):
        run.advance()
        if run.step % LOG_EVERY == 0:
            _log(curve, run)
        if time.monotonic() - saved_at > 60 * save_minutes:
            _save(run, out, validation)
            saved_at, saved_step = time.monotonic(), run.step
    if run.step > saved_step:
        _save(run, out, validation)
    return run


def _log(curve: Path, run: Run) -> None:
    line = {
        "step": run.step,
        "seconds": round(run.seconds, 1),
        "loss": round(sum(run.losses) / len(run.losses), 6),
        "rate": run.recipe.rate_at(run.step, run.seconds),
    }
    run.losses = []
    _append(curve, line)


def _save(run: Run, out: Path, validation: Path | None) -> None:
    """Measure, keep the best, then the checkpoint: a kill in between costs a repeat, not a run."""
    score = float(run.step)
    if validation is not None:
        score = evaluate(run.averaged_network(), validation)[-1].network["psnr"]
        _append(out / "curve.jsonl", {"step": run.step, "validation": round(score, 4)})
    if score > run.best:
        export(run.averaged, out / "best.safetensors")
        run.best = score
    waiting = out / "checkpoint.pt.part"
    torch.save(run.state(), waiting)
    os.replace(waiting, out / "checkpoint.pt")


def _append(curve: Path, line: dict[str, float]) -> None:
    with curve.open("a") as file:
        file.write(json.dumps(line) + "\n")
    _say(json.dumps(line))


def _cut_curve(curve: Path, step: int) -> None:
    """Drop what an interrupted run wrote after its checkpoint; it is computed again."""
    if curve.exists():
        lines = curve.read_text().splitlines(keepends=True)
        curve.write_text("".join(line for line in lines if json.loads(line)["step"] <= step))


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main(argv: list[str] | None = None) -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(prog="upscale.weights.train", description=__doc__)
    parser.add_argument("pictures", type=Path, help="folder of sharp pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run")
    parser.add_argument("--validation", type=Path, help="pictures that choose the best weights")
    parser.add_argument("--save-minutes", type=float, default=10)
    parser.add_argument("--start", type=Path, help=".safetensors to start from, for fine-tuning")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--minutes", type=float, help="of training, measuring not counted")
    plain = Recipe(steps=1)
    for name in ("seed", "features", "convs", "batch", "side", "drawn", "threads"):
        parser.add_argument(f"--{name}", type=int, default=getattr(plain, name))
    parser.add_argument("--optimiser", choices=("adam", "muon"), default=plain.optimiser)
    parser.add_argument("--teacher", type=Path, help="folder that upscale.weights.train.teach made")
    parser.add_argument("--fonts", type=Path, help="folder of fonts, for pages of text")
    shares = ("taught", "grey", "averaged_photographs", "averaged_drawings")
    for name in ("rate", "last_rate", "average", *shares):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=float, default=getattr(plain, name))
    parser.add_argument("--device", default=plain.device)
    parser.add_argument("--bfloat16", action="store_true", help="only with units for it")
    given = vars(parser.parse_args(argv))
    places = [given.pop(k) for k in ("pictures", "out", "validation", "save_minutes")]
    start: Path | None = given.pop("start")
    digest = None if start is None else hashlib.sha256(start.read_bytes()).hexdigest()
    taught: Path | None = given.pop("teacher")
    fonts: Path | None = given.pop("fonts")
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, _: signals.append(caught))
    train(
        *places,
        recipe=Recipe(
            **given,
            start=digest,
            fonts=None if fonts is None else digest_of(font_paths(fonts), fonts).digest,
        ),
        start=start,
        taught=taught,
        fonts=fonts,
        stop=lambda _: bool(signals),
    )


if __name__ == "__main__":
    main()
