"""The network that is trained: a plain stack of 3x3 convolutions that works at the small size.

The layout is SRVGGNetCompact (Wang et al., Real-ESRGAN, 2021), and the parameter names are those by
which spandrel detects it, so that what is exported loads anywhere. Knows nothing of data or files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

NOISE = 0.01
"""Of the size of the signal, added by a convolution that is put in: else all its taps stay one."""


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
            slopes = isinstance(layer, nn.PReLU) and torch.is_grad_enabled()
            out = Slopes.apply(out, layer.weight) if slopes else layer(out)
        base = F.interpolate(x, scale_factor=self.scale, mode="nearest")
        return F.pixel_shuffle(out, self.scale) + base


class Slopes(torch.autograd.Function):
    """PReLU over [N, C, H, W] for training: the same values, and a sixth of the time going back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return F.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        (grad,) = grads
        x, slope = ctx.saved_tensors
        above = torch.ops.aten.threshold_backward(grad, x, 0)  # grad where x > 0; [N, C, H, W]
        below = grad - above
        of_x = torch.addcmul(above, below, slope[:, None, None])
        return of_x, below.mul_(x).sum((0, 2, 3))


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


def grown(state: Mapping[str, Tensor], features: int, convs: int, seed: int) -> Compact:
    """A deeper or wider network that computes what the one of `state` does, and learns on from it.

    Convolutions that pass their input on, with a little noise, and slopes of 1 are put between the
    given ones, spread evenly. Channels that are added begin as fresh ones, and nobody listens to
    them yet. ValueError where `state` has more features or more convolutions.
    """
    weights = [v for k, v in state.items() if k.endswith(".weight") and v.dim() == 4]
    given, width = len(weights) - 2, weights[0].shape[0]
    if width > features or given > convs:
        raise ValueError(f"cannot grow {width}/{given} into {features}/{convs}")
    network = fresh(features, convs, seed)
    generator = torch.Generator().manual_seed(seed)
    kept = {(i + 1) * convs // given - 1 for i in range(given)} if given else set()
    wanted = {0: 0, convs + 1: given + 1}  # which convolution of the new is which of the given
    wanted |= {new + 1: old + 1 for old, new in enumerate(sorted(kept))}
    full = dict(network.state_dict())
    for index in range(convs + 2):
        new, old = 2 * index, 2 * wanted.get(index, 0)
        names = [(f"body.{new}.{n}", f"body.{old}.{n}") for n in ("weight", "bias")]
        if index <= convs:
            names.append((f"body.{new + 1}.weight", f"body.{old + 1}.weight"))
        if index in wanted:
            for a, b in names:
                _put(full[a], state[b].float())
        else:
            noise = torch.randn(full[names[0][0]].shape, generator=generator)
            full[names[0][0]] = nn.init.dirac_(torch.empty_like(noise))
            full[names[0][0]] += noise * NOISE / (9 * features) ** 0.5
            full[names[1][0]] = torch.zeros(features)
            full[names[2][0]] = torch.ones(features)
    network.load_state_dict(full)
    return network


def _put(new: Tensor, old: Tensor) -> None:
    """Write `old` over the first channels of `new`; its outputs do not hear the added inputs."""
    out = len(old)
    if old.dim() == 4:
        new[:out, old.shape[1] :] = 0
        new[:out, : old.shape[1]] = old
    else:
        new[:out] = old


def parameters_of(network: nn.Module) -> int:
    """How many numbers the network holds."""
    return sum(p.numel() for p in network.parameters())


def macs_of(network: nn.Module) -> int:
    """Multiplications per input pixel of a network whose convolutions all work at its size."""
    return sum(p.numel() for p in network.parameters() if p.dim() == 4)
