"""Locks on files, by which processes tell that they live: the dead hold none."""

from __future__ import annotations

import fcntl
from pathlib import Path


def is_held(lock: Path) -> bool:
    """Whether a process holds it; when in doubt, yes. No process holds what is not there."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
