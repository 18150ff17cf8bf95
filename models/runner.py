"""A Loaded network on one device in one precision, as a function from tensor to tensor.

Knows how to cast, pad and call; knows nothing of tiles. Safe to call from several threads at once.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack
from typing import Any, Literal

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from upscale.models.contract import Precision
from upscale.models.loading import Loaded

Method = Literal["cast", "autocast"]

DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}


class Runner:
    """Call it with float32 [N, C, H, W] in 0..1 on its device; it answers float32 [N, C, H*s, W*s].

    `method` says how a narrow precision is reached: weights cast to it, or autocast around fp32
    weights for networks whose own fp32 tables would clash. `seed` fixes the style vector of
    generative networks; the others ignore it. Sides that the network does not take are padded by
    reflection on the right and bottom and cropped again.
    """

    def __init__(
        self,
        loaded: Loaded,
        device: torch.device | str = "cpu",
        precision: Precision = "fp32",
        method: Method = "cast",
        seed: int = 0,
    ) -> None:
        self.device = torch.device(device)
        self.precision = precision
        self.scale = loaded.scale
        self.channels = int(loaded.descriptor.input_channels)
        self._autocast = precision != "fp32" and method == "autocast"
        self._dtype = torch.float32 if self._autocast else DTYPES[precision]
        self._descriptor = _on(loaded.descriptor, self.device, self._dtype)
        self._wide_input = bool(getattr(self._descriptor.model, "takes_fp32", False))
        if is_seedable(loaded):
            _fix_style(self._descriptor, seed, self.device)

    @torch.inference_mode()
    def __call__(self, x: Tensor) -> Tensor:
        """See the class. Raises whatever torch raises when memory runs out."""
        if not self._wide_input:
            x = x.to(self._dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        with ExitStack() as stack:
            if self._autocast:
                stack.enter_context(torch.autocast(self.device.type, dtype=DTYPES[self.precision]))
            y: Tensor = self._descriptor(x)
        return y.float()


def is_seedable(loaded: Loaded) -> bool:
    """Whether the network draws a style vector of its own (AuraSR does)."""
    return hasattr(loaded.descriptor.model, "style_network")


def _on(descriptor: Any, device: torch.device, dtype: torch.dtype) -> Any:
    """A descriptor of its own around a copy of the module: precisions do not share weights."""
    clone = copy.copy(descriptor)
    model = copy.deepcopy(descriptor.model)
    clone._model = model.to(device=device, dtype=dtype).eval()
    for parameter in model.parameters():
        # Module.to would try the layout on weights of five dimensions too, and fail.
        if parameter.dim() == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return clone


def _fix_style(descriptor: Any, seed: int, device: torch.device) -> None:
    """One style vector for every tile of a request, and no noise on the input.

    spandrel's AuraSR draws both anew in each call, so that neighbouring tiles differ in style.
    """
    generator = torch.Generator().manual_seed(seed)
    width = int(descriptor.model.style_network.dim_in)
    noise = torch.randn((1, width), generator=generator).to(device)

    def call(model: Any, image: Tensor) -> Tensor:
        with _QuietNoise():
            styled: Tensor = model(image, noise=noise.expand(image.shape[0], -1))
        return styled

    descriptor._call_fn = call


class _QuietNoise(TorchFunctionMode):
    """Answers `torch.randn_like` with zeros; active in the calling thread only."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.randn_like:
            return torch.zeros_like(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))
