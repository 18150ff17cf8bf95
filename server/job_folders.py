"""Where the pictures of background jobs lie: a folder for each job, counted in the spool.

All calls but `path` and `reserve` block. Knows nothing of records and turns.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from upscale.server.ids import random_token
from upscale.server.spool import Spool, private_folder, storing

_SOURCE = "source"


class JobFolders:
    """The folders of jobs in `folder`. Its length is how many of them are counted here."""

    def __init__(self, folder: Path, spool: Spool) -> None:
        self._folder, self._spool = folder, spool
        self._sizes: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._sizes)

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

    def reserve(self, request_id: str) -> None:
        """Count a job whose picture is still to come."""
        self._sizes[request_id] = 0

    def keep(self, request_id: str, source: Path) -> None:
        """Move a picture into the job's new folder, to be there after a power cut, too.

        Raises OutputFault.
        """
        kept = self.path(request_id)
        with storing("the job"):
            kept.parent.mkdir(mode=0o700)
            source.replace(kept)
            for path in (kept, kept.parent, self._folder):
                on_disk(path)

    def hold(self, request_id: str) -> None:
        """Count a job's picture in the spool."""
        size = 0
        with contextlib.suppress(OSError):
            size = self.path(request_id).stat().st_size
        self._sizes[request_id] = size
        self._spool.count(size)

    def forget(self, request_id: str) -> None:
        """Remove a job's folder."""
        shutil.rmtree(self._folder / request_id, ignore_errors=True)
        self._spool.count(-self._sizes.pop(request_id, 0))


def on_disk(path: Path) -> None:
    """Wait until a file, or a folder's list of names, is on the disk. Raises OSError."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
