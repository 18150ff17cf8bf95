"""A file under construction: writes, with the faults of a disk as OutputFault, and abort."""

from __future__ import annotations

import contextlib
import errno
from pathlib import Path

from upscale.errors import OutputFault

_REASONS = {
    errno.ENOSPC: "the disk is full. Free some space and try again",
    errno.EDQUOT: "the disk quota is used up. Free some space and try again",
    errno.EFBIG: "the file system does not hold files of this size",
    errno.EROFS: "the file system is read-only. Choose another folder",
    errno.EACCES: "the folder may not be written to. Choose another or change its permissions",
    errno.EPERM: "the folder may not be written to. Choose another or change its permissions",
    errno.ENOENT: "its folder does not exist",
    errno.ENOTDIR: "its folder does not exist",
    errno.EISDIR: "a folder of that name stands there",
    errno.EMFILE: "too many files are open",
}


class OutputFile:
    """Opens `path` at once, replacing what was there. Every method may raise OutputFault."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("wb")
        except OSError as fault:
            raise self._fault(fault) from fault

    def write(self, *pieces: bytes) -> None:
        """Append the pieces."""
        try:
            for piece in pieces:
                self._file.write(piece)
        except OSError as fault:
            raise self._fault(fault) from fault

    def close(self) -> None:
        """Write out what is buffered and close."""
        try:
            self._file.close()
        except OSError as fault:
            raise self._fault(fault) from fault

    def abort(self) -> None:
        """Close and remove the file; never raises, and may be called twice or after `close`."""
        with contextlib.suppress(OSError):
            self._file.close()
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)

    def _fault(self, fault: OSError) -> OutputFault:
        reason = _REASONS.get(fault.errno or 0, fault.strerror or str(fault))
        return OutputFault(f"The result cannot be written: {reason}.")
