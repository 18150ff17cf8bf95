"""libvips, set up for files that anyone may have sent: the one place that imports it.

Gives it parts of a file as if they were all of it, so that a library never sees metadata that it
could stumble over. Knows nothing of formats.
"""

from __future__ import annotations

import logging
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyvips

# Otherwise libvips answers from its memory when a path holds another file than before.
pyvips.cache_set_max(0)
# What libvips warns of becomes an error here or does not matter; libtiff's chatter least of all.
logging.getLogger("pyvips").setLevel(logging.CRITICAL)

Image = pyvips.Image
Error = pyvips.Error
Region = pyvips.Region
BLOB = pyvips.GValue.blob_type


class Parts:
    """A read-only stream of some ranges of `file`, and `tail` behind them."""

    def __init__(self, file: BinaryIO, ranges: list[tuple[int, int]], tail: bytes = b"") -> None:
        self._file, self._ranges, self._tail = file, list(reversed(ranges)), tail

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; nothing at the end."""
        while self._ranges:
            start, length = self._ranges.pop()
            self._file.seek(start)
            data = self._file.read(min(size, length))
            if len(data) < length and data:
                self._ranges.append((start + len(data), length - len(data)))
            if data:
                return data
        data, self._tail = self._tail[:size], self._tail[size:]
        return data


def source(parts: Parts) -> pyvips.SourceCustom:
    """The stream for a loader of libvips. It cannot be wound back, which libvips copes with."""
    found = pyvips.SourceCustom()
    found.on_read(parts.read)
    return found


def matrix(values: npt.NDArray[np.float64]) -> pyvips.Image:
    """A small matrix as libvips wants one."""
    return pyvips.Image.new_from_list(values.tolist())


def from_array(pixels: npt.NDArray[np.generic]) -> pyvips.Image:
    """[H, W, C] of uint8, uint16, int32 or float32 as an image that shares its memory."""
    pixels = np.ascontiguousarray(pixels)
    height, width, channels = pixels.shape
    return pyvips.Image.new_from_memory(
        pixels.data.cast("B"), width, height, channels, _FORMATS[pixels.dtype.name]
    )


_FORMATS = {"uint8": "uchar", "uint16": "ushort", "int32": "int", "float32": "float"}
