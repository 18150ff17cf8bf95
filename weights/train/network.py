"""The network that is trained: a plain stack of 3x3 convolutions that works at the small size.

The layout is SRVGGNetCompact (Wang et al., Real-ESRGAN, 2021), and the parameter names are those by
which spandrel detects it, so that what is exported loads anywhere. Knows nothing of data or files.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Compact(nn.Module):
    """RGB float [N, 3, H, W] in 0..1 to [N, 3, H * scale, W * scale], not clamped.

    `convs` body convolutions of `features` channels, each with a PReLU; the last convolution gives
    scale * scale values a channel, which are laid out as pixels over the nearest-neighbour base.
    """

    def __init__(self, features: int = 48, convs: int = 10, scale: int = 4) -> None:
        super().__init__()
        self.scale = scale
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1), nn.PReLU(features)]
        for _ in range(convs):
            layers += [nn.Conv2d(features, features, 3, 1, 1), nn.PReLU(features)]
        layers.append(nn.Conv2d(features, 3 * scale * scale, 3, 1, 1))
        self.body = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        out = x
        for layer in self.body:
            out = layer(out)
        base = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(out, self.scale) + base


def fresh(features: int, convs: int, seed: int, scale: int = 4) -> Compact:
    """A new network in float32, the same for the same seed.

    The body starts with He's variance, which keeps the signal's size through a plain stack; the
    last convolution is made small, so that the first outputs are near the base.
    """
    network = Compact(features, convs, scale)
    generator = torch.Generator().manual_seed(seed)
    convolutions = [layer for layer in network.body if isinstance(layer, nn.Conv2d)]
    with torch.no_grad():
        for layer in convolutions:
            nn.init.kaiming_normal_(layer.weight, a=0.25, generator=generator)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        convolutions[-1].weight.mul_(0.1)
    return network


def parameters_of(network: nn.Module) -> int:
    """How many numbers the network holds."""
    return sum(p.numel() for p in network.parameters())
