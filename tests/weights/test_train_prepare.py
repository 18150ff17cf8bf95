"""From folders of any pictures to crops, and to what a teacher makes of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upscale.weights.train.bicubic import Picture, reduce
from upscale.weights.train.data import Crops, read
from upscale.weights.train.evaluate import enlarge_by
from upscale.weights.train.export import export
from upscale.weights.train.network import fresh
from upscale.weights.train.prepare import main as prepare_main
from upscale.weights.train.prepare import prepare, reduced
from upscale.weights.train.teach import main as teach_main


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(picture: Picture, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def test_small_pictures_are_copied_and_large_ones_give_their_sharpest_crops(tmp_path: Path) -> None:
    save(noise(40, 60), tmp_path / "a" / "small.png")
    large = np.full((1700, 2000, 3), 90, dtype=np.uint8)
    large[900:1600, 1100:1700] = noise(700, 600)
    save(large, tmp_path / "b" / "large.png")
    assert prepare([tmp_path / "a", tmp_path / "b"], tmp_path / "out", crops=1) == 2
    copied = (tmp_path / "out" / "a-small.png").read_bytes()
    assert copied == (tmp_path / "a" / "small.png").read_bytes()
    crop = read(tmp_path / "out" / "b-large-0.png")
    assert crop.shape == (800, 800, 3)
    np.testing.assert_array_equal(crop, large[850:1650, 1000:1800])


def test_very_large_pictures_are_reduced_by_a_whole_factor() -> None:
    assert reduced(Image.new("RGB", (3841, 2160))).shape == (1080, 1920, 3)
    assert reduced(Image.new("RGB", (6000, 4000))).shape == (1333, 2000, 3)
    assert reduced(Image.new("RGB", (2560, 1440))).shape == (1440, 2560, 3)


def test_commands_prepare_and_teach(tmp_path: Path) -> None:
    save(noise(41, 62), tmp_path / "given" / "one.png")
    prepare_main([str(tmp_path / "pictures"), str(tmp_path / "given")])
    network = fresh(features=4, convs=1, seed=0)
    export(network.state_dict(), tmp_path / "teacher.safetensors")
    arguments = [str(tmp_path / n) for n in ("teacher.safetensors", "pictures", "taught")]
    teach_main([*arguments, "--threads", "1"])
    made = read(tmp_path / "taught" / "given-one.png")
    half = fresh(features=4, convs=1, seed=0).half().float()
    wanted = enlarge_by(half, reduce(noise(41, 62)[:40, :60]))
    np.testing.assert_array_equal(made, wanted)
    who = json.loads((tmp_path / "taught" / "teacher.json").read_text())
    assert who["file"] == "teacher.safetensors"
    before = (tmp_path / "taught" / "given-one.png").stat().st_mtime_ns
    teach_main([*arguments, "--threads", "1"])
    assert (tmp_path / "taught" / "given-one.png").stat().st_mtime_ns == before


def test_a_lesson_lies_over_its_original_in_every_orientation() -> None:
    picture = np.repeat(np.repeat(noise(24, 32), 4, axis=0), 4, axis=1)  # [96, 128]
    # its copy of half the size is smaller than a crop with its margin, and has no lesson
    plain = Crops([picture], side=16)
    taught = Crops([picture], side=16, taught=[picture], share=0.5)
    shifted = Crops([picture], side=16, taught=[255 - picture], share=0.5)
    for seed in range(4):
        small, large = taught.batch(8, torch.Generator().manual_seed(seed))
        # a picture of blocks of 4 x 4 on the grid of the reduction: crops lie on it too
        blocks = large.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
        assert (blocks.amax(-1) - blocks.amin(-1)).max() < 1e-6
        same, grey = shifted.batch(8, torch.Generator().manual_seed(seed))
        assert torch.equal(same, small)
        torch.testing.assert_close(grey, torch.full_like(grey, 0.5))
    blocks = plain.batch(64, torch.Generator())[1].unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
    assert (blocks.amax(-1) - blocks.amin(-1)).max() > 0.1


def test_without_a_lesson_the_original_is_learnt() -> None:
    a, b = noise(96, 96, 1), noise(96, 96, 2)
    plain = Crops([a, b], side=8)
    some = Crops([a, b], side=8, taught=[None, None], share=0.5)
    for one, other in zip(
        plain.batch(4, torch.Generator()), some.batch(4, torch.Generator()), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_a_lesson_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="does not belong to"):
        Crops([noise(96, 96)], side=8, taught=[noise(96, 80)], share=0.5)
