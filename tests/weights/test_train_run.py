"""A run of training: goes on exactly where it stopped, and leaves a file that others can load."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from spandrel import ModelLoader

from upscale.weights.train.export import export, verify
from upscale.weights.train.network import Compact, fresh, parameters_of
from upscale.weights.train.recipe import Recipe
from upscale.weights.train.train import LOG_EVERY, main, train

TINY = Recipe(steps=6, features=4, convs=1, batch=2, side=8, drawn=0, threads=1)


@pytest.fixture(autouse=True)
def settings_of_the_process() -> Iterator[None]:
    """The program sets threads, denormals and signals for its process; here it is not its own."""
    threads = torch.get_num_threads()
    handlers = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)}
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name in ("one.png", "two.png"):
        coarse = random.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC).save(folder / name)
    return folder


def test_resumed_run_equals_an_unbroken_one_exactly(pictures: Path, tmp_path: Path) -> None:
    whole = train(pictures, tmp_path / "whole", recipe=TINY).state()
    train(pictures, tmp_path / "broken", recipe=TINY, stop=lambda step: step == 4)
    resumed = train(pictures, tmp_path / "broken", recipe=TINY).state()
    assert resumed["step"] == whole["step"] == 6
    assert resumed["losses"] == whole["losses"]
    for part in ("network", "averaged"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), name
    files = [tmp_path / folder / "best.safetensors" for folder in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_other_arguments_in_the_same_folder_are_refused(pictures: Path, tmp_path: Path) -> None:
    train(pictures, tmp_path / "run", recipe=TINY, stop=lambda step: step == 1)
    other = Recipe(steps=7, features=4, convs=1, batch=2, side=8, drawn=0, threads=1)
    with pytest.raises(ValueError, match="other arguments"):
        train(pictures, tmp_path / "run", recipe=other)


def test_curve_is_written_falls_and_is_cut_when_resumed(pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    arguments = f"{pictures} --out {out} --steps {2 * LOG_EVERY} --features 4 --convs 1 --batch 2"
    arguments += f" --side 8 --drawn 0 --threads 1 --validation {pictures}"
    main(arguments.split())
    lines = [json.loads(line) for line in (out / "curve.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert [line["step"] for line in lines] == [LOG_EVERY, 2 * LOG_EVERY, 2 * LOG_EVERY]
    assert losses[1] < losses[0]
    assert "validation" in lines[-1]
    with (out / "curve.jsonl").open("a") as file:
        file.write(json.dumps({"step": 3 * LOG_EVERY, "loss": 1.0}) + "\n")
    main(arguments.split())
    steps = [json.loads(x)["step"] for x in (out / "curve.jsonl").read_text().splitlines()]
    assert max(steps) == 2 * LOG_EVERY


def test_rate_rises_then_falls_to_the_last_rate() -> None:
    recipe = Recipe(steps=1000)
    rates = [recipe.rate_at(step, 0) for step in range(1001)]
    assert rates[0] < rates[100] < rates[200]
    assert all(a > b for a, b in pairwise(rates[200:]))
    assert rates[1000] == pytest.approx(recipe.last_rate)


def test_minutes_follow_the_clock_and_steps_do_not() -> None:
    assert Recipe(minutes=2).progress(step=10**6, seconds=60) == 0.5
    assert Recipe(steps=100).progress(step=25, seconds=10**6) == 0.25
    with pytest.raises(ValueError, match="either steps or minutes"):
        Recipe()


def test_exported_file_is_detected_and_computes_the_same(tmp_path: Path) -> None:
    network = fresh(features=8, convs=2, seed=1)
    path = tmp_path / "new.safetensors"
    size = export(network.state_dict(), path)
    assert size == path.stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["new.safetensors"]
    found = ModelLoader(device="cpu").load_from_file(path)
    assert (found.architecture.id, found.scale) == ("Compact", 4)
    assert parameters_of(found.model) == parameters_of(network)
    rounded = Compact(8, 2)
    rounded.load_state_dict({k: v.half().float() for k, v in network.state_dict().items()})
    x = torch.rand(1, 3, 9, 7)
    with torch.inference_mode():
        torch.testing.assert_close(found.model.float()(x), rounded(x))


def test_export_refuses_what_is_not_the_wanted_network(tmp_path: Path) -> None:
    twice = fresh(features=8, convs=1, seed=1, scale=2)
    path = tmp_path / "new.safetensors"
    with pytest.raises(ValueError, match="wanted Compact x4"):
        export(twice.state_dict(), path)
    assert not list(tmp_path.iterdir())
    broken = {k: v * float("nan") for k, v in twice.state_dict().items()}
    with pytest.raises(ValueError, match="not finite"):
        export(broken, path)


def test_verify_accepts_the_right_factor_alone(tmp_path: Path) -> None:
    path = tmp_path / "new.safetensors"
    export(fresh(features=8, convs=1, seed=1).state_dict(), path)
    verify(path)
    with pytest.raises(ValueError, match="wanted Compact x2"):
        verify(path, scale=2)
