"""When things go wrong in a tile: memory runs out, values are not numbers, the caller goes away."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from tests import networks
from upscale.engine.assembly import RowAssembly, quantise
from upscale.engine.executor import TileExecutor, TileLog, run_channels
from upscale.engine.tiles import Tile
from upscale.engine.tiling import TilePlan
from upscale.errors import JobCancelled, OutOfMemory, ServerFault
from upscale.imaging.picture import Pixels
from upscale.models.runner import Runner
from upscale.models.testcard import draw_card

PLAN = TilePlan("exact", 90, 70, 32, 32, 6, 0, 1, 1, 0, 0)


class Faulty:
    """A runner that does `fault` at the calls numbered in `at`, from 0, instead of its work."""

    def __init__(self, inner: Runner, at: set[int], fault: Callable[[Tensor], Tensor]) -> None:
        self.device, self.precision = inner.device, inner.precision
        self.scale, self.channels = inner.scale, inner.channels
        self._inner, self._at, self._fault = inner, at, fault
        self._lock = threading.Lock()
        self.calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        with self._lock:
            number, self.calls = self.calls, self.calls + 1
        return self._fault(x) if number in self._at else self._inner(x)


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(networks.compact())


@pytest.fixture(scope="module")
def source() -> Pixels:
    return quantise(draw_card(70, 90, 3)[0], np.uint8)


@pytest.fixture(scope="module")
def expected(runner: Runner, source: Pixels) -> Pixels:
    return np.concatenate(list(TileExecutor(PLAN, runner).bands(source, np.uint8)))


def _no_memory(x: Tensor) -> Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory (injected)")


def _no_memory_on_a_cpu(x: Tensor) -> Tensor:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory (injected)")


@pytest.mark.parametrize("fault", [_no_memory, _no_memory_on_a_cpu])
@pytest.mark.parametrize("at", range(9))
def test_memory_that_runs_out_at_any_tile_changes_nothing_in_the_result(
    runner: Runner,
    source: Pixels,
    expected: Pixels,
    at: int,
    fault: Callable[[Tensor], Tensor],
) -> None:
    log = TileLog()
    faulty = Faulty(runner, {at}, fault)
    result = np.concatenate(list(TileExecutor(PLAN, faulty, log=log).bands(source, np.uint8)))
    assert np.array_equal(result, expected)
    assert log.halved == 1
    assert log.done == 9


def test_finished_tiles_are_kept_and_later_ones_start_smaller(
    runner: Runner, source: Pixels
) -> None:
    faulty = Faulty(runner, {4}, _no_memory)
    list(TileExecutor(PLAN, faulty).bands(source, np.uint8))
    # Four as planned, the failing call, its two halves, and two calls for each of the other four.
    assert faulty.calls == 4 + 1 + 2 + 2 * 4


def test_memory_that_never_suffices_is_one_clear_error(runner: Runner, source: Pixels) -> None:
    faulty = Faulty(runner, set(range(10_000)), _no_memory)
    with pytest.raises(OutOfMemory, match="does not fit"):
        list(TileExecutor(PLAN, faulty).bands(source, np.uint8))


def test_not_a_number_is_rerun_in_the_wider_precision(
    runner: Runner, source: Pixels, expected: Pixels
) -> None:
    log = TileLog()
    broken = Faulty(runner, {3}, lambda x: torch.full_like(runner(x), torch.nan))
    executor = TileExecutor(PLAN, broken, wider=lambda: runner, log=log)
    assert np.array_equal(np.concatenate(list(executor.bands(source, np.uint8))), expected)
    assert log.widened == 1


def test_not_a_number_in_fp32_is_an_error_never_a_black_tile(
    runner: Runner, source: Pixels
) -> None:
    broken = Faulty(runner, {3}, lambda x: torch.full_like(runner(x), torch.nan))
    with pytest.raises(ServerFault, match="not-a-number"):
        list(TileExecutor(PLAN, broken).bands(source, np.uint8))


def test_another_error_of_the_network_is_not_swallowed(runner: Runner, source: Pixels) -> None:
    def boom(x: Tensor) -> Tensor:
        raise RuntimeError("shape mismatch (injected)")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(TileExecutor(PLAN, Faulty(runner, {5}, boom), threads=2).bands(source, np.uint8))


def test_cancelling_stops_within_a_tile(runner: Runner, source: Pixels) -> None:
    stop = threading.Event()
    counted = Faulty(runner, set(), _no_memory)
    executor = TileExecutor(PLAN, counted, on_tile=stop.set, cancelled=stop.is_set)
    with pytest.raises(JobCancelled):
        list(executor.bands(source, np.uint8))
    assert counted.calls == 1


def test_a_consumer_that_leaves_early_stops_the_threads(runner: Runner, source: Pixels) -> None:
    bands = TileExecutor(PLAN, runner, threads=2).bands(source, np.uint8)
    next(bands)
    bands.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("tile")]


def test_blended_tiles_survive_a_lack_of_memory(runner: Runner, source: Pixels) -> None:
    plan = TilePlan("blend", 90, 70, 48, 48, 12, 6, 1, 1, 0, 0)
    whole = np.concatenate(list(TileExecutor(plan, runner).bands(source, np.uint8)))
    faulty = Faulty(runner, {1}, _no_memory)
    result = np.concatenate(list(TileExecutor(plan, faulty).bands(source, np.uint8)))
    assert np.abs(result.astype(int) - whole.astype(int)).max() <= 1


def test_memory_that_runs_out_while_placing_places_no_tile_twice(
    runner: Runner, source: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = TilePlan("blend", 90, 70, 32, 32, 12, 6, 1, 3, 0, 0)
    whole = np.concatenate(list(TileExecutor(plan, runner).bands(source, np.uint8)))
    place, calls = RowAssembly.place, []

    def once_without_memory(self: RowAssembly, tile: Tile, y: Tensor) -> None:
        calls.append(tile)
        if len(calls) == 2:
            raise MemoryError("injected")
        place(self, tile, y)

    monkeypatch.setattr(RowAssembly, "place", once_without_memory)
    result = np.concatenate(list(TileExecutor(plan, runner).bands(source, np.uint8)))
    assert np.abs(result.astype(int) - whole.astype(int)).max() <= 1


def test_grey_goes_through_a_colour_network_and_comes_back_grey(runner: Runner) -> None:
    grey = draw_card(20, 24, 1)
    result = run_channels(runner, grey)
    assert result.shape == (1, 1, 40, 48)
    assert torch.allclose(result, runner(grey.expand(-1, 3, -1, -1)).mean(1, keepdim=True))


def test_colour_goes_through_a_grey_network_channel_by_channel() -> None:
    grey_network = Runner(networks.dncnn(channels=1))
    x = draw_card(20, 24, 3)
    together = run_channels(grey_network, x)
    apart = torch.cat([grey_network(x[:, c : c + 1]) for c in range(3)], dim=1)
    assert torch.allclose(together, apart, atol=1e-6)


def test_batches_give_what_single_tiles_give(
    runner: Runner, source: Pixels, expected: Pixels
) -> None:
    plan = TilePlan("exact", 90, 70, 32, 32, 6, 0, 1, 3, 0, 0)
    result = np.concatenate(list(TileExecutor(plan, runner).bands(source, np.uint8)))
    assert np.abs(result.astype(int) - expected.astype(int)).max() <= 1
