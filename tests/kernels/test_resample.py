"""The row resampler against torch's and Pillow's antialiased bicubic."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from upscale.kernels.resample import RowResampler

sides = st.integers(1, 40)
# torch's own answer is wrong for some pictures one pixel wide.
wider = st.integers(2, 40)


def _rows(picture: torch.Tensor, target: tuple[int, int], step: int) -> torch.Tensor:
    """The whole picture, resampled `step` rows at a time."""
    resampler = RowResampler((picture.shape[1], picture.shape[2]), target)
    parts = []
    for start in range(0, target[0], step):
        stop = min(target[0], start + step)
        first, last = resampler.needs(start, stop)
        parts.append(resampler.rows(picture[:, first:last], start, stop))
    return torch.cat(parts, dim=1)


@settings(max_examples=60, deadline=None)
@given(wider, wider, wider, wider, st.integers(1, 12))
def test_by_rows_equals_torch_on_the_whole(h: int, w: int, oh: int, ow: int, step: int) -> None:
    picture = torch.rand((3, h, w), generator=torch.Generator().manual_seed(h * 41 + w))
    whole = torch.nn.functional.interpolate(
        picture[None], (oh, ow), mode="bicubic", antialias=True
    )[0]
    assert torch.allclose(_rows(picture, (oh, ow), step), whole, atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(sides, sides, sides, sides, st.integers(1, 12))
def test_both_axes_are_treated_alike(h: int, w: int, oh: int, ow: int, step: int) -> None:
    picture = torch.rand((2, h, w), generator=torch.Generator().manual_seed(h * 41 + w))
    turned = _rows(picture.mT.contiguous(), (ow, oh), step).mT
    assert torch.allclose(_rows(picture, (oh, ow), step), turned, atol=2e-5)


@settings(max_examples=60, deadline=None)
@given(sides, st.integers(1, 80), st.integers(0, 45))
def test_rows_called_complete_need_only_what_is_available(
    height: int, target: int, available: int
) -> None:
    available = min(available, height)
    resampler = RowResampler((height, 5), (target, 5))
    ready = resampler.complete(available)
    assert 0 <= ready <= target
    if ready:
        assert resampler.needs(0, ready)[1] <= available or available >= height
    if ready < target:
        assert resampler.needs(ready, ready + 1)[1] > available


@pytest.mark.parametrize("size", [(20, 30), (64, 90), (100, 41)])
def test_agrees_with_pillow(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    grey = rng.random((50, 60), dtype=np.float32)
    pillow = np.asarray(Image.fromarray(grey).resize(size[::-1], Image.Resampling.BICUBIC))
    ours = _rows(torch.from_numpy(grey)[None], size, 7)[0].numpy()
    assert np.abs(ours - pillow).max() < 2e-3


def test_a_constant_stays_constant() -> None:
    out = _rows(torch.full((1, 17, 23), 0.37), (40, 9), 6)
    assert torch.allclose(out, torch.full_like(out, 0.37), atol=1e-6)


def test_a_window_of_the_wrong_height_is_refused() -> None:
    with pytest.raises(ValueError, match="needed"):
        RowResampler((10, 10), (20, 20)).rows(torch.zeros((1, 3, 10)), 0, 20)
