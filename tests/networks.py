"""Random networks for tests, with weights scaled so that what they do is large enough to see.

Each is brought through spandrel's detection from a state dict, as a file of weights would be.
"""

from __future__ import annotations

from typing import Any

import torch
from spandrel import ImageModelDescriptor, ModelLoader
from spandrel.architectures.Compact import Compact
from spandrel.architectures.DnCNN import DnCNN
from spandrel.architectures.ESRGAN import ESRGAN
from spandrel.architectures.SPAN import SPAN
from spandrel.architectures.SwinIR import SwinIR
from torch import Tensor, nn

from upscale.models.fuse import fuse
from upscale.models.loading import Loaded
from upscale.models.runner import Runner
from upscale.models.testcard import draw_card

# Standard deviation, in 0..1, of what a network adds to its input: 60 levels of 8 bits.
STRENGTH = 60 / 255


def compact(scale: int = 2, convs: int = 4, features: int = 16) -> Loaded:
    return _strong(
        Compact(num_feat=features, num_conv=convs, upscale=scale), last=f"body.{2 * convs + 2}"
    )


def span(scale: int = 2, channels: int = 16) -> Loaded:
    model = SPAN(num_in_ch=3, num_out_ch=3, feature_channels=channels, upscale=scale, norm=False)
    return _strong(model, last="upsampler.0", gain=1.6)


def dncnn(channels: int = 3, layers: int = 9) -> Loaded:
    model = DnCNN(in_nc=channels, out_nc=channels, nc=16, nb=layers, act_mode="R")
    return _strong(model, last=f"model.{2 * layers - 2}")


def swinir(scale: int = 2) -> Loaded:
    model = SwinIR(
        img_size=16,
        embed_dim=24,
        depths=[2, 2],
        num_heads=[2, 2],
        window_size=8,
        mlp_ratio=2,
        upscale=scale,
        img_range=1.0,
        upsampler="pixelshuffledirect",
        resi_connection="1conv",
    )
    return _strong(model, last="upsample.0", attention=4.0)


def rrdb(blocks: int = 3, features: int = 8, unshuffle: int | None = None) -> Loaded:
    scale = 4 // (unshuffle or 1)
    model = ESRGAN(
        in_nc=3 * (unshuffle or 1) ** 2,
        num_filters=features,
        num_blocks=blocks,
        scale=scale,
        shuffle_factor=unshuffle,
    )
    return _strong(model, last="model.7" if unshuffle else "model.10")


def loaded(model: nn.Module) -> Loaded:
    """A module with spandrel's own structure, as its file would load."""
    state = {key: value.clone() for key, value in model.state_dict().items()}
    descriptor = ModelLoader(device="cpu").load_from_state_dict(state)
    assert isinstance(descriptor, ImageModelDescriptor)
    return Loaded(fuse(descriptor), sum(p.numel() for p in model.parameters()))


def custom(model: nn.Module, *, scale: int, channels: int = 3) -> Loaded:
    """A module of an architecture that nobody knows, under a borrowed descriptor."""
    borrowed = loaded(Compact(num_feat=4, num_conv=1, upscale=2)).descriptor.architecture
    descriptor: ImageModelDescriptor[Any] = ImageModelDescriptor(
        model.eval(),
        model.state_dict(),
        architecture=borrowed,
        purpose="Restoration" if scale == 1 else "SR",
        tags=[],
        supports_half=False,
        supports_bfloat16=True,
        scale=scale,
        input_channels=channels,
        output_channels=channels,
    )
    return Loaded(descriptor, sum(p.numel() for p in model.parameters()))


def untiled(network: Loaded, x: Tensor) -> Tensor:
    """The whole picture in one go, fp32."""
    return Runner(network)(x)


def _strong(model: nn.Module, *, last: str, gain: float = 1.0, attention: float = 1.0) -> Loaded:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d):
                fan_in = module.weight[0].numel()
                noise = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(noise * gain * (2.0 / fan_in) ** 0.5)
                if module.bias is not None:
                    module.bias.zero_()
            if isinstance(module, nn.Linear) and "qkv" in name:
                module.weight.mul_(attention * 4)
        model.eval()
        x = draw_card(48, 48, 3 if _takes_colour(model) else 1)
        head = model.get_submodule(last)
        head.weight.mul_(STRENGTH / float(_added(model, x).std()))
    return loaded(model)


def _added(model: nn.Module, x: Tensor) -> Tensor:
    """What the network adds to its enlarged input, before any clamp."""
    y: Tensor = model(x)
    scale = y.shape[-1] // x.shape[-1]
    return y - nn.functional.interpolate(x, scale_factor=scale, mode="nearest")


def _takes_colour(model: nn.Module) -> bool:
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    return first.in_channels != 1
