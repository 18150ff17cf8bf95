"""A known file from its address, or a mirror's, into the store: only with consent to its licence,
only as it is known to be, whole or not at all, by one process at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

from upscale import logs
from upscale.errors import CheckpointError, InvalidRequest, OutputFault, PullFault
from upscale.weights.hashes import hash_file
from upscale.weights.headers import Limits, loaded_suffix, read_header
from upscale.weights.known import KnownFile
from upscale.weights.locks import locked
from upscale.weights.records import FirstSeen, Record
from upscale.weights.store import Store
from upscale.weights.transfer import Transfer, Wanted, discard

log = logs.get("weights")

# Largest part of a pipeline whose size nobody has recorded, in bytes.
_MAX_PART = 64 << 30


@dataclass(frozen=True)
class PullOptions:
    """How files are pulled. `mirror` is a base URL that is asked instead of a file's own address;
    `local_only` allows no host but `local_hosts`.
    """

    limits: Limits
    mirror: str = ""
    local_only: bool = False
    local_hosts: frozenset[str] = frozenset()
    stall_seconds: float = 30.0
    pause: Callable[[float], None] = time.sleep


class Watcher:
    """Told how a pull goes on; does nothing by itself."""

    def waiting(self, known: KnownFile) -> None:
        """Another process pulls it; its end is waited for."""

    def progress(self, done: int, total: int | None) -> None:
        """Bytes that are there, of how many where it is known."""

    def checking(self, known: KnownFile) -> None:
        """All of it is there and is being hashed."""


@dataclass(frozen=True)
class Pulled:
    """What became of a pull. `proof` says what the hash was compared with: one that the makers of
    the list have checked, one that others recorded, the one seen on an earlier pull, or nothing.
    """

    known: KnownFile
    path: Path
    sha256: str
    proof: Literal["checked", "recorded", "seen before", "first seen", "there already"]


class Puller:
    """Pulls into one store."""

    def __init__(self, store: Store, options: PullOptions, watcher: Watcher | None = None) -> None:
        self._store, self._options = store, options
        self._watcher = watcher or Watcher()
        self._transfer = Transfer(
            allow=self._allow, stall_seconds=options.stall_seconds, pause=options.pause
        )
        self._folder = store.folder / ".pulling"
        self._seen = FirstSeen(store.folder / ".first-seen.json")

    def pull(self, known: KnownFile, *, consent: bool, new_hash: bool = False) -> Pulled:
        """Pull a file that is not there yet.

        `consent`: its licence was accepted; `new_hash`: forget what an earlier pull saw. Raises
        InvalidRequest where either is missing or there is no address, PullFault where the file does
        not arrive, CheckpointError where another one does or something else of its name is
        installed, OutputFault where it cannot be written.
        """
        present = self._present(known)
        if present is not None:
            return present
        _check_consent(known, consent)
        limit = self._options.limits.bytes
        if not known.is_part and known.bytes is not None and known.bytes > limit:
            raise CheckpointError(
                f"'{known.id}' has {known.bytes:,} bytes; UPSCALE_MAX_CHECKPOINT_BYTES allows "
                f"{limit:,}."
            )
        url = self._address(known)
        try:
            with locked(
                self._folder / f"{known.id}.lock", waiting=lambda: self._watcher.waiting(known)
            ):
                # Perhaps it was pulled while we waited.
                return self._present(known) or self._pull(known, url, new_hash)
        except OSError as fault:
            raise OutputFault(f"{self._folder}: {fault.strerror or fault}.") from fault

    def _present(self, known: KnownFile) -> Pulled | None:
        if known.is_part:
            part = self._store.part(known)
            return Pulled(known, part.path, part.sha256, "there already") if part else None
        network = self._store.find(known.id)
        if network is None:
            return None
        record = self._store.record_of(network.path)
        ours = known.sha256 == network.sha256 or (
            known.sha256 is None and record is not None and record.known == known.id
        )
        if not ours:
            raise CheckpointError(
                f"A network called '{known.id}' is installed and its content is another "
                f"(sha256 {network.sha256}). Remove it first: upscale weights remove {known.id}"
            )
        return Pulled(known, network.path, network.sha256, "there already")

    def _pull(self, known: KnownFile, url: str, new_hash: bool) -> Pulled:
        part = self._folder / f"{known.id}.part"
        expected = known.sha256 or (None if new_hash else self._seen.of(known.id))
        most = known.bytes or (_MAX_PART if known.is_part else self._options.limits.bytes)
        wanted = Wanted(url, known.bytes, most, hashed=expected is not None)
        joined = self._transfer.fetch(wanted, part, self._watcher.progress)
        sha256 = self._hashed(known, part)
        if joined and not _fits(known, sha256, expected):
            # Pieces of two files, perhaps: once more, in one piece.
            discard(part)
            self._transfer.fetch(wanted, part, self._watcher.progress)
            sha256 = self._hashed(known, part)
        if not _fits(known, sha256, expected):
            discard(part)
            raise _mismatch(known, url, sha256, expected or f"{known.sha256_prefix}...")
        try:
            return self._install(known, url, part, sha256, expected)
        finally:
            discard(part)

    def _hashed(self, known: KnownFile, part: Path) -> str:
        self._watcher.checking(known)
        return hash_file(part)

    def _install(
        self, known: KnownFile, url: str, part: Path, sha256: str, expected: str | None
    ) -> Pulled:
        suffix = loaded_suffix(Path(known.stored))
        whole = part.with_name(known.stored)
        part.replace(whole)
        try:
            if not known.is_part:
                read_header(whole, self._options.limits)
            elif suffix == ".safetensors":
                read_header(whole, Limits(_MAX_PART, _MAX_PART))
            whole.chmod(0o644)
            record = Record(
                sha256=sha256,
                origin=known.file or known.stored,
                url=url,
                known=known.id,
                licence=known.licence or "",
                author=known.author or "",
                architecture=known.architecture or "",
                scale=known.scale or 0,
            )
            if known.sha256 is None:
                self._seen.note(known.id, sha256)
            if known.is_part:
                path = self._store.adopt_part(whole, known, record).path
            else:
                path = self._store.adopt(whole, known.id, suffix, record, replace=False).path
        finally:
            whole.unlink(missing_ok=True)
        log.debug("pulled", extra=logs.fields(id=known.id, sha256=sha256, url=url))
        if known.sha256 is not None:
            return Pulled(known, path, sha256, "checked" if known.checked else "recorded")
        return Pulled(known, path, sha256, "seen before" if expected else "first seen")

    def _address(self, known: KnownFile) -> str:
        if self._options.mirror:
            return f"{self._options.mirror.rstrip('/')}/{known.stored}"
        if known.url is not None:
            return known.url
        where = f"It lies on a page for people: {known.page} ." if known.page else ""
        raise InvalidRequest(
            f"No program can pull '{known.id}'. {where} Once you have the file: "
            "upscale weights import FILE".replace("  ", " ")
        )

    def _allow(self, url: httpx.URL) -> None:
        if self._options.local_only and url.host.lower() not in self._options.local_hosts:
            raise PullFault(
                f"UPSCALE_LOCAL_ONLY forbids connections to {url.host}. Name a host of the house "
                "in UPSCALE_WEIGHTS_MIRROR and UPSCALE_LOCAL_HOSTS, or carry files over: "
                "`upscale weights export` elsewhere, `upscale weights import` here."
            )


def _check_consent(known: KnownFile, consent: bool) -> None:
    if consent or not known.needs_consent:
        return
    if known.licence is not None and known.commercial is False:
        terms = f"is under {known.licence}, which does not allow commercial use"
    elif known.licence is not None:
        terms = f"is under {known.licence}, and whether that allows commercial use is not known"
    else:
        terms = "has no licence that anybody states, so nothing says that you may use it"
    raise InvalidRequest(
        f"'{known.id}' {terms}. If that is fine with you: "
        f"upscale weights pull {known.id} --accept-license"
    )


def _fits(known: KnownFile, sha256: str, expected: str | None) -> bool:
    return sha256 == (expected or sha256) and sha256.startswith(known.sha256_prefix or "")


def _mismatch(known: KnownFile, url: str, sha256: str, expected: str) -> CheckpointError:
    advice = ""
    if known.sha256 is None and known.sha256_prefix is None:
        advice = (
            " The other hash is from an earlier pull; if its author is known to have changed the "
            "file, --new-hash takes the new one."
        )
    return CheckpointError(
        f"{url} is not '{known.id}': its sha256 is {sha256}, {expected} was expected. "
        f"Nothing of it is kept.{advice}"
    )
