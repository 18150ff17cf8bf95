"""`upscale image`: many pictures, in this process or by a running server. One bad picture stops no
other, and a folder of results has a record, so that the same command goes on where it was stopped.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from upscale.cli.batch import Batch, Stopped
from upscale.cli.console import FAILED, Interrupted, Interrupts, complain, printable
from upscale.cli.inputs import collect
from upscale.cli.options import Options
from upscale.errors import InvalidRequest
from upscale.settings import Settings

if TYPE_CHECKING:
    from upscale.cli.servers import ServerOptions


class _Runner(Protocol):
    def run(self) -> None: ...


def upscale_files(
    arguments: list[str],
    out: str,
    options: Options,
    settings: Settings,
    server: ServerOptions | None = None,
) -> int:
    """Upscale what `arguments` mean into `out`; returns the exit code. `server` does the work where
    one is given.

    Raises InvalidParameter, ModelNotFound and ModelDisabled, before any work, where the request
    itself is wrong.
    """
    with Interrupts().caught() as interrupts:
        batch = Batch(arguments, out, options, collect(arguments, output=Path(out)))
        try:
            return _upscale(batch, _runner(batch, settings, interrupts, server))
        except Interrupted as stop:
            complain("Interrupted; what was in work was given up, finished pictures are kept.")
            _say_how_to_go_on(batch)
            return stop.exit_code
        except Stopped as stop:
            complain(f"Stopped: {stop.message}")
            _say_how_to_go_on(batch)
            return FAILED


def _runner(
    batch: Batch, settings: Settings, interrupts: Interrupts, server: ServerOptions | None
) -> _Runner:
    """Either loads what it needs alone: a server's client never needs torch."""
    if server is None:
        from upscale.cli.local import Local

        return Local(batch, settings, interrupts)
    from upscale.cli.remote import Remote

    options = batch.options
    for name, given in (("--precision", options.precision != "auto"), ("--tile", options.tile)):
        if given:
            raise InvalidRequest(f"{name} is for the server to decide; leave it out with --server.")
    return Remote(batch, settings, interrupts, server)


def _upscale(batch: Batch, runner: _Runner) -> int:
    for name, problem in batch.found.problems:
        complain(f"{printable(name)}: {problem}")
    if not batch.found.inputs:
        if not batch.failed:
            complain("No picture found.")
        return FAILED
    try:
        runner.run()
    finally:
        batch.tell()
    return batch.exit_code


def _say_how_to_go_on(batch: Batch) -> None:
    if batch.record is not None and not batch.options.dry_run:
        complain("The same command goes on from there.")
