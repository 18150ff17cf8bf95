"""Where the pictures of background jobs lie: a folder for each job, counted in the spool.

All calls but `path`, `held_by` and `reserve` block. Knows nothing of records and turns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from upscale.server.ids import random_token
from upscale.server.spool import Spool, private_folder, storing

_SOURCE = "source"


@dataclass(frozen=True)
class Held:
    """Jobs that are counted here: how many, and the bytes of their pictures."""

    jobs: int
    bytes: int


@dataclass
class _Picture:
    caller: str
    size: int
    kept: bool


class JobFolders:
    """The folders of jobs in `folder`."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        self._folder, self._spool = folder, spool
        self._pictures: dict[str, _Picture] = {}

    def open(self) -> str:
        """Make the folder; returns its name in records, which servers with other disks may share.

        Raises OutputFault.
        """
        private_folder(self._folder)
        file = self._folder / "place"
        with contextlib.suppress(FileNotFoundError):
            return file.read_text()
        new = self._folder / f"place-{random_token()}"
        new.write_text(random_token())
        on_disk(new)
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(new)  # two that start at once agree on one
        new.unlink()
        return file.read_text()

    def found(self) -> list[str]:
        """Ids of the jobs that have a folder."""
        return [path.name for path in self._folder.iterdir() if path.is_dir()]

    def path(self, request_id: str) -> Path:
        """The picture of a job."""
        return self._folder / request_id / _SOURCE

    def held_by(self, caller: str | None = None) -> Held:
        """What is counted here of one caller's, or of all."""
        sizes = [
            picture.size
            for picture in list(self._pictures.values())
            if caller is None or picture.caller == caller
        ]
        return Held(len(sizes), sum(sizes))

    def reserve(self, request_id: str, caller: str, size: int) -> None:
        """Count a job whose picture is still to come."""
        self._count(request_id, _Picture(caller, size, kept=False))

    def keep(self, request_id: str, source: Path) -> None:
        """Move a picture that was reserved for into the job's new folder, to be there after a power
        cut, too.

        Raises OutputFault.
        """
        kept = self.path(request_id)
        with storing("the job"):
            kept.parent.mkdir(mode=0o700)
            source.replace(kept)
            for path in (kept, kept.parent, self._folder):
                on_disk(path)
        self._pictures[request_id].kept = True

    def hold(self, request_id: str, caller: str) -> None:
        """Count a job whose picture is there."""
        size = 0
        with contextlib.suppress(OSError):
            size = self.path(request_id).stat().st_size
        self._count(request_id, _Picture(caller, size, kept=True))

    def gone(self) -> list[str]:
        """Ids of jobs that are counted here and have no folder any more: a server beside this one
        has finished them.
        """
        kept = [name for name, picture in list(self._pictures.items()) if picture.kept]
        return [name for name in kept if not (self._folder / name).exists()]

    def forget(self, request_id: str) -> None:
        """Remove a job's folder, and count it no more."""
        shutil.rmtree(self._folder / request_id, ignore_errors=True)
        picture = self._pictures.pop(request_id, None)
        if picture is not None:
            self._spool.count(-picture.size, parked=-picture.size)

    def _count(self, request_id: str, picture: _Picture) -> None:
        self._pictures[request_id] = picture
        self._spool.count(picture.size, parked=picture.size)


def on_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk. Raises OSError."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
