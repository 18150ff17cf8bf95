"""`upscale weights pull`, and the offer to pull what `upscale image` misses."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from upscale.cli.console import FAILED, OK, complain, printable, say
from upscale.errors import InvalidRequest, ModelNotFound, UpscaleError
from upscale.models.catalogue import load_catalogue
from upscale.settings import Settings, host_names
from upscale.weights.headers import Limits
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.pull import Pulled, Puller, PullOptions, Watcher
from upscale.weights.store import Store

if TYPE_CHECKING:
    from rich.progress import Progress

# Seconds between plain lines where no bar can be shown.
_PLAIN_EVERY = 10.0


def limits_of(settings: Settings) -> Limits:
    """The largest checkpoint that is taken."""
    return Limits(settings.max_checkpoint_bytes, settings.max_checkpoint_parameters)


def pull_files(
    settings: Settings, names: list[str], *, consent: bool, new_hash: bool = False
) -> int:
    """Pull what `names` mean: known files, or models for which a set of files is known.

    One that fails stops no other; returns the exit code. Raises ModelNotFound for an unknown name,
    before any work, and InvalidRequest for one file whose licence was not accepted.
    """
    wanted = list(dict.fromkeys(known for name in names for known in find_known(name)))
    failed = 0
    with _watched() as watcher:
        puller = Puller(Store(settings.weights_folder), _options(settings), watcher)
        for known in wanted:
            try:
                watcher.start(known)
                pulled = puller.pull(known, consent=consent, new_hash=new_hash)
            except InvalidRequest as error:
                if len(wanted) == 1:
                    raise
                watcher.stop()
                complain(error.message)
                failed += 1
            except UpscaleError as error:
                watcher.stop()
                complain(f"Error: {error.message}")
                failed += 1
            else:
                watcher.stop()
                _tell(pulled)
    return FAILED if failed else OK


def find_known(name: str) -> list[KnownFile]:
    """The known files that a name means. Raises ModelNotFound."""
    manifest = load_manifest()
    ids = manifest.sets.get(name.lower(), ())
    known = manifest.find(name)
    found = [known] if known else [k for k in map(manifest.by_id, ids) if k is not None]
    if not found:
        names = [k.id for k in manifest.files]
        raise ModelNotFound(name, load_catalogue().suggest(name, names))
    return found


def offered(settings: Settings, id: str) -> bool:
    """Offer, at a terminal, to pull a known file; returns whether it was pulled."""
    known = load_manifest().by_id(id)
    if known is None or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return False
    if settings.local_only and not settings.weights_mirror:
        return False
    complain(f"'{known.id}' is not installed: {known.described}.")
    print("Pull it now? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        return False
    return pull_files(settings, [known.id], consent=True) == OK


def _options(settings: Settings) -> PullOptions:
    return PullOptions(
        limits=limits_of(settings),
        mirror=settings.weights_mirror,
        local_only=settings.local_only,
        local_hosts=host_names(settings.local_hosts),
        stall_seconds=settings.weights_stall_seconds,
    )


def _tell(pulled: Pulled) -> None:
    known, by = pulled.known, f" by {pulled.known.author}" if pulled.known.author else ""
    if pulled.proof == "there already":
        say(f"{known.id} is there already: {printable(pulled.path)}")
        return
    say(f"Pulled {known.id}{by} ({known.terms}): {printable(pulled.path)}")
    say(f"sha256 {pulled.sha256}: {_PROOF[pulled.proof]}")
    if known.serves:
        say(f"It serves {', '.join(known.serves)}.")
    if known.is_part:
        say(f"It is the {known.role} of {known.family}.")
    else:
        say(f"Try: upscale image picture.png -o . -m {known.id}")


_PROOF = {
    "checked": "as it should be.",
    "recorded": "as its source records it.",
    "seen before": "as on an earlier pull.",
    "first seen": "nobody has published one; recorded now, and checked from now on.",
}


class _Watcher(Watcher):
    """Shows plain lines now and then."""

    def __init__(self) -> None:
        self._label, self._last, self._begun, self._from = "", 0.0, 0.0, 0

    def start(self, known: KnownFile) -> None:
        """A file begins."""
        self._label, self._last, self._begun = known.id, time.monotonic(), 0.0

    def stop(self) -> None:
        """It is done, or given up."""

    def waiting(self, known: KnownFile) -> None:
        complain(f"{known.id}: another process is pulling it; waiting.")

    def progress(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not self._begun:
            self._begun, self._from = now, done
        if now - self._last < _PLAIN_EVERY:
            return
        self._last = now
        speed = (done - self._from) / max(now - self._begun, 1e-3) / 1e6
        of = "" if total is None else f" of {total / 1e6:.1f}"
        complain(f"{self._label}: {done / 1e6:.1f}{of} MB, {speed:.1f} MB/s")

    def checking(self, known: KnownFile) -> None:
        pass


class _Live(_Watcher):
    """Shows a bar."""

    def __init__(self, bar: Progress) -> None:
        super().__init__()
        self._bar = bar
        self._task = bar.add_task("", total=None, visible=False)

    def start(self, known: KnownFile) -> None:
        self._bar.reset(self._task, total=known.bytes, description=known.id[:32], visible=False)

    def stop(self) -> None:
        self._bar.update(self._task, visible=False, refresh=True)

    def progress(self, done: int, total: int | None) -> None:
        self._bar.update(self._task, completed=done, total=total, visible=True)

    def checking(self, known: KnownFile) -> None:
        self._bar.update(self._task, description=f"{known.id[:32]}: checking")


@contextmanager
def _watched() -> Iterator[_Watcher]:
    if not sys.stderr.isatty():
        yield _Watcher()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    with Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as bar:
        yield _Live(bar)
