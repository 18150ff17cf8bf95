"""A finished file from its scratch name to its place, in one step: whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from pathlib import Path

from upscale.errors import OutputFault

_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def scratch_name(owner: str = "") -> str:
    """A new name under which a file may grow: short and hidden, whatever it will be called.

    Those of one `owner` have one beginning, `.upscale-<owner>-`.
    """
    return f".upscale-{owner + '-' if owner else ''}{secrets.token_hex(8)}.part"


def put_in_place(scratch: Path, target: Path, *, replace: bool) -> None:
    """Rename `scratch` to `target`, both in one folder; what stands there gives way only if
    `replace`. Raises OutputFault.
    """
    try:
        if replace:
            scratch.replace(target)
            return
        try:
            # A link fails where the name is taken, even if it was taken a moment ago.
            os.link(scratch, target)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            if os.path.lexists(target):
                raise FileExistsError from error
            scratch.replace(target)
            return
        scratch.unlink()
    except FileExistsError:
        raise OutputFault(f"{target} exists; --overwrite replaces it.") from None
    except OSError as error:
        raise OutputFault(f"{target} cannot be written: {error.strerror}.") from error


def make_folder(folder: Path) -> None:
    """Make a folder and those above it. Raises OutputFault."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFault(f"The folder {folder} cannot be made: {error.strerror}.") from error


def saved(file: Path) -> os.stat_result:
    """What is known of a finished file, once it is on the disk. Raises OSError."""
    handle = os.open(file, os.O_RDONLY)
    try:
        # Some file systems cannot; they do what they can by themselves.
        with contextlib.suppress(OSError):
            os.fsync(handle)
        return os.fstat(handle)
    finally:
        os.close(handle)
