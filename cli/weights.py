"""`upscale weights import` and `remove`. A checkpoint is run before it is installed."""

from __future__ import annotations

import os
from pathlib import Path

from upscale.cli.console import complain, printable, say
from upscale.engine.local import LocalEngine
from upscale.errors import CheckpointError
from upscale.settings import Settings
from upscale.weights.store import Store


def import_checkpoint(
    settings: Settings,
    file: Path,
    *,
    serves: str | None,
    name: str | None,
    sanity: bool,
    replace: bool,
) -> None:
    """Look at a checkpoint, and install it if it can be used.

    Raises CheckpointError where it cannot be read, recognised, run or, with `sanity`, believed;
    before any of it, what the store raises for a name or a model that will not do.
    """
    if not os.path.isfile(file):
        raise CheckpointError(f"{file}: there is no such file.")
    store = Store(settings.weights_folder)
    store.check(file, name=name, serves=serves, replace=replace)
    complain(f"Looking at {printable(file.name)} ...")
    with LocalEngine(settings) as engine:
        contract = engine.examine(file, sanity=sanity)
    network = store.register(file, name=name, serves=serves, replace=replace)
    tiles = f"context {contract.context} pixels"
    if contract.seam_error is not None:
        tiles = f"blended tiles, seam within {contract.seam_error:.2f} levels"
    say(
        f"Installed {network.name}: {contract.architecture}, x{contract.scale}, "
        f"{contract.parameters:,} parameters, {tiles}."
    )
    if network.serves:
        say(f"It serves {', '.join(network.serves)}.")
    say(f"Try: upscale image picture.png -o . -m {network.name}")


def remove_network(settings: Settings, name: str) -> None:
    """Remove an installed network; raises what the store raises for unknown or bundled ones."""
    Store(settings.weights_folder).remove(name)
    say(f"Removed {name}.")
