"""`upscale image`: many files through one engine, in this process. One bad file stops no other."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from upscale import logs
from upscale.cli.console import FAILED, OK, Interrupted, Interrupts, complain, printable, say
from upscale.cli.inputs import Found, Input, collect
from upscale.cli.lazy import LazyEngine
from upscale.cli.naming import name_outputs, output_format
from upscale.cli.networks import choose_network
from upscale.cli.plans import described
from upscale.cli.progress import Show, rate, shown
from upscale.cli.receipts import receipt_path, write_receipt
from upscale.engine.local import LocalEngine
from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan, Request
from upscale.engine.receipt import Receipt
from upscale.errors import InvalidRequest, JobCancelled, OutputFault, UpscaleError
from upscale.imaging.limits import normalise_colour
from upscale.imaging.probing import probe
from upscale.settings import Settings

log = logs.get("cli")


@dataclass(frozen=True)
class Options:
    """What the caller asked for; `scale` None takes the model's own, `format` None the name's."""

    model: str
    scale: str | None = None
    format: str | None = None
    quality: int | None = None
    background: str = "#ffffff"
    strip_metadata: bool = False
    seed: int = 0
    denoise: float | None = None
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tile: int = 0
    overwrite: bool = False
    receipt: bool = False
    dry_run: bool = False


def upscale_files(arguments: list[str], out: str, options: Options, settings: Settings) -> int:
    """Upscale what `arguments` mean into `out`; returns the exit code.

    Raises InvalidParameter, ModelNotFound and ModelDisabled, before any work, where the request
    itself is wrong.
    """
    with Interrupts().caught() as interrupts:
        try:
            return _Batch(arguments, out, options, settings, interrupts).run()
        except Interrupted as stop:
            complain("Interrupted; the file in work was given up, finished ones are kept.")
            return stop.exit_code


class _Batch:
    def __init__(
        self,
        arguments: list[str],
        out: str,
        options: Options,
        settings: Settings,
        interrupts: Interrupts,
    ) -> None:
        self.output, self.options, self.settings = Path(out), options, settings
        self.interrupts = interrupts
        self.found: Found = collect(arguments, output=self.output)
        self.several = len(self.found.inputs) + len(self.found.problems) != 1
        alone = not self.several and not any(os.path.isdir(name) for name in arguments)
        self.format, self.to_file = output_format(out, options.format, single=alone)
        self.background = normalise_colour(options.background, "--background")
        self.network, self.scale = choose_network(
            settings, options.model, scale=options.scale, denoise=options.denoise
        )
        self.failed = len(self.found.problems)
        self.done = 0
        self.originals: set[tuple[int, int]] = set()

    def run(self) -> int:
        for name, problem in self.found.problems:
            complain(f"{printable(name)}: {problem}")
        if not self.found.inputs:
            if not self.failed:
                complain("No picture found.")
            return FAILED
        if not self.options.dry_run:
            _make_folder(self.output.parent if self.to_file else self.output)
        with ExitStack() as stack:
            engine = LazyEngine(self.settings, self.network, stack)
            scale = self.scale or Decimal(engine.scale())
            show = stack.enter_context(shown())
            for item, target in self._targets(scale):
                with self._reporting(item, show):
                    self._one(engine, item, target, scale, show)
        if self.several:
            self._summary()
        return FAILED if self.failed else OK

    def _targets(self, scale: Decimal) -> list[tuple[Input, Path]]:
        """Inputs with their targets. Results of earlier runs that lie among the inputs of a folder
        are recognised by name and are not upscaled again."""
        inputs = self.found.inputs
        if self.to_file:
            kept = [(inputs[0], self.output)]
        else:
            targets = name_outputs(inputs, self.output, scale=scale, format=self.format)
            own = {os.path.abspath(target) for target in targets}
            pairs = zip(inputs, targets, strict=True)
            kept = [(i, t) for i, t in pairs if i.named or os.path.abspath(i.path) not in own]
            self.found.passed_over += len(inputs) - len(kept)
        self.originals = set(_identities([item for item, _ in kept]))
        return kept

    @contextmanager
    def _reporting(self, item: Input, show: Show) -> Iterator[None]:
        """Turns what goes wrong with one file into a line, and counts."""
        try:
            yield
        except JobCancelled:
            self.interrupts.check()
            raise
        except UpscaleError as error:
            problem = error.message
        except OSError as error:
            problem = f"{error.strerror or error}."
        except Exception as error:  # a fault of ours; the other files still get their turn
            problem = f"{type(error).__name__}: {error}"
            log.debug("fault", exc_info=True)
        else:
            self.done += 1
            return
        finally:
            show.stop()
        complain(f"{printable(item.path)}: {problem}")
        self.failed += 1

    def _one(
        self, engine: LazyEngine, item: Input, target: Path, scale: Decimal, show: Show
    ) -> None:
        self.interrupts.check()
        self._refuse_taken(target)
        request = Request(
            scale_factor=scale,
            output_format=self.format,
            quality=self.options.quality,
            background=self.background,
            strip_metadata=self.options.strip_metadata,
            seed=self.options.seed,
            precision=self.options.precision,
            tile=self.options.tile,
        )
        header = probe(item.path)
        plan = engine.open().plan(header, self.network, request)
        if self.options.dry_run:
            say(described(item.path, target, plan))
            return
        _make_folder(target.parent)
        receipt = self._run(engine.open(), item, target, plan, show)
        show.stop()
        say(_result_line(item, target, receipt))
        for note in receipt.notes:
            complain(f"{printable(item.path)}: {note}")
        if self.options.receipt:
            write_receipt(target, item.path, receipt, replace=self.options.overwrite)

    def _run(
        self, engine: LocalEngine, item: Input, target: Path, plan: Plan, show: Show
    ) -> Receipt:
        order = JobOrder(
            id=secrets.token_hex(8),
            source=item.path,
            target=target,
            plan=plan,
            replace=self.options.overwrite,
        )
        show.start(printable(item.path.name))
        with self.interrupts.gently():
            return engine.run(order, progress=show.update, cancelled=self.interrupts.wanted)

    def _refuse_taken(self, target: Path) -> None:
        """Raise where `target`, or the receipt beside it, may not be written."""
        names = [target, receipt_path(target)] if self.options.receipt else [target]
        for name in names:
            if not os.path.lexists(name):
                continue
            if os.path.exists(name) and _identity(name) in self.originals:
                raise InvalidRequest(f"{name} is one of the inputs, which are never overwritten.")
            if os.path.isdir(name):
                raise OutputFault(f"A folder stands where {name} would be written.")
            if not self.options.overwrite:
                raise OutputFault(f"{name} exists; --overwrite replaces it.")

    def _summary(self) -> None:
        parts = [f"{self.done} {'planned' if self.options.dry_run else 'done'}"]
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{self.found.passed_over} passed over"] if self.found.passed_over else []
        complain(", ".join(parts) + ".")


def _result_line(item: Input, target: Path, receipt: Receipt) -> str:
    seconds, size = receipt.seconds["total"], receipt.size
    speed = rate(size["width"] * size["height"] / 1e6, seconds)
    return (
        f"{printable(item.path)} -> {printable(target)}  {size['width']}x{size['height']}, "
        f"{receipt.precision}, {seconds:.1f} s, {speed}"
    )


def _identity(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _identities(inputs: list[Input]) -> Iterator[tuple[int, int]]:
    for item in inputs:
        try:
            yield _identity(item.path)
        except OSError:
            continue


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFault(f"The folder {folder} cannot be made: {error.strerror}.") from error
