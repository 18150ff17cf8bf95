"""`upscale weights import`, `export`, `verify`, `remove`: files of weights in and out of the store.
A checkpoint is run before it is installed.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from upscale.cli.console import FAILED, OK, complain, printable, say
from upscale.cli.weights_pull import limits_of
from upscale.engine.local import LocalEngine
from upscale.errors import CheckpointError, InvalidRequest, UpscaleError
from upscale.settings import Settings
from upscale.weights import exports, verifying
from upscale.weights.hashes import hash_file
from upscale.weights.headers import SUFFIXES, loaded_suffix, read_header
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.records import Record
from upscale.weights.store import Store


def import_files(
    settings: Settings,
    files: list[Path],
    *,
    serves: str | None,
    name: str | None,
    sanity: bool,
    replace: bool,
) -> int:
    """Install checkpoints, or all that an export holds; returns the exit code.

    One that fails stops no other. Raises InvalidRequest for options that fit one file only, and
    what `import_checkpoint` raises where there is but one.
    """
    if len(files) > 1 and (name or serves):
        raise InvalidRequest("--name and --as go with one file.")
    if len(files) == 1:
        _import_one(settings, files[0], serves, name, sanity, replace)
        return OK
    failed = 0
    for file in files:
        try:
            _import_one(settings, file, None, None, sanity, replace)
        except UpscaleError as error:
            complain(f"Error: {error.message}")
            failed += 1
    say(f"{len(files) - failed} of {len(files)} done.")
    return FAILED if failed else OK


def _import_one(
    settings: Settings,
    file: Path,
    serves: str | None,
    name: str | None,
    sanity: bool,
    replace: bool,
) -> None:
    if exports.is_export(file):
        if name or serves:
            raise InvalidRequest("--name and --as go with one file, not with an export.")
        import_export(settings, file, replace=replace)
    else:
        import_checkpoint(settings, file, serves=serves, name=name, sanity=sanity, replace=replace)


def import_checkpoint(
    settings: Settings,
    file: Path,
    *,
    serves: str | None,
    name: str | None,
    sanity: bool,
    replace: bool,
) -> None:
    """Look at a checkpoint, and install it if it can be used; a known file gets its known name.

    Raises CheckpointError where it cannot be read, recognised, run or, with `sanity`, believed;
    before any of it, what the store raises for a name or a model that will not do.
    """
    if os.path.isdir(file):
        raise CheckpointError(f"{file}: a folder, and not one that `weights export` made.")
    if not os.path.isfile(file):
        raise CheckpointError(f"{file}: there is no such file.")
    store = Store(settings.weights_folder)
    known = _recognised(file)
    if known is not None and known.is_part:
        _import_part(store, file, known)
        return
    if known is not None and name is None:
        name = known.id
    if loaded_suffix(file) not in SUFFIXES:
        read_header(file, limits_of(settings))  # which tells what it is instead
    store.check(file, name=name, serves=serves, replace=replace)
    complain(f"Looking at {printable(file.name)} ...")
    read_header(file, limits_of(settings))
    with LocalEngine(settings) as engine:
        contract = engine.examine(file, sanity=sanity)
    record = Record(
        known=known.id if known else "",
        architecture=contract.architecture,
        scale=contract.scale,
    )
    network = store.register(file, name=name, serves=serves, replace=replace, record=record)
    tiles = f"context {contract.context} pixels"
    if contract.seam_error is not None:
        tiles = f"blended tiles, seam within {contract.seam_error:.2f} levels"
    if known is not None:
        say(f"This is the known file {_introduced(known)}.")
    say(
        f"Installed {network.name}: {contract.architecture}, x{contract.scale}, "
        f"{contract.parameters:,} parameters, {tiles}."
    )
    if network.serves:
        say(f"It serves {', '.join(network.serves)}.")
    say(f"Try: upscale image picture.png -o . -m {network.name}")


def import_export(settings: Settings, source: Path, *, replace: bool) -> None:
    """Install all that an export holds. Raises CheckpointError; what came before it stays."""
    entries = exports.import_export(
        Store(settings.weights_folder),
        source,
        limits=limits_of(settings),
        replace_others=replace,
        told=lambda entry: say(f"Installed {entry.name}: {entry.bytes / 1e6:.1f} MB."),
    )
    say(f"{len(entries)} installed from {printable(source)}.")


def export_files(settings: Settings, names: list[str], target: Path) -> None:
    """Write installed files, all where none is named, into a folder or a tar."""
    entries = exports.export(
        Store(settings.weights_folder),
        names,
        target,
        told=lambda entry: complain(f"{entry.name}: {entry.bytes / 1e6:.1f} MB"),
    )
    say(f"{len(entries)} exported. Elsewhere: upscale weights import {printable(target)}")


def verify_files(settings: Settings, names: list[str], *, as_json: bool) -> int:
    """Hash installed files anew; returns the exit code, 1 where one is not what was installed."""
    findings = []
    for finding in verifying.verify(Store(settings.weights_folder), names):
        findings.append(finding)
        if not as_json:
            say(_line(finding))
    if as_json:
        rows = [{**vars(finding), "path": str(finding.path)} for finding in findings]
        say(json.dumps(rows, indent=2))
    bad = sum(finding.bad for finding in findings)
    if not as_json:
        say(f"{len(findings)} checked, {bad} bad." if findings else "Nothing is installed.")
    return FAILED if bad else OK


def remove_files(settings: Settings, names: list[str]) -> None:
    """Remove installed ones; raises what the store raises for unknown or bundled ones."""
    for name in names:
        Store(settings.weights_folder).remove(name)
        say(f"Removed {printable(name)}.")


def _recognised(file: Path) -> KnownFile | None:
    try:
        return load_manifest().by_sha256(hash_file(file))
    except OSError as fault:
        raise CheckpointError(f"{file.name}: {fault.strerror or fault}.") from fault


def _import_part(store: Store, file: Path, known: KnownFile) -> None:
    store.register_part(file, known, Record(known=known.id))
    say(f"This is the known file {_introduced(known)}.")
    say(f"Installed {known.id}, the {known.role} of {known.family}.")


def _introduced(known: KnownFile) -> str:
    by = f" by {known.author}" if known.author else ""
    return f"{known.id}{by} ({known.terms})"


def _line(finding: verifying.Finding) -> str:
    if finding.state == "changed":
        return (
            f"{finding.name}: CHANGED, its sha256 is {finding.sha256}, {finding.expected} was "
            f"expected ({printable(finding.path)})"
        )
    if finding.state == "unreadable":
        return f"{finding.name}: UNREADABLE, {finding.reason}"
    if finding.state == "unrecorded":
        return f"{finding.name}: unrecorded, put there by hand; its sha256 is {finding.sha256}"
    return f"{finding.name}: ok"
