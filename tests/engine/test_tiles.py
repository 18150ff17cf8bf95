"""Geometry: cores cover, margins hold, grids are kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.engine.assembly import contributed, ramp
from upscale.engine.tiles import halves, spans


@st.composite
def axes(draw: st.DrawFn) -> tuple[int, int, int, int]:
    grid = draw(st.sampled_from([1, 2, 4, 8, 16]))
    length = draw(st.integers(1, 700))
    core = grid * draw(st.integers(1, 20))
    margin = draw(st.integers(0, 90))
    return length, core, margin, grid


@given(axes())
def test_cores_cover_the_axis_without_gap_or_overlap(axis: tuple[int, int, int, int]) -> None:
    length, core, margin, grid = axis
    at = 0
    for span in spans(length, core, margin, grid):
        assert span.core_start == at
        assert span.core_start < span.core_stop <= span.core_start + core
        at = span.core_stop
    assert at == length


@given(axes())
def test_every_core_has_its_margin_or_the_edge(axis: tuple[int, int, int, int]) -> None:
    length, core, margin, grid = axis
    for span in spans(length, core, margin, grid):
        assert span.start == 0 or span.start <= span.core_start - margin
        assert span.stop == length or span.stop >= span.core_stop + margin
        assert 0 <= span.start < span.stop <= length


@given(axes())
def test_origins_lie_on_the_grid_and_ends_on_it_or_the_edge(
    axis: tuple[int, int, int, int],
) -> None:
    length, core, margin, grid = axis
    for span in spans(length, core, margin, grid):
        assert span.start % grid == 0
        assert span.stop % grid == 0 or span.stop == length


@given(axes())
def test_tiles_have_one_length_but_for_those_at_the_far_edge(
    axis: tuple[int, int, int, int],
) -> None:
    length, core, margin, grid = axis
    found = spans(length, core, margin, grid)
    inner = {span.length for span in found if span.stop < length}
    assert len(inner) <= 1
    for span in found:
        if inner and span.stop == length:
            assert abs(span.length - max(inner)) < grid or grid == 1


def test_a_short_remainder_becomes_equal_tiles_rather_than_a_sliver() -> None:
    assert [s.core_length for s in spans(260, 256, 0, 1)] == [130, 130]


@pytest.mark.parametrize("core", [0, -8, 12])
def test_a_core_off_the_grid_is_refused(core: int) -> None:
    with pytest.raises(ValueError, match="multiple of the grid"):
        spans(100, core, 4, 8)


@given(axes())
def test_halves_own_the_same_core_and_keep_margin_and_grid(axis: tuple[int, int, int, int]) -> None:
    length, core, margin, grid = axis
    for span in spans(length, core, margin, grid):
        parts = halves(span, margin, grid, length)
        assert parts[0].core_start == span.core_start
        assert parts[-1].core_stop == span.core_stop
        if len(parts) == 2:
            assert parts[0].core_stop == parts[1].core_start
            for part in parts:
                assert part.start % grid == 0
                assert part.start == 0 or part.start <= part.core_start - margin
                assert part.stop == length or part.stop >= part.core_stop + margin


@given(axes(), st.sampled_from([1, 2, 4]))
def test_cross_fades_add_up_to_one(axis: tuple[int, int, int, int], scale: int) -> None:
    length, core, margin, grid = axis
    feather = max(1, min(margin, core) // 2)
    core = max(core, -(-2 * feather // grid) * grid)
    found = spans(length, core, max(margin, feather), grid, 2 * feather)
    total = [0.0] * (length * scale)
    for span in found:
        start, _ = contributed(span, feather, length)
        for offset, weight in enumerate(ramp(span, feather, length, scale)):
            total[start * scale + offset] += float(weight)
    assert all(abs(value - 1) < 1e-5 for value in total)
