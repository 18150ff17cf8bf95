"""Results in a private folder of this machine."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
from pathlib import Path

from upscale.server.spool import private_file, private_folder, storing
from upscale.server.storage.stored import Reader, Stored

# Begins the names of files that are still on their way from another file system.
_ARRIVING = ".arriving-"


class DiskStorage:
    """The folder `folder`; all files in it are readable by this user alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self) -> None:
        """Make the folder."""
        private_folder(self._folder)

    def keep(self, result: Path, name: str, mime: str) -> None:
        """Move the file here, by renaming it where the file systems are the same."""
        with storing("the result"):
            result.chmod(0o600)
            os.utime(result)
            try:
                result.replace(self._folder / name)
            except OSError as fault:
                if fault.errno != errno.EXDEV:
                    raise
                self._carry(result, name)

    def find(self, name: str) -> Stored | None:
        """By the file's own size and time of writing."""
        try:
            facts = (self._folder / name).stat()
        except FileNotFoundError:
            return None
        return Stored(name, facts.st_size, facts.st_mtime)

    def entries(self) -> list[Stored]:
        """Files that are there whole."""
        names = [each.name for each in os.scandir(self._folder) if each.is_file()]
        found = (self.find(name) for name in names if not name.startswith("."))
        return [each for each in found if each is not None]

    def read(self, name: str, start: int, stop: int) -> Reader | None:
        """The open file; it stays readable when its name is removed."""
        try:
            file = (self._folder / name).open("rb")
        except FileNotFoundError:
            return None
        file.seek(start)
        return file

    def copy(self, name: str, target: Path) -> bool:
        """A second name for the file where the file system allows it."""
        own = self._folder / name
        try:
            with storing("the image"):
                try:
                    os.link(own, target)
                except FileNotFoundError:
                    return False
                except OSError:
                    with own.open("rb") as source, private_file(target) as file:
                        shutil.copyfileobj(source, file)
        except FileNotFoundError:
            return False
        return True

    def remove(self, name: str) -> None:
        """Readers that have it open read on."""
        with contextlib.suppress(FileNotFoundError):
            (self._folder / name).unlink()

    def tidy(self, older_than: float) -> None:
        """Files that never arrived whole."""
        for path in self._folder.glob(f"{_ARRIVING}*"):
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < time.time() - older_than:
                    path.unlink()

    def _carry(self, result: Path, name: str) -> None:
        part = self._folder / f"{_ARRIVING}{name}"
        try:
            with result.open("rb") as source, private_file(part) as file:
                shutil.copyfileobj(source, file, 1 << 20)
            part.replace(self._folder / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
        result.unlink()
