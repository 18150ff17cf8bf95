"""The promise: tiled equals untiled, and the same test fails when context or grid is wrong."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests import networks
from upscale.engine.assembly import quantise
from upscale.engine.executor import TileExecutor
from upscale.engine.tiling import TilePlan
from upscale.imaging.picture import Pixels
from upscale.models.contract import Contract
from upscale.models.inspection import inspect
from upscale.models.loading import Loaded
from upscale.models.runner import Runner
from upscale.models.testcard import draw_card

BUILDERS = {
    "compact": networks.compact,
    "span": networks.span,
    "dncnn": networks.dncnn,
    "swinir": networks.swinir,
    "small": partial(networks.compact, scale=3, convs=2, features=8),
}


class Odd(nn.Module):
    """An architecture of this test alone: dilated and strided parts, context 2*3 + 3 = 9, grid 2.

    One dilated 5x5 (reach 6), then pixel-unshuffle by 2, a 3x3 at half resolution and back.
    """

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.wide = nn.Conv2d(3, 8, 5, padding=6, dilation=3)
        self.coarse = nn.Conv2d(32, 12, 3, padding=1)
        with torch.no_grad():
            for conv in (self.wide, self.coarse):
                conv.weight.copy_(torch.randn(conv.weight.shape, generator=generator) * 0.15)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        padded = nn.functional.pad(x, (0, width % 2, 0, height % 2), mode="replicate")
        inner = nn.functional.pixel_unshuffle(torch.tanh(self.wide(padded)), 2)
        y = padded + nn.functional.pixel_shuffle(self.coarse(inner), 2)
        return y[..., :height, :width]


def plan_for(
    contract: Contract, x: Tensor, core: int, *, margin: int | None = None, grid: int | None = None
) -> TilePlan:
    context = contract.context
    assert context is not None
    grid = grid or contract.grid
    return TilePlan(
        mode="exact",
        width=x.shape[-1],
        height=x.shape[-2],
        core_width=-(-core // grid) * grid,
        core_height=-(-core // grid) * grid,
        margin=context if margin is None else margin,
        feather=0,
        grid=grid,
        batch=2,
        bytes=0,
        band_bytes=0,
    )


def as_pixels(x: Tensor) -> Pixels:
    return quantise(x[0].clone(), np.uint8)


def tiled(network: Loaded, source: Pixels, plan: TilePlan) -> Pixels:
    executor = TileExecutor(plan, Runner(network), threads=2)
    return np.concatenate(list(executor.bands(source, np.uint8)))


def whole(network: Loaded, source: Pixels) -> Pixels:
    x = torch.from_numpy(source.astype(np.float32)).permute(2, 0, 1)[None] / 255
    return quantise(networks.untiled(network, x)[0].clone(), np.uint8)


def difference(a: Pixels, b: Pixels) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b.astype(int)).max())


@cache
def known(name: str) -> tuple[Loaded, Contract]:
    """A network and its Contract, measured once for all tests of the module."""
    network = BUILDERS[name]()
    return network, inspect(network, name=name, sanity=False)


@pytest.fixture(scope="module", params=["compact", "span", "dncnn", "swinir"])
def case(request: pytest.FixtureRequest) -> tuple[str, Loaded, Contract]:
    return request.param, *known(request.param)


@pytest.mark.parametrize("size", [(97, 131), (64, 64), (1, 90), (90, 1), (23, 200), (7, 5)])
def test_tiled_equals_untiled(case: tuple[str, Loaded, Contract], size: tuple[int, int]) -> None:
    _, network, contract = case
    source = as_pixels(draw_card(*size, 3))
    plan = plan_for(contract, draw_card(*size, 3), core=32)
    assert difference(tiled(network, source, plan), whole(network, source)) <= 1


def test_a_third_of_the_context_is_not_enough(case: tuple[str, Loaded, Contract]) -> None:
    _, network, contract = case
    assert contract.context is not None
    x = draw_card(130, 130, 3)
    plan = plan_for(contract, x, core=32, margin=contract.context // 3)
    source = as_pixels(x)
    assert difference(tiled(network, source, plan), whole(network, source)) > 1


def test_swinir_off_its_grid_fails_with_all_its_context() -> None:
    network, contract = known("swinir")
    assert contract.grid == 8
    assert contract.context is not None
    x = draw_card(130, 130, 3)
    # Margins of a multiple of 8 plus 4 on a grid of 4 put origins 4 off the window grid.
    margin = -(-contract.context // 8) * 8 + 4
    plan = plan_for(contract, x, core=32, margin=margin, grid=4)
    source = as_pixels(x)
    assert difference(tiled(network, source, plan), whole(network, source)) > 1


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    core=st.integers(1, 40),
    extra=st.integers(0, 9),
)
def test_any_size_and_core_is_exact(height: int, width: int, core: int, extra: int) -> None:
    network, contract = known("small")
    x = draw_card(height, width, 3)
    plan = plan_for(contract, x, core=max(core, 8), margin=(contract.context or 0) + extra)
    source = as_pixels(x)
    assert difference(tiled(network, source, plan), whole(network, source)) <= 1


def test_context_and_grid_of_an_architecture_that_nobody_knows() -> None:
    network = networks.custom(Odd(), scale=1)
    contract = inspect(network, name="odd", sanity=False)
    # A 3x3 at half resolution reaches 2 or 3 pixels by parity, the dilated one 6.
    assert (contract.context, contract.grid) == (9, 2)
    x = draw_card(101, 75, 3)
    source = as_pixels(x)
    plan = plan_for(contract, x, core=24)
    assert difference(tiled(network, source, plan), whole(network, source)) <= 1


@pytest.mark.parametrize(
    ("name", "context", "grid"),
    [("compact", 4 + 2, 1), ("span", 21, 1), ("dncnn", 9, 1)],
)
def test_measured_context_is_the_known_one(name: str, context: int, grid: int) -> None:
    _, contract = known(name)
    assert (contract.context, contract.grid) == (context, grid)


def test_rrdb_gets_its_structural_context_and_a_measured_seam() -> None:
    contract = inspect(networks.rrdb(blocks=5, features=4), name="rrdb", sanity=False)
    assert contract.context == 15 * 5 + 4
    assert contract.seam_overlap == 32
    assert contract.seam_error is not None
    assert contract.seam_error < 1


def test_unshuffled_rrdb_needs_even_origins() -> None:
    contract = inspect(networks.rrdb(blocks=1, unshuffle=2), name="x2", sanity=False)
    assert contract.grid % 2 == 0


def test_bf16_tiled_is_close_to_bf16_untiled(
    record_property: Callable[[str, object], None],
) -> None:
    network = networks.compact(convs=2, features=8)
    contract = inspect(network, name="compact", sanity=False)
    x = draw_card(60, 70, 3)
    runner = Runner(network, precision="bf16")
    executor = TileExecutor(plan_for(contract, x, core=24), runner, threads=1)
    ours = np.concatenate(list(executor.bands(as_pixels(x), np.uint16))) / 65535
    source = torch.from_numpy(as_pixels(x).astype(np.float32)).permute(2, 0, 1)[None] / 255
    reference = runner(source)[0].clamp(0, 1).permute(1, 2, 0).numpy()
    largest = float(np.abs(ours - reference).max()) * 255
    rms = float(np.sqrt(np.square(ours - reference).mean()))
    record_property("bf16 largest difference in levels", largest)
    record_property("bf16 rms in levels", rms * 255)
    assert rms == 0 or -20 * np.log10(rms) >= 48


def test_blended_tiles_of_a_global_network_have_no_hard_seam() -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            # Each tile gets an offset of its own, as channel attention gives each a gain.
            offset = x.mean(dim=(2, 3), keepdim=True) - 0.5
            return x + 0.5 * offset + 0 * self.conv(x)

    network = networks.custom(Pooled(), scale=1)
    contract = inspect(network, name="pooled", sanity=False)
    assert contract.is_global
    assert contract.seam_error is not None
    x = draw_card(120, 150, 3)
    exact = plan_for(replace(contract, context=32), x, core=64)
    blend = replace(exact, mode="blend", feather=16)
    source = as_pixels(x)
    truth = whole(network, source).astype(int)

    def steps(plan: TilePlan) -> float:
        """How much the error jumps from a column to the next at the worst column."""
        error = tiled(network, source, plan).astype(int) - truth
        return float(np.abs(np.diff(error.mean(axis=(0, 2)))).max())

    assert steps(blend) < steps(exact) / 3
