"""What a network costs for each input pixel: multiply-adds and live activation bytes.

Measured on the network itself, at two sizes, so that fixed costs fall out of the slope. Calls are
watched where Python makes them; torch's own flop counter sees a little more, at the price of
importing its compiler (80 MB in every worker).
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from upscale.models.runner import Runner


def measure_cost(runner: Runner, side: int = 32) -> tuple[int, int]:
    """(multiply-adds, peak bytes of live activations in the runner's precision) per input pixel.

    `side` is the smaller of the two squares run, in pixels; it should be a size that the network
    takes without padding.
    """
    small, large = _run(runner, side), _run(runner, 2 * side)
    pixels = 3 * side * side
    macs = max(1, (large[0] - small[0]) // pixels)
    peak = max(1, (large[1] - small[1]) // pixels)
    return macs, peak


def _run(runner: Runner, side: int) -> tuple[int, int]:
    x = torch.full((1, runner.channels, side, side), 0.5, device=runner.device)
    with _Meter() as meter:
        runner(x)
    return meter.macs, meter.peak


class _Meter(TorchFunctionMode):
    """Counts multiply-adds, and the bytes of the storages that calls create while they live."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0
        self.peak = 0
        self._live = 0
        self._seen: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self._follow(value)
        if isinstance(result, Tensor):
            self.macs += _multiply_adds(getattr(func, "__name__", ""), args, kwargs, result)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self._live += size
        self.peak = max(self.peak, self._live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._live -= size


def _multiply_adds(name: str, args: Any, kwargs: Any, out: Tensor) -> int:
    """Of one call: each output value is a sum of as many products as the operands share."""
    operands = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
    if name in ("conv1d", "conv2d", "conv3d"):
        return out.numel() * operands[1][0].numel()
    if name.startswith("conv_transpose"):
        return operands[0].numel() * operands[1][0].numel()
    if name in ("linear", "matmul", "__matmul__", "bmm", "mm"):
        return out.numel() * operands[0].shape[-1]
    if name in ("baddbmm", "addmm"):
        return out.numel() * operands[1].shape[-1]
    if name == "scaled_dot_product_attention":
        query, key = operands[0], operands[1]
        return 2 * query.numel() * key.shape[-2]
    return 0
