"""Runs a network over a picture, tile by tile, and yields finished bands in order.

Works on decoded pixels and a function that makes runners; knows nothing of files, formats or
architectures. Holds two rows of tiles in the making and what the caller keeps, never the result.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from upscale.engine.assembly import Floats, RowAssembly
from upscale.engine.tiles import Span, Tile, halves
from upscale.engine.tiling import TilePlan
from upscale.errors import JobCancelled, OutOfMemory, ServerFault
from upscale.imaging.picture import Pixels
from upscale.models.contract import Precision

# Rows of tiles in the making: the tile threads never wait for the encoder's row.
_ROWS_IN_FLIGHT = 2


class TileRunner(Protocol):
    """A network on its device: float32 [N, C, H, W] in 0..1 to float32 [N, C, H*s, W*s]."""

    device: torch.device
    precision: Precision
    scale: int
    channels: int

    def __call__(self, x: Tensor) -> Tensor: ...


@dataclass
class TileLog:
    """What happened to the tiles of a Job, for its Receipt; written by several threads."""

    done: int = 0
    halved: int = 0
    widened: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


class TileExecutor:
    """Bands of one pass. `runner` runs the tiles; `wider` makes a runner of the next wider
    precision, asked only when a tile came out as not-a-number, None where there is none.

    `threads` run tiles side by side, each with `intra_threads` of torch's own.
    """

    def __init__(
        self,
        plan: TilePlan,
        runner: TileRunner,
        *,
        wider: Callable[[], TileRunner] | None = None,
        threads: int = 1,
        intra_threads: int = 1,
        log: TileLog | None = None,
        on_tile: Callable[[], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._plan = plan
        self._runner = runner
        self._wider = wider
        self._threads = threads
        self._intra_threads = intra_threads
        self._log = log or TileLog()
        self._on_tile = on_tile or (lambda: None)
        self._cancelled = cancelled or (lambda: False)
        self._cuts = 0
        self._wider_lock = threading.Lock()
        self._wider_runner: TileRunner | None = None

    def bands(self, source: Pixels, dtype: type[np.unsignedinteger[Any]]) -> Iterator[Pixels]:
        """Bands of `dtype` [rows, W*s, C] from a source uint8 or uint16 [H, W, C], top to bottom.

        C of the result is that of the source. Raises JobCancelled, OutOfMemory when not even the
        smallest tile fits, ServerFault when the network gives not-a-number in fp32.
        """
        rows = deque(enumerate(self._plan.rows))
        waiting: deque[tuple[RowAssembly, list[Future[None]]]] = deque()
        carry: Floats | None = None
        with ThreadPoolExecutor(
            self._threads, thread_name_prefix="tile", initializer=self._enter_thread
        ) as pool:
            try:
                while rows or waiting:
                    while rows and len(waiting) < _ROWS_IN_FLIGHT:
                        waiting.append(self._submit(pool, *rows.popleft(), source, dtype))
                    band, carry = self._collect(waiting.popleft(), carry)
                    yield band
                    del band  # its memory goes while the next one is computed
            finally:
                pool.shutdown(wait=True, cancel_futures=True)

    def _enter_thread(self) -> None:
        # In effect for the calling thread only, so each tile thread sets its own.
        torch.set_num_threads(self._intra_threads)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        row: int,
        span: Span,
        source: Pixels,
        dtype: type[np.unsignedinteger[Any]],
    ) -> tuple[RowAssembly, list[Future[None]]]:
        assembly = RowAssembly(self._plan, span, self._runner.scale, source.shape[2], dtype)
        row_tiles = [Tile(row, c, span, x) for c, x in enumerate(self._plan.columns)]
        return assembly, [
            pool.submit(self._task, group, source, assembly) for group in self._batches(row_tiles)
        ]

    def _batches(self, row_tiles: list[Tile]) -> list[list[Tile]]:
        """Neighbours of one shape, at most the planned batch together."""
        groups: list[list[Tile]] = []
        for tile in row_tiles:
            fits = groups and len(groups[-1]) < self._plan.batch
            if fits and groups[-1][0].x.length == tile.x.length:
                groups[-1].append(tile)
            else:
                groups.append([tile])
        return groups

    def _collect(
        self, row: tuple[RowAssembly, list[Future[None]]], carry: Floats | None
    ) -> tuple[Pixels, Floats | None]:
        assembly, futures = row
        for future in futures:
            future.result()
        return assembly.finish(carry)

    def _task(self, group: list[Tile], source: Pixels, assembly: RowAssembly) -> None:
        cuts = self._cuts
        for part in self._cut(group, cuts) if cuts else [group]:
            self._run(part, source, assembly, cuts)
        with self._log.lock:
            self._log.done += len(group)
        for _ in group:
            self._on_tile()

    def _run(self, group: list[Tile], source: Pixels, assembly: RowAssembly, cuts: int) -> None:
        """Run and place a group; where memory runs out, in smaller and smaller parts."""
        if self._cancelled():
            raise JobCancelled("The job was cancelled.")
        placed = 0
        try:
            for tile, y in zip(group, self._results(group, source), strict=True):
                assembly.place(tile, y)
                placed += 1
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, so that the failed tile's tensors are free before the next try.
        self._note_cut(cuts)
        group = group[placed:]
        parts = self._cut(group, 1)
        if len(parts) == 1:
            tile = group[0]
            raise OutOfMemory(
                f"A tile of {tile.x.length} x {tile.y.length} pixels does not fit the memory of "
                f"{self._runner.device}. Close other programs or set UPSCALE_DEVICE=cpu."
            )
        for part in parts:
            self._run(part, source, assembly, cuts + 1)

    def _note_cut(self, cuts: int) -> None:
        if self._runner.device.type == "cuda":
            torch.cuda.empty_cache()
        with self._log.lock:
            self._log.halved += 1
            # Tiles yet to come begin at the size that fits, instead of failing first.
            self._cuts = max(self._cuts, cuts + 1)

    def _cut(self, group: list[Tile], times: int) -> list[list[Tile]]:
        """`group` in halves, `times` over: first fewer tiles together, then smaller tiles."""
        parts = [group]
        for _ in range(times):
            parts = [half for part in parts for half in self._halved(part)]
        return parts

    def _halved(self, group: list[Tile]) -> list[list[Tile]]:
        if len(group) > 1:
            middle = len(group) // 2
            return [group[:middle], group[middle:]]
        tile, plan = group[0], self._plan
        heights = halves(tile.y, plan.margin, plan.grid, plan.height)
        widths = halves(tile.x, plan.margin, plan.grid, plan.width)
        # Cross-fades on both sides of a core must not meet in its middle.
        least = max(1, 2 * plan.feather)
        taller = tile.y.core_length > tile.x.core_length
        for axis in ("y", "x") if taller else ("x", "y"):
            parts = heights if axis == "y" else widths
            if len(parts) == 2 and all(part.core_length >= least for part in parts):
                return [
                    [replace(tile, y=part) if axis == "y" else replace(tile, x=part)]
                    for part in parts
                ]
        return [group]

    def _results(self, group: list[Tile], source: Pixels) -> list[Tensor]:
        """Each tile's result, float32 [C, h, w], finite."""
        x = torch.stack([cut_out(source, tile) for tile in group]).to(self._runner.device)
        y = run_channels(self._runner, x)
        if not is_finite(y):
            y = self._rerun_wider(x)
        return list(y)

    def _rerun_wider(self, x: Tensor) -> Tensor:
        if self._wider is None:
            raise ServerFault("The network gave not-a-number in fp32; its result cannot be used.")
        with self._wider_lock:
            if self._wider_runner is None:
                self._wider_runner = self._wider()
        y = run_channels(self._wider_runner, x)
        if not is_finite(y):
            raise ServerFault("The network gave not-a-number in fp32; its result cannot be used.")
        with self._log.lock:
            self._log.widened += len(x)
        return y


def cut_out(source: Pixels, tile: Tile) -> Tensor:
    """A tile's pixels with their context, float32 [C, h, w] in 0..1."""
    pixels = source[tile.y.start : tile.y.stop, tile.x.start : tile.x.stop]
    peak = float(np.iinfo(source.dtype).max)
    return torch.from_numpy(pixels.astype(np.float32)).permute(2, 0, 1).div_(peak)


def run_channels(runner: TileRunner, x: Tensor) -> Tensor:
    """[N, C, h, w] through a network that may want another C; the result has the C of `x`.

    Grey through a colour network is the mean of three equal channels' results; colour through a
    grey network runs its channels one by one; a fourth channel (opacity) is fed as opaque.
    """
    count, channels = x.shape[0], x.shape[1]
    if runner.channels == channels:
        return runner(x)
    if runner.channels == 1:
        y = runner(x.reshape(count * channels, 1, *x.shape[2:]))
        return y.reshape(count, channels, *y.shape[2:])
    colour = x.expand(-1, 3, -1, -1) if channels == 1 else x
    if runner.channels == 4:
        colour = torch.cat((colour, torch.ones_like(colour[:, :1])), dim=1)
    y = runner(colour)[:, :3]
    return y.mean(dim=1, keepdim=True) if channels == 1 else y


def is_finite(y: Tensor) -> bool:
    """Whether all values, of the order of 1, are numbers: one that is not makes the sum none.

    `torch.isfinite` would make two tensors of the size of `y`.
    """
    return bool(torch.isfinite(y.sum()))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of torch or Python says that memory ran out."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text
