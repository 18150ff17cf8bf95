"""The picture that networks are measured on: drawn, seeded, the same on every machine."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor


def draw_card(height: int, width: int, channels: int, seed: int = 7) -> Tensor:
    """float32 [1, C, H, W] in 0..1: ramps, hard edges, a grating and noise with a 1/f spectrum."""
    # numpy's generator and transforms give the same numbers beside every torch.
    rng = np.random.default_rng(seed)
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    falloff = 1.0 / np.sqrt(fy**2 + fx**2 + 1e-4)
    white = rng.standard_normal((channels, height, width))
    noise = np.fft.irfft2(np.fft.rfft2(white) * falloff, s=(height, width))
    cloud = torch.from_numpy(noise)
    cloud = cloud / cloud.std().clamp_min(1e-6)
    y = torch.arange(height)[:, None] / max(1, height - 1)
    x = torch.arange(width)[None, :] / max(1, width - 1)
    ramp = 0.3 + 0.4 * (0.6 * x + 0.4 * y)
    stripes = 0.06 * torch.sign(torch.sin(2 * math.pi * (5 * x * width / 64 + 3 * y)))
    card = ramp + stripes + 0.14 * cloud
    result: Tensor = card.clamp(0, 1)[None].float()
    return result
