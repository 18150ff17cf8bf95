"""A ceiling on the memory that reading a file may map, so that a bomb fails by itself.

Works on the soft limit of the address space (RLIMIT_AS), for the whole process: for a process, or a
stretch of one, in which nothing else allocates. Does nothing where the system has no such limit or
does not say what is mapped (other than Linux). Knows nothing of formats.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from upscale.imaging.probe import Probe

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

HEADER_BYTES = 1536 << 20
"""What reading headers may map beyond what the process has: the libraries themselves, the threads
of libvips, and two empty canvases of a WebP of the largest size accepted by default."""

# Seen at 16 megapixels, libraries and threads included: 7 to 20 bytes a pixel for 8 bits a channel,
# 28 for a deep AVIF, 57 for a TIFF of 32-bit floats with alpha, which is read twice.
_PIXEL_BYTES = 64
# For what does not grow with the picture: libraries loaded on the way, stacks of threads, caches.
_ROOM_BYTES = 512 << 20


def decode_bytes(probe: Probe) -> int:
    """What decoding a picture may map. Files are mapped too, some twice."""
    return _PIXEL_BYTES * probe.pixels + 2 * probe.bytes + _ROOM_BYTES


@contextlib.contextmanager
def memory_limit(more: int) -> Iterator[None]:
    """Within, the process may map no more than `more` bytes beyond what it has mapped.

    What fails is mostly a MemoryError or a library's own error; GLib ends the process when it gets
    none.
    """
    before = _lowered(more)
    try:
        yield
    finally:
        if before is not None:
            resource.setrlimit(resource.RLIMIT_AS, before)


def limit_process(more: int) -> None:
    """As `memory_limit`, from now on."""
    _lowered(more)


def _lowered(more: int) -> tuple[int, int] | None:
    """The limits as they were; None where they were left alone."""
    mapped = _mapped()
    if mapped is None:
        return None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = mapped + more
    known = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    if known and min(known) <= wanted:
        return None
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    return soft, hard


def _mapped() -> int | None:
    """Bytes of address space in use."""
    if resource is None or not hasattr(resource, "RLIMIT_AS"):
        return None
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return None
