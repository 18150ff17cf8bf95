"""Measures of pictures: against what they are defined to be, and by their order."""

from __future__ import annotations

import numpy as np
import pytest

from upscale.weights.train.bicubic import Picture, enlarge, reduce
from upscale.weights.train.measures import C2, gmsd, luminance, ms_ssim, psnr, ssim


def picture(height: int = 96, width: int = 80) -> Picture:
    """Coarse noise, enlarged: it has edges and areas."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    return enlarge(coarse, 8)


def test_luminance_is_matlabs() -> None:
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]]], dtype=np.uint8)
    np.testing.assert_allclose(luminance(colours), [[16, 235, 81.481, 40.966]])


def test_psnr_of_a_known_error_leaves_the_border_out() -> None:
    truth = np.full((16, 16, 3), 100, dtype=np.uint8)
    ours = truth + np.uint8(1)
    ours[:4] = 255
    assert psnr(ours, truth, border=4) == pytest.approx(20 * np.log10(255 / (219 / 255)))
    assert psnr(truth, truth) == 100
    assert psnr(ours, truth, border=0) < 20


def test_a_picture_is_like_itself() -> None:
    truth = picture()
    assert ssim(truth, truth) == pytest.approx(1)
    assert ms_ssim(truth, truth) == pytest.approx(1)
    assert gmsd(truth, truth) == 0


def test_ssim_is_the_mean_over_windows() -> None:
    truth = picture(24, 24)
    ours = enlarge(reduce(truth))
    taps = np.exp(-((np.arange(11) - 5) ** 2) / 4.5)
    window = np.outer(taps, taps) / taps.sum() ** 2
    values = []
    a, b = luminance(ours)[4:-4, 4:-4], luminance(truth)[4:-4, 4:-4]
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
            m, n = (window * p).sum(), (window * q).sum()
            v, w = (window * (p - m) ** 2).sum(), (window * (q - n) ** 2).sum()
            c = (window * (p - m) * (q - n)).sum()
            light = (2 * m * n + 6.5025) / (m * m + n * n + 6.5025)
            values.append(light * (2 * c + C2) / (v + w + C2))
    assert ssim(ours, truth) == pytest.approx(np.mean(values))


def test_a_blurred_picture_is_worse_by_every_measure() -> None:
    truth = picture(192, 192)
    near, far = enlarge(reduce(truth, 2), 2), enlarge(reduce(truth, 8), 8)
    for better in (psnr, ssim, ms_ssim):
        assert better(near, truth) > better(far, truth)
    assert gmsd(near, truth) < gmsd(far, truth)


def test_ms_ssim_of_a_small_picture_uses_the_sizes_that_fit() -> None:
    truth = picture(24, 24)
    ours = enlarge(reduce(truth))
    assert ms_ssim(ours, truth) == pytest.approx(ssim(ours, truth))
