"""A run of training: goes on exactly where it stopped, and leaves a file that others can load."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFont
from spandrel import ModelLoader

from upscale.weights.train.export import export, verify
from upscale.weights.train.muon import orthogonal
from upscale.weights.train.network import Compact, Slopes, fresh, grown, parameters_of
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


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_resumed_run_equals_an_unbroken_one_for_200_steps(
    pictures: Path, tmp_path: Path, optimiser: str
) -> None:
    recipe = replace(TINY, steps=200, batch=3, threads=2, optimiser=optimiser, convs=2)
    whole = train(pictures, tmp_path / "whole", recipe=recipe).state()
    train(pictures, tmp_path / "broken", recipe=recipe, stop=lambda step: step == 117)
    resumed = train(pictures, tmp_path / "broken", recipe=recipe).state()
    assert resumed["step"] == whole["step"] == 200
    assert resumed["losses"] == whole["losses"]
    for part in ("network", "averaged"):
        for name, value in whole[part].items():
            assert torch.equal(value, resumed[part][name]), name
    curves = [
        list(map(json.loads, (tmp_path / d / "curve.jsonl").read_text().splitlines()))
        for d in ("whole", "broken")
    ]
    assert [line["loss"] for line in curves[0]] == [line["loss"] for line in curves[1]]
    files = [tmp_path / folder / "best.safetensors" for folder in ("whole", "broken")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_grown_network_computes_what_the_smaller_one_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = fresh(features=8, convs=3, seed=1)
    x = torch.rand(1, 3, 9, 7)
    monkeypatch.setattr("upscale.weights.train.network.NOISE", 0.0)
    for features, convs in ((8, 3), (8, 4), (8, 8), (11, 3), (11, 7)):
        large = grown(small.state_dict(), features, convs, seed=0)
        with torch.inference_mode():
            torch.testing.assert_close(large(x), small(x))
    with pytest.raises(ValueError, match="cannot grow 8/3 into 8/2"):
        grown(small.state_dict(), 8, 2, seed=0)
    with pytest.raises(ValueError, match="cannot grow 8/3 into 7/3"):
        grown(small.state_dict(), 7, 3, seed=0)


def test_training_starts_from_a_smaller_network_with_lessons_and_fonts(
    pictures: Path, tmp_path: Path
) -> None:
    export(fresh(features=4, convs=1, seed=0).state_dict(), tmp_path / "small.safetensors")
    (tmp_path / "taught").mkdir()
    Image.open(pictures / "one.png").save(tmp_path / "taught" / "one.png")
    (tmp_path / "taught" / "teacher.json").write_text('{"file": "t.pth", "sha256": "0"}')
    (tmp_path / "fonts").mkdir()
    font = ImageFont.load_default(10)
    assert isinstance(font, ImageFont.FreeTypeFont)
    (tmp_path / "fonts" / "own.ttf").write_bytes(font.font_bytes)
    words = f"{pictures} --out {tmp_path}/run --start {tmp_path}/small.safetensors --steps 3"
    words += f" --teacher {tmp_path}/taught --taught 0.5 --fonts {tmp_path}/fonts --drawn 6"
    words += " --features 4 --convs 3 --batch 2 --side 8 --threads 1 --optimiser muon"
    main(words.split())
    lessons = json.loads((tmp_path / "run" / "lessons.json").read_text())
    assert lessons["pictures"] == 1
    assert (tmp_path / "run" / "best.safetensors").exists()


def test_slopes_go_back_as_those_of_torch() -> None:
    x = torch.randn(2, 5, 4, 4, dtype=torch.double, requires_grad=True)
    slope = torch.rand(5, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(Slopes.apply, (x, slope))


def test_orthogonal_brings_singular_values_near_one() -> None:
    for shape in ((8, 72), (72, 8)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(*shape)))
        assert values.min() > 0.5
        assert values.max() < 1.3


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


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_bfloat16_trains_where_asked_for(pictures: Path, tmp_path: Path, device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    recipe = replace(TINY, steps=20, device=device, bfloat16=True, optimiser="muon")
    run = train(pictures, tmp_path / "run", recipe=recipe)
    assert run.step == 20
    assert all(value.dtype == torch.float32 for value in run.averaged.values())
    assert all(bool(torch.isfinite(value).all()) for value in run.averaged.values())
