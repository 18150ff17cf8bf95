"""Pairs for training: what is small must be the reduction of what is large."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upscale.weights.train.bicubic import Picture, reduce
from upscale.weights.train.data import Crops, listing, sharpest_pieces
from upscale.weights.train.drawings import drawings


def noise(height: int, width: int, seed: int = 0) -> Picture:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_small_side_is_the_reduction_of_the_large_side_inside() -> None:
    crops = Crops([noise(96, 128)], side=12)
    small, large = crops.batch(16, torch.Generator().manual_seed(3))
    assert small.shape == (16, 3, 12, 12)
    assert large.shape == (16, 3, 48, 48)
    for one, whole in zip(small, large, strict=True):
        picture = (whole * 255).round().byte().permute(1, 2, 0).numpy()
        wanted = reduce(picture)[3:-3, 3:-3].astype(int)
        got = (one * 255).round().int().permute(1, 2, 0).numpy()[3:-3, 3:-3]
        # float32 against float64: a value on the rounding border may fall to either side
        assert np.abs(got - wanted).max() <= 1
        assert (got != wanted).mean() < 0.02


def test_share_of_averaging_holds_for_photographs_and_drawings_apart() -> None:
    def errors(crops: Crops) -> torch.Tensor:
        small, large = crops.batch(16, torch.Generator().manual_seed(3))
        plain = torch.nn.functional.avg_pool2d(large, 4)
        return (small - plain).abs().amax(dim=(1, 2, 3)) * 255

    assert (errors(Crops([noise(96, 128)], side=12, averaged=(1, 0))) <= 1.001).all()
    assert (errors(Crops([noise(96, 128)], side=12, averaged=(0, 1))) > 1).all()
    assert (errors(Crops([], side=12, drawn=4, averaged=(0, 1))) <= 1.001).all()
    assert (errors(Crops([], side=12, drawn=4, averaged=(1, 0))) > 1).any()


def test_grey_crops_have_three_equal_channels_on_both_sides() -> None:
    small, large = Crops([noise(96, 96)], side=8, grey=1).batch(4, torch.Generator())
    assert (small == small[:, :1]).all()
    assert (large == large[:, :1]).all()
    small, large = Crops([noise(96, 96)], side=8, grey=0).batch(4, torch.Generator())
    assert not (large == large[:, :1]).all()


def test_same_seed_gives_the_same_batch_and_another_seed_does_not() -> None:
    crops = Crops([noise(96, 96)], side=8)
    first, again, other = (crops.batch(4, torch.Generator().manual_seed(s))[1] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_all_eight_orientations_occur() -> None:
    marked = np.zeros((64, 64, 3), dtype=np.uint8)
    marked[:32, :, 0] = 200
    marked[:, :32, 1] = 200
    crops = Crops([marked], side=8)
    _, large = crops.batch(256, torch.Generator().manual_seed(0))
    # which corner is red, which is green: four turns and four turns of the mirror image
    corners = large[:, :2, [0, 0, -1, -1], [0, -1, 0, -1]].mul(255).round().byte()
    seen = {tuple(c.flatten().tolist()) for c in corners if len(c.unique(dim=1).T) == 4}
    assert len(seen) == 8


def test_pictures_too_small_for_a_crop_are_named_as_the_reason() -> None:
    with pytest.raises(ValueError, match="as large as a crop of 160 pixels"):
        Crops([noise(40, 40)], side=40)


def test_large_picture_gives_its_sharpest_pieces() -> None:
    picture = np.full((1024, 2560, 3), 128, dtype=np.uint8)
    picture[512:1024, 1024:1536] = noise(512, 512)
    pieces = sharpest_pieces(picture)
    assert len(pieces) == 8
    np.testing.assert_array_equal(pieces[0], picture[512:1024, 1024:1536])


def test_listing_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    for folder in ("a", "b", "c"):
        (tmp_path / folder).mkdir()
        for name in ("two.png", "one.png"):
            Image.fromarray(noise(8, 8, seed=len(name) + (folder == "c"))).save(
                tmp_path / folder / name
            )
    a, b, c = (listing(tmp_path / folder) for folder in "abc")
    assert a == b
    assert a.digest != c.digest
    assert [name for name, _ in a.files] == ["one.png", "two.png"]


def test_folder_without_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pictures in"):
        listing(tmp_path)


def test_drawings_follow_from_the_seed() -> None:
    first, again, other = drawings(3, 5), drawings(3, 5), drawings(3, 6)
    for a, b, c in zip(first, again, other, strict=True):
        assert a.shape == (512, 512, 3)
        assert a.dtype == np.uint8
        np.testing.assert_array_equal(a, b)
        assert (a != c).any()
