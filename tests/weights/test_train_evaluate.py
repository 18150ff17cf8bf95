"""Figures: the measure itself, and that the shipped file has those its card claims."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from spandrel import ModelLoader
from torch import nn

from upscale.weights.train.bicubic import enlarge, reduce
from upscale.weights.train.card import card, thinned
from upscale.weights.train.checks import edge, flat_error, overshoot, tint
from upscale.weights.train.evaluate import enlarge_by, evaluate, evaluate_command, table
from upscale.weights.train.network import fresh

BUNDLED = Path(__file__).resolve().parents[2] / "weights" / "bundled"
FILE = BUNDLED / "bundled-x4.safetensors"
SET5 = Path(os.environ.get("UPSCALE_TEST_DATA", ""), "images", "set5")


@pytest.fixture(scope="module")
def shipped() -> nn.Module:
    network: nn.Module = ModelLoader(device="cpu").load_from_file(FILE).model
    return network.float().eval()


def test_folder_of_originals_equals_a_folder_of_pairs(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 3), dtype=np.uint8)
    for folder in ("alone", "paired/HR", "paired/LRx4"):
        (tmp_path / folder).mkdir(parents=True)
    Image.fromarray(picture).save(tmp_path / "alone" / "p.png")
    Image.fromarray(picture).save(tmp_path / "paired" / "HR" / "p.png")
    Image.fromarray(reduce(picture)).save(tmp_path / "paired" / "LRx4" / "p.png")
    network = fresh(features=4, convs=1, seed=0)
    scores = evaluate(network, tmp_path / "alone")
    assert scores == evaluate(network, tmp_path / "paired")
    assert [s.name for s in scores] == ["p", "mean"]
    assert table(scores).count("\n") == 2


def test_the_command_that_people_use_has_the_same_figures(tmp_path: Path) -> None:
    picture = enlarge(np.random.default_rng(0).integers(0, 256, (12, 10, 3), dtype=np.uint8))
    Image.fromarray(picture).save(tmp_path / "p.png")
    upscale = str(Path(sys.executable).with_name("upscale"))
    command = [upscale, "image", "-m", "bundled-x4", "--precision", "fp32"]
    network = ModelLoader(device="cpu").load_from_file(FILE).model.float().eval()
    measures = ("psnr", "ssim")
    ours = evaluate(network, tmp_path, measures=measures)[-1].network
    theirs = evaluate_command(command, tmp_path, measures=measures)[-1].network
    assert ours == pytest.approx(theirs, abs=2e-3)


def test_thinned_curve_keeps_the_end() -> None:
    points = [{"step": float(i)} for i in range(1001)]
    kept = thinned(points, 200)
    assert len(kept) == 200
    assert kept[-1] == points[-1]
    assert len({p["step"] for p in kept}) == 200
    assert thinned(points[:7], 200) == points[:7]


def test_shipped_file_is_the_one_its_records_and_card_describe() -> None:
    known = json.loads((BUNDLED / "bundled-x4.json").read_text())
    assert hashlib.sha256(FILE.read_bytes()).hexdigest() == known["sha256"]
    assert known["bytes"] == FILE.stat().st_size <= 1_500_000
    assert len(known["curve"]) <= 200
    about = (BUNDLED.parent / "train" / "pictures.md").read_text()
    assert (BUNDLED / "bundled-x4.md").read_text() == card(known, about)


def test_shipped_network_keeps_flat_fields_within_a_level(shipped: nn.Module) -> None:
    greys = [(v, v, v) for v in range(0, 256, 5)]
    worst, _ = flat_error(shipped, greys)
    assert worst <= 1


def test_shipped_network_does_not_ring_at_an_edge(shipped: nn.Module) -> None:
    known = json.loads((BUNDLED / "bundled-x4.json").read_text())
    small = edge(64, 192)
    assert overshoot(enlarge_by(shipped, small), small) <= known["checks"]["overshoot"] <= 20


def test_shipped_network_hardly_tints_what_has_no_colour(shipped: nn.Module) -> None:
    known = json.loads((BUNDLED / "bundled-x4.json").read_text())
    grey = np.repeat(
        enlarge(np.random.default_rng(0).integers(0, 256, (12, 12, 1), dtype=np.uint8)), 3, axis=2
    )
    largest, mean = tint(shipped, grey)
    assert largest <= known["checks"]["tint"]
    assert mean <= 1


@pytest.mark.skipif(
    not (os.environ.get("UPSCALE_TEST_DATA") and SET5.is_dir()),
    reason="UPSCALE_TEST_DATA names no folder with images/set5",
)
def test_shipped_network_has_the_figure_of_its_card_on_set5(shipped: nn.Module) -> None:
    known = json.loads((BUNDLED / "bundled-x4.json").read_text())["figures"]["Set5"]
    mean = evaluate(shipped, SET5, measures=("psnr", "ssim"))[-1]
    for measure in ("psnr", "ssim"):
        assert mean.network[measure] == pytest.approx(known["network"][measure], abs=0.002)
        assert mean.bicubic[measure] == pytest.approx(known["bicubic"][measure], abs=0.002)
