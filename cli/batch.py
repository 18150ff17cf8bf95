"""What is to be done of a batch, what is done already, and how a finished picture gets its place.

Decides from names, the record and the files that are there. Knows nothing of how a picture is
upscaled: `local` and `remote` do that, one picture after the other or several at once.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from upscale import logs
from upscale.cli.console import FAILED, OK, complain, printable
from upscale.cli.inputs import Found, Input
from upscale.cli.naming import name_outputs, output_format
from upscale.cli.options import Options
from upscale.cli.placing import make_folder, put_in_place, saved, scratch_name
from upscale.cli.receipts import receipt_path, write_receipt
from upscale.cli.record import NAME, Done, Record, Stamp
from upscale.errors import InvalidRequest, JobCancelled, OutputFault, UpscaleError
from upscale.imaging.limits import normalise_colour
from upscale.weights.hashes import hash_file

log = logs.get("cli")


class Stopped(Exception):
    """What went wrong concerns all pictures; `message` says what, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Work:
    """A picture with its target; `made` is what the record knows to have been made of it."""

    item: Input
    target: Path
    made: Done | None = None


@dataclass(frozen=True)
class Claim:
    """Leave to upscale a picture into `scratch`, whatever is there, to be put in place after.

    `replace` and `replace_receipt` say whether what stands there may give way.
    """

    work: Work
    scratch: Path
    stamp: Stamp | None
    sha256: str
    replace: bool
    replace_receipt: bool


class Batch:
    """The pictures of one command. Raises InvalidParameter where the options contradict the rest.

    A folder of results has a record, unless the one input was named itself and none is there yet.
    """

    def __init__(self, arguments: list[str], out: str, options: Options, found: Found) -> None:
        self.output, self.options, self.found = Path(out), options, found
        self.several = len(found.inputs) + len(found.problems) != 1
        alone = not self.several and not any(os.path.isdir(name) for name in arguments)
        self.format, self.to_file = output_format(out, options.format, single=alone)
        self.background = normalise_colour(options.background, "--background")
        named = alone and all(item.named for item in found.inputs)
        self.recorded = not self.to_file and (not named or (self.output / NAME).is_file())
        self.record: Record | None = None
        self.works: list[Work] = []
        self.deciding: dict[str, Any] = {}
        self.failed = len(found.problems)
        self.done = self.skipped = 0
        self._originals: set[tuple[int, int]] = set()

    @contextmanager
    def opened(self, scale: Decimal, deciding: dict[str, Any]) -> Iterator[None]:
        """The output folder is there, its record is this process's, and `works` is settled.

        `deciding` is what decides the results besides their sources. Raises OutputFault.
        """
        self.deciding = deciding
        with ExitStack() as stack:
            if not self.options.dry_run:
                make_folder(self.output.parent if self.to_file else self.output)
                if self.recorded:
                    self.record = stack.enter_context(Record.opened(self.output))
            elif self.recorded:
                self.record = Record(self.output)
            self.works = list(self._works(scale))
            self._originals = set(_identities(work.item for work in self.works))
            if self.record is not None and not self.options.dry_run:
                self.record.tidy({work.target.parent for work in self.works})
            yield

    def _works(self, scale: Decimal) -> Iterator[Work]:
        """Inputs with their targets. Results of earlier runs that lie among the inputs of a folder
        are recognised, by the record or by name, and are not upscaled again. What was made of an
        input keeps its name, whatever has come to lie beside it.
        """
        inputs, record = self.found.inputs, self.record
        if self.to_file:
            yield Work(inputs[0], self.output)
            return
        targets = name_outputs(inputs, self.output, scale=scale, format=self.format)
        own = {os.path.abspath(target) for target in targets}
        for item, target in zip(inputs, targets, strict=True):
            ours = os.path.abspath(item.path) in own
            if not item.named and (ours or (record is not None and record.made(item.path))):
                self.found.passed_over += 1
                continue
            made = record.find(item.path, self.deciding) if record is not None else None
            yield Work(item, self.output / made.output if made else target, made)

    @contextmanager
    def claimed(self, work: Work) -> Iterator[Claim | None]:
        """Leave to upscale a picture; None where that is done. Its scratch file is gone afterwards.

        Raises OutputFault, InvalidRequest where its target is taken, OSError.
        """
        if self._is_done(work):
            self.skipped += 1
            yield None
            return
        claim = self._claim(work)
        if not self.options.dry_run:
            make_folder(work.target.parent)
        try:
            yield claim
        finally:
            claim.scratch.unlink(missing_ok=True)

    def finish(
        self,
        claim: Claim,
        *,
        size: tuple[int, int],
        seconds: float,
        receipt: dict[str, Any],
        network: str = "",
    ) -> None:
        """The scratch file is the result: note it, put it in place, write its receipt.

        `size` is its width and height; `network` the key of what made it, where that could have
        changed meanwhile. Raises OutputFault. Noted first: a run that is killed in between leaves
        a result that is not there, which is made again, and none that nobody knows.
        """
        work, record = claim.work, self.record
        try:
            facts = saved(claim.scratch)
        except OSError as error:
            raise OutputFault(f"{work.target} cannot be written: {error.strerror}.") from error
        if record is not None and claim.stamp is not None:
            done = Done(
                source=record.source_name(work.item.path),
                stamp=claim.stamp,
                sha256=claim.sha256,
                settings=self.deciding | ({"network": network} if network else {}),
                output=record.source_name(work.target),
                output_bytes=facts.st_size,
                output_mtime_ns=facts.st_mtime_ns,
                replaced=claim.replace,
                width=size[0],
                height=size[1],
                seconds=round(seconds, 3),
                receipt=self.options.receipt,
            )
            record.add(done)
            try:
                put_in_place(claim.scratch, work.target, replace=claim.replace)
            except OutputFault:
                record.void(done)
                raise
        else:
            put_in_place(claim.scratch, work.target, replace=claim.replace)
        if self.options.receipt:
            replace = claim.replace_receipt
            scratch = work.target.with_name(self._scratch())
            write_receipt(work.target, work.item.path, receipt, scratch, replace=replace)
        self.done += 1

    @contextmanager
    def reporting(
        self, work: Work, aside: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> Iterator[None]:
        """Turns what goes wrong with one picture into a line, said within `aside`, and counts."""
        try:
            yield
            return
        except (JobCancelled, Stopped):
            raise
        except UpscaleError as error:
            problem = error.message
        except OSError as error:
            problem = f"{error.strerror or error}."
        except Exception as error:  # a fault of ours; the other pictures still get their turn
            problem = f"{type(error).__name__}: {error}"
            log.debug("fault", exc_info=True)
        self.failed += 1
        with aside():
            complain(f"{printable(work.item.path)}: {problem}")
        if self.record is not None and not self.options.dry_run:
            with suppress(OutputFault):
                self.record.add_failure(work.item.path, problem)

    def tell(self) -> None:
        """Say what became of the pictures, where there were several."""
        if not self.several or not self.deciding:
            return
        left = len(self.works) - self.done - self.skipped - (self.failed - len(self.found.problems))
        parts = [f"{self.done} {'planned' if self.options.dry_run else 'done'}"]
        parts += [f"{self.skipped} done before"] if self.skipped else []
        parts += [f"{self.failed} failed"] if self.failed else []
        parts += [f"{left} left"] if left else []
        parts += [f"{self.found.passed_over} passed over"] if self.found.passed_over else []
        complain(", ".join(parts) + ".")

    @property
    def exit_code(self) -> int:
        """Of the command."""
        return FAILED if self.failed else OK

    def _is_done(self, work: Work) -> bool:
        record, made = self.record, work.made
        if record is None or made is None or self.options.again:
            return False
        if self.options.receipt and not receipt_path(work.target).is_file():
            return False
        return record.is_done(made, work.item.path)

    def _claim(self, work: Work) -> Claim:
        source, record = work.item.path, self.record
        earlier = record.owned(work.target, source) if record is not None else None
        replace = self.options.overwrite or earlier is not None
        replace_receipt = self.options.overwrite or (earlier is not None and earlier.receipt)
        self._refuse_taken(work.target, replace)
        if self.options.receipt:
            self._refuse_taken(receipt_path(work.target), replace_receipt)
        stamp, sha256 = None, ""
        if record is not None and not self.options.dry_run:
            stamp, sha256 = Stamp.of(source), hash_file(source)
        return Claim(
            work=work,
            scratch=work.target.with_name(self._scratch()),
            stamp=stamp,
            sha256=sha256,
            replace=replace and os.path.lexists(work.target),
            replace_receipt=replace_receipt,
        )

    def _scratch(self) -> str:
        return self.record.scratch() if self.record is not None else scratch_name()

    def _refuse_taken(self, name: Path, replace: bool) -> None:
        """Raise where nothing may be written under a name."""
        if not os.path.lexists(name):
            return
        if os.path.exists(name) and _identity(name) in self._originals:
            raise InvalidRequest(f"{name} is one of the inputs, which are never overwritten.")
        if os.path.isdir(name):
            raise OutputFault(f"A folder stands where {name} would be written.")
        if not replace:
            raise OutputFault(f"{name} exists; --overwrite replaces it.")


def _identity(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _identities(inputs: Iterator[Input]) -> Iterator[tuple[int, int]]:
    for item in inputs:
        try:
            yield _identity(item.path)
        except OSError:
            continue
