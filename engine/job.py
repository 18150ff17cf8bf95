"""One Job from a file to a file: a source of rows, an executor, a sink.

Runs in the process that holds the network (a device worker, or the command line itself). Stages
overlap: tile threads compute the next rows while this thread resamples and the sink's threads
compress. The result grows under a scratch name and is renamed when it is complete.
"""

from __future__ import annotations

import errno
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from upscale import __version__
from upscale.engine.bands import resampled, with_alpha
from upscale.engine.device import DeviceProfile
from upscale.engine.executor import TileExecutor, TileLog, TileRunner
from upscale.engine.memory import peak_bytes, reset_peak
from upscale.engine.order import JobOrder
from upscale.engine.plan import PassPlan, Plan
from upscale.engine.receipt import Progress, Receipt
from upscale.errors import JobCancelled, OutputFault
from upscale.imaging.decode import decode
from upscale.imaging.guard import decode_bytes, memory_limit
from upscale.imaging.limits import FORMATS
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import OutputSpec, Picture, Pixels
from upscale.imaging.sinks import open_sink
from upscale.models.contract import Precision

RunnerSource = Callable[[Precision, str], TileRunner]
OnProgress = Callable[[Progress], None]


@dataclass
class _Clock:
    """Wall seconds since the Job began, and of each stage."""

    began: float
    stages: dict[str, float]

    def elapsed(self) -> float:
        return time.perf_counter() - self.began

    def lap(self, stage: str, since: float) -> None:
        self.stages[stage] = round(self.stages.get(stage, 0.0) + time.perf_counter() - since, 4)


def run_job(
    order: JobOrder,
    runners: RunnerSource,
    device: DeviceProfile,
    *,
    progress: OnProgress | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Receipt:
    """Do what `order` says. `runners` gives a runner for a precision and a method.

    Raises what decoding, the network and the sink raise, JobCancelled, OutputFault; nothing is left
    behind then, and an existing target is untouched.
    """
    job = _Job(order, runners, device, progress, cancelled or (lambda: False))
    return job.run()


class _Job:
    def __init__(
        self,
        order: JobOrder,
        runners: RunnerSource,
        device: DeviceProfile,
        progress: OnProgress | None,
        cancelled: Callable[[], bool],
    ) -> None:
        self.order = order
        self.plan: Plan = order.plan
        self.runners = runners
        self.device = device
        self.progress = progress
        self.cancelled = cancelled
        self.clock = _Clock(time.perf_counter(), {})
        self.log = TileLog()
        self.finished_pixels = 0

    def run(self) -> Receipt:
        reset_peak()
        since = time.perf_counter()
        self._report("decode")  # whoever limits its time begins to count
        probe = self.plan.probe
        # No tile thread is there yet: one Job at a time runs in a process.
        with memory_limit(decode_bytes(probe)):
            picture = decode(self.order.source, probe, srgb=self._wants_srgb())
        self.clock.lap("decode", since)
        self._report("load")
        since = time.perf_counter()
        runner = self.runners(self.plan.precision, self.plan.method)
        self.clock.lap("load", since)
        folder = _folder_of(self.order.target)
        colour: Pixels = picture.colour
        for step in self.plan.passes[:-1]:
            bands = self._pass(step, colour, runner, np.uint16)
            colour = _stored(bands, step, colour.shape[2], folder)
        spec, notes = self._write(picture, colour, runner)
        return self._receipt(picture, spec, notes)

    def _pass(
        self,
        step: PassPlan,
        source: Pixels,
        runner: TileRunner,
        dtype: type[np.unsignedinteger[Any]],
    ) -> Iterator[Pixels]:
        """The bands of one pass, at the size that it is to have."""
        size = step.size
        threads = 1 if self.device.is_cuda else min(self.plan.threads, step.tiles.count)
        executor = TileExecutor(
            step.tiles,
            runner,
            wider=self._wider(),
            threads=threads,
            intra_threads=max(1, self.device.cores // threads),
            log=self.log,
            on_tile=lambda: self._report("upscale"),
            cancelled=self.cancelled,
        )
        if not size.resamples:
            return executor.bands(source, dtype)
        return resampled(
            executor.bands(source, np.uint16),
            (size.native_height, size.native_width),
            (size.out_height, size.out_width),
            dtype,
            runner.device,
        )

    def _wider(self) -> Callable[[], TileRunner] | None:
        if self.plan.precision == "fp32":
            return None
        return lambda: self.runners("fp32", "cast")

    def _write(
        self, picture: Picture, colour: Pixels, runner: TileRunner
    ) -> tuple[OutputSpec, list[str]]:
        """The last pass into the file. The spec is that of the file as written."""
        channels = picture.colour.shape[2] + int(picture.alpha is not None)
        spec = replace(self.plan.output, channels=channels, threads=max(2, self.device.cores))
        dtype = np.uint16 if spec.depth == 16 else np.uint8
        bands: Iterable[Pixels] = self._pass(self.plan.passes[-1], colour, runner, dtype)
        if picture.alpha is not None:
            bands = with_alpha(bands, picture.alpha, (spec.height, spec.width), runner.device)
        scratch = self.order.scratch_path
        sink = open_sink(scratch, spec, self._metadata(picture, spec))
        try:
            since = time.perf_counter()
            for band in bands:
                if self.cancelled():
                    raise JobCancelled("The job was cancelled.")
                self.clock.lap("upscale", since)
                since = time.perf_counter()
                sink.write(band)
                self.clock.lap("encode", since)
                self.finished_pixels += band.shape[0] * band.shape[1]
                self._report("upscale")
                del band  # before the next one is computed
                since = time.perf_counter()
            sink.close()
            self.clock.lap("encode", since)
            if self.cancelled():
                raise JobCancelled("The job was cancelled.")
            _put_in_place(scratch, self.order.target, replace_existing=self.order.replace)
        except BaseException:
            sink.abort()
            raise
        finally:
            # Whatever ended it, the tile threads are waited for before the pixels go away.
            if isinstance(bands, Iterator) and hasattr(bands, "close"):
                bands.close()
        return spec, sink.notes

    def _wants_srgb(self) -> bool:
        """Whether the picture's profile has to be applied, since the result cannot have it.

        The format has no place for it, or a background is put under the picture, whose colour is
        sRGB; black and white are the same in every profile.
        """
        probe, output = self.plan.probe, self.plan.output
        facts = FORMATS[output.format]
        coloured = output.background not in ("#ffffff", "#000000")
        on_background = probe.alpha and not facts.alpha and coloured
        return probe.channels not in facts.profiles or on_background

    def _metadata(self, picture: Picture, spec: OutputSpec) -> Metadata:
        """What goes into the file beside the pixels."""
        metadata = picture.metadata.stripped() if spec.strip else picture.metadata
        if not spec.provenance:
            return metadata
        facts = {
            "Software": f"upscale {__version__}",
            "Model": self.plan.network.name,
            "Network": f"sha256:{self.plan.network.key}",
            "Scale": self.plan.scale_factor,
        }
        return metadata.noted(facts, as_comment=spec.format == "gif")

    def _report(self, stage: str) -> None:
        if self.progress is not None:
            self.progress(
                Progress(
                    stage,
                    self.log.done,
                    self.plan.tiles,
                    self.finished_pixels / 1e6,
                    round(self.clock.elapsed(), 3),
                )
            )

    def _receipt(self, picture: Picture, spec: OutputSpec, notes: list[str]) -> Receipt:
        plan = self.plan
        seconds = {**self.clock.stages, "total": round(self.clock.elapsed(), 4)}
        return Receipt(
            network={
                "name": plan.network.name,
                "key": plan.network.key,
                "file": Path(plan.network.path).name,
                "architecture": plan.contract.architecture,
                "scale": plan.contract.scale,
                "blend": plan.network.blend,
            },
            device={"device": self.device.device, "name": self.device.name},
            precision=plan.precision,
            passes=[_described(step) for step in plan.passes],
            tiles={
                "planned": plan.tiles,
                "done": self.log.done,
                "halved": self.log.halved,
                "rerun_wider": self.log.widened,
            },
            size={"width": spec.width, "height": spec.height},
            output=asdict(spec) | {"bytes": self.order.target.stat().st_size},
            seconds=seconds,
            memory={"expected": plan.expected_bytes, "peak": peak_bytes()},
            versions={
                "upscale": __version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
            notes=[*picture.notes, *notes],
        )


def _described(step: PassPlan) -> dict[str, Any]:
    """A pass for the Receipt: sizes, and how seams were kept."""
    tiles = step.tiles
    return {
        **asdict(step.size),
        "tiling": tiles.mode,
        "tile": [tiles.core_width, tiles.core_height],
        "margin": tiles.margin,
        "grid": tiles.grid,
        "tiles": tiles.count,
        "seam_error": tiles.seam_error,
    }


def _stored(
    bands: Iterable[Pixels],
    step: PassPlan,
    channels: int,
    folder: Path,
) -> Pixels:
    """A pass's result as uint16 [H, W, C], in a nameless file mapped to memory: pages may leave it.

    The mapping keeps the file; each pass has one of its own, since `bands` read the one before.
    """
    shape = (step.size.out_height, step.size.out_width, channels)
    size = 2 * shape[0] * shape[1] * shape[2]
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # All of its room at once, where the system can: a disk that fills up later would end
            # the process, not the write.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            pixels: Pixels = np.memmap(file, dtype=np.uint16, mode="r+", shape=shape)
    except OSError as error:
        raise OutputFault(f"No room for the intermediate picture: {error.strerror}.") from error
    row = 0
    for band in bands:
        pixels[row : row + len(band)] = band
        row += len(band)
    return pixels


def _folder_of(target: Path) -> Path:
    folder = target.parent
    if not os.access(folder, os.W_OK):
        reason = "is not there" if not folder.exists() else "is read-only"
        raise OutputFault(f"The folder {folder} {reason}; nothing can be written to it.")
    return folder


def _put_in_place(scratch: Path, target: Path, *, replace_existing: bool) -> None:
    try:
        if replace_existing:
            scratch.replace(target)
            return
        # A link fails where the name is taken, even if it was taken a moment ago.
        os.link(scratch, target)
        scratch.unlink()
    except FileExistsError:
        raise OutputFault(f"{target} exists; nothing is overwritten unless told.") from None
    except OSError as error:
        if not replace_existing and error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            _put_without_links(scratch, target)
            return
        raise OutputFault(f"{target} cannot be written: {error.strerror}.") from error


def _put_without_links(scratch: Path, target: Path) -> None:
    """For file systems without hard links: a check and a rename, the best that there is."""
    if target.exists():
        raise OutputFault(f"{target} exists; nothing is overwritten unless told.")
    scratch.replace(target)
