"""Everything that is to be known of a checkpoint before it may serve: its Contract, and its sanity.

Runs the network on small pictures, on the CPU, in fp32: seconds for small networks, up to a minute
or so for the deepest. Called once for each file, when it is imported or first used.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from upscale.errors import CheckpointError
from upscale.models.contract import Contract
from upscale.models.cost import measure_cost
from upscale.models.loading import Loaded
from upscale.models.measure import GLOBAL_GRID, Reach, measure_reach
from upscale.models.runner import Runner, is_seedable
from upscale.models.testcard import draw_card

# Overlaps of the seam self-test, in input pixels: the first that keeps the seam within a level is
# recorded, the last where none does. Deep local networks usually pass at once.
_OVERLAPS = (32, 64, 96)

# A largest difference at the seam, in 8-bit levels, that nobody sees.
_SEAM_LEVELS = 1.0

# Up to this context two tiles with all of it are run against the whole, as a proof of the context.
_PROVABLE_CONTEXT = 64

# A grey level of an exact seam: what fp32 rounding may differ by, with room.
_EXACT_LEVELS = 0.5

# Networks whose purpose is to change brightness; a grey picture tells nothing of them.
_RELIGHTING = {"RetinexFormer", "HVICIDNet", "MixDehazeNet"}


def inspect(loaded: Loaded, *, name: str, sanity: bool = True) -> Contract:
    """The Contract of a loaded network; `name` stands in error messages.

    With `sanity`, a flat grey picture must come out about as grey: files whose weights are scaled
    wrongly, or whose options were guessed wrongly, fail there with a clear error.
    """
    descriptor = loaded.descriptor
    channels = int(descriptor.input_channels), int(descriptor.output_channels)
    if channels not in ((1, 1), (3, 3), (4, 4)):
        raise CheckpointError(
            f"{name} turns {channels[0]} channels into {channels[1]}; only networks from grey to "
            "grey or from colour to colour can be used."
        )
    sizes = descriptor.size_requirements
    minimum, multiple = max(1, int(sizes.minimum)), max(1, int(sizes.multiple_of))
    runner = Runner(loaded)
    try:
        if sanity and loaded.descriptor.architecture.id not in _RELIGHTING:
            _check_grey(runner, name, max(minimum, 32))
        macs, peak = measure_cost(runner, side=math.lcm(multiple, 32))
        reach = measure_reach(runner, size_minimum=minimum, size_multiple=multiple)
    except (RuntimeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{name} loads but does not run: {str(error)[:200]}") from error
    contract = Contract(
        architecture=loaded.architecture,
        scale=loaded.scale,
        channels_in=channels[0],
        channels_out=channels[1],
        context=reach.context,
        grid=math.lcm(reach.grid, multiple),
        size_multiple=multiple,
        size_minimum=minimum,
        parameters=loaded.parameters,
        macs_per_pixel=macs,
        bytes_per_pixel=peak,
        purpose=_purpose(loaded),
        seedable=is_seedable(loaded),
    )
    return _with_seams(runner, contract, reach)


def seam_error(
    runner: Runner, contract: Contract, overlap: int, *, feather: int = 0, core: int = 48
) -> float:
    """Largest difference, in 8-bit levels, between two tiles joined at a seam and the whole.

    The tiles share `overlap` input pixels on each side of the seam and cross-fade over `feather`
    pixels of them, as the engine joins them. Both axes are tried; the larger counts.
    """
    return max(
        _seam_error(runner, contract, overlap, feather, core, turned) for turned in (False, True)
    )


def _seam_error(
    runner: Runner, contract: Contract, overlap: int, feather: int, core: int, turned: bool
) -> float:
    grid = contract.grid
    reach = _up(overlap, grid)
    half = _up(max(core, contract.size_minimum), grid)
    width = 2 * half + 2 * reach
    height = _up(max(32, contract.size_minimum), grid)
    seam = _up(width // 2, grid)
    card = draw_card(height, width, contract.channels_in)

    def run(x: Tensor) -> Tensor:
        return runner(x.mT).mT if turned else runner(x)

    whole = run(card)
    left, right = run(card[..., : seam + reach]), run(card[..., seam - reach :])
    scale = contract.scale
    at = (torch.arange(width * scale) + 0.5) / scale
    share = (
        ((at - (seam - feather)) / (2 * feather)).clamp(0, 1) if feather else (at > seam).float()
    )
    tiled = torch.zeros_like(whole)
    tiled[..., : left.shape[-1]] += left * (1 - share[: left.shape[-1]])
    tiled[..., -right.shape[-1] :] += right * share[-right.shape[-1] :]
    return float((tiled - whole).abs().max()) * 255


def _with_seams(runner: Runner, contract: Contract, reach: Reach) -> Contract:
    if reach.context is not None and reach.context <= _PROVABLE_CONTEXT:
        if seam_error(runner, contract, reach.context) <= _EXACT_LEVELS:
            return contract
        # Something in it depends on position or on the tile's size in a way that marks do not
        # show: treat it as global, with the error known.
        contract = replace(contract, context=None, grid=math.lcm(contract.grid, GLOBAL_GRID))
    for overlap in _OVERLAPS:
        error = seam_error(runner, contract, overlap, feather=overlap // 2)
        contract = replace(contract, seam_error=round(error, 3), seam_overlap=overlap)
        if error <= _SEAM_LEVELS:
            break
    return contract


def _check_grey(runner: Runner, name: str, side: int) -> None:
    for grey in (0.25, 0.5, 0.75):
        y = runner(torch.full((1, runner.channels, side, side), grey))
        if not bool(torch.isfinite(y).all()):
            raise CheckpointError(f"{name} turns a flat grey picture into not-a-number.")
        inner = y[..., y.shape[-2] // 4 : -y.shape[-2] // 4, y.shape[-1] // 4 : -y.shape[-1] // 4]
        off = float((inner - grey).abs().mean())
        if off > 0.12:
            raise CheckpointError(
                f"{name} turns a flat grey of {grey * 255:.0f} into something {off * 255:.0f} "
                "levels away: its weights are scaled in a way that is not understood. "
                "Use --no-sanity to register it all the same."
            )


def _purpose(loaded: Loaded) -> Literal["super-resolution", "restoration"]:
    return "restoration" if loaded.descriptor.purpose == "Restoration" else "super-resolution"


def _up(value: int, grid: int) -> int:
    return -(-value // grid) * grid
