"""What a network costs for each input pixel: multiply-adds and live activation bytes.

Measured on the network itself, at two sizes, so that fixed costs fall out of the slope.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.flop_counter import FlopCounterMode

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
    with FlopCounterMode(display=False) as flops, _PeakBytes() as memory:
        runner(x)
    return flops.get_total_flops() // 2, memory.peak


class _PeakBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows the storages that operators create and counts those alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_flatten(result)[0]:
            if isinstance(value, Tensor):
                self._follow(value)
        return result

    def _follow(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._seen:
            return
        size = storage.nbytes()
        self._seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._release, key, size)

    def _release(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size
