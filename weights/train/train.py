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
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from upscale.weights.train.data import Crops, listing, picture_paths, read
from upscale.weights.train.evaluate import evaluate
from upscale.weights.train.export import export
from upscale.weights.train.network import Compact, fresh, parameters_of
from upscale.weights.train.recipe import Recipe

LOG_EVERY = 100


class Run:
    """A network in training, with all that a checkpoint holds."""

    def __init__(self, recipe: Recipe, crops: Crops, start: Path | None = None) -> None:
        self.recipe, self.crops = recipe, crops
        network = fresh(recipe.features, recipe.convs, recipe.seed)
        if start is not None:
            network.load_state_dict(load_file(start))  # RuntimeError where the sizes differ
        self.network = network.to(recipe.device).to(memory_format=torch.channels_last)
        self.averaged = {k: v.detach().clone() for k, v in self.network.state_dict().items()}
        self.optimiser = torch.optim.Adam(self.network.parameters(), recipe.rate, (0.9, 0.99))
        self.generator = torch.Generator().manual_seed(recipe.seed)
        self.step, self.seconds, self.best = 0, 0.0, -math.inf
        self.losses: list[float] = []  # since the last line of the curve

    @property
    def done(self) -> bool:
        return self.recipe.progress(self.step, self.seconds) >= 1

    def advance(self) -> None:
        """One step: L1 between the network's output and the original, no other term."""
        started = time.perf_counter()
        recipe = self.recipe
        small, large = self.crops.batch(recipe.batch, self.generator)
        small = small.to(recipe.device, memory_format=torch.channels_last)
        for group in self.optimiser.param_groups:
            group["lr"] = recipe.rate_at(self.step, self.seconds)
        kind = recipe.device.split(":")[0]
        with torch.autocast(kind, torch.bfloat16, enabled=recipe.bfloat16):
            made = self.network(small)
        loss = F.l1_loss(made.float(), large.to(recipe.device))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        # a shorter memory at the start, else the average would drag the first weights along
        keep = min(recipe.average, (1 + self.step) / (10 + self.step))
        for name, value in self.network.state_dict().items():
            self.averaged[name].lerp_(value, 1 - keep)
        self.losses.append(float(loss.detach()))
        self.step += 1
        self.seconds += time.perf_counter() - started

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
            "optimiser": self.optimiser.state_dict(),
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
        self.optimiser.load_state_dict(saved["optimiser"])
        self.generator.set_state(saved["generator"])
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.best, self.losses = saved["best"], saved["losses"]


def train(
    pictures: Path,
    out: Path,
    validation: Path | None = None,
    save_minutes: float = 10,
    *,
    recipe: Recipe,
    start: Path | None = None,
    stop: Callable[[int], bool] = lambda step: False,
) -> Run:
    """Train until the recipe's end, or until `stop`, asked after each step, says so.

    `start`: weights of the same sizes to start from; its hash is the recipe's `start`.
    """
    torch.set_num_threads(recipe.threads)
    torch.set_flush_denormal(True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "listing.json").write_text(json.dumps(asdict(listing(pictures)), indent=1))
    sources = [read(path) for path in picture_paths(pictures)]
    shares = (recipe.averaged_photographs, recipe.averaged_drawings)
    crops = Crops(sources, recipe.side, drawn=recipe.drawn, averaged=shares, seed=recipe.seed)
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
        score = evaluate(run.averaged_network(), validation)[-1].network
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
    for name in ("rate", "last_rate", "average", "averaged_photographs", "averaged_drawings"):
        option = "--" + name.replace("_", "-")
        parser.add_argument(option, type=float, default=getattr(plain, name))
    parser.add_argument("--device", default=plain.device)
    parser.add_argument("--bfloat16", action="store_true", help="only with units for it")
    given = vars(parser.parse_args(argv))
    places = [given.pop(k) for k in ("pictures", "out", "validation", "save_minutes")]
    start: Path | None = given.pop("start")
    digest = None if start is None else hashlib.sha256(start.read_bytes()).hexdigest()
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda caught, _: signals.append(caught))
    train(*places, recipe=Recipe(**given, start=digest), start=start, stop=lambda _: bool(signals))


if __name__ == "__main__":
    main()
