"""The cut of a pass: exact where it can be, inside its limits, with cross-fades that add up."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.engine.assembly import contributed, ramp
from upscale.engine.device import DeviceProfile
from upscale.engine.scaling import passes
from upscale.engine.tiling import TilePlan, plan_tiles
from upscale.models.contract import Contract


def _contract(
    context: int | None, bytes_per_pixel: int, grid: int = 1, overlap: int | None = None
) -> Contract:
    return Contract(
        architecture="Net",
        scale=4,
        channels_in=3,
        channels_out=3,
        context=context,
        grid=grid,
        size_multiple=1,
        size_minimum=1,
        parameters=1,
        macs_per_pixel=1,
        bytes_per_pixel=bytes_per_pixel,
        purpose="super-resolution",
        seam_error=None if overlap is None else 0.5,
        seam_overlap=overlap,
    )


COMPACT = _contract(18, 524)
RRDB = _contract(349, 8204, overlap=32)
GLOBAL = _contract(None, 37_612, grid=32, overlap=64)


def _plan(
    width: int, height: int, contract: Contract, *, threads: int = 2, side: int = 0, mb: int = 4096
) -> TilePlan:
    device = DeviceProfile("cpu", "cpu", "cpu", threads, threads, mb << 20, ("fp32",))
    size = passes(width, height, contract.scale, Decimal(contract.scale))[0]
    return plan_tiles(
        size,
        contract,
        device,
        bytes_per_pixel=contract.bytes_per_pixel,
        side=side,
        exact_limit=160,
        overlap=0,
        sample_bytes=1,
        channels=3,
    )


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 3000),
    st.integers(1, 3000),
    st.sampled_from([COMPACT, RRDB, GLOBAL, _contract(153, 10_540, 8, 32)]),
    st.sampled_from([1, 2, 4, 8]),
    st.sampled_from([0, 0, 32, 100, 500]),
    st.sampled_from([64, 1024, 8192]),
)
def test_every_cut_is_sound(
    width: int, height: int, contract: Contract, threads: int, side: int, mb: int
) -> None:
    plan = _plan(width, height, contract, threads=threads, side=side, mb=mb)
    for length, found in ((width, plan.columns), (height, plan.rows)):
        assert found[0].core_start == 0
        assert found[-1].core_stop == length
        assert all(s.start % plan.grid == 0 for s in found)
        if plan.mode == "exact":
            reach = min(contract.context or 0, max(width, height))
            assert all(s.start == 0 or s.core_start - s.start >= reach for s in found)
            assert all(s.stop == length or s.stop - s.core_stop >= reach for s in found)
            continue
        total = [0.0] * length
        for span in found:
            start, _ = contributed(span, plan.feather, length)
            for offset, weight in enumerate(ramp(span, plan.feather, length, 1)):
                total[start + offset] += float(weight)
        assert all(abs(value - 1) < 1e-5 for value in total)


def test_small_networks_are_exact_and_deep_ones_blend() -> None:
    assert _plan(1024, 1024, COMPACT).mode == "exact"
    deep = _plan(1024, 1024, RRDB)
    assert (deep.mode, deep.margin, deep.seam_error) == ("blend", 32, 0.5)
    # A picture that fits one tile has no seam, however deep the network.
    assert _plan(100, 90, _contract(153, 10_540, 8, 32)).mode == "exact"


@pytest.mark.parametrize("side", [256, 1024, 4096, 16_384])
def test_bands_stay_small_however_wide_the_picture(side: int) -> None:
    assert _plan(side, 512, COMPACT).band_bytes <= 48 << 20


def test_no_thread_is_left_with_one_tile_more() -> None:
    for threads in (2, 3, 4):
        plan = _plan(1024, 1024, COMPACT, threads=threads)
        rounds = -(-plan.count // threads)
        assert rounds * threads - plan.count <= rounds
