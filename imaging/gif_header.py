"""How many pictures a GIF holds, counted by its blocks (GIF89a, sections 15 to 27).

Pillow would look into each; here no more than a bounded number of blocks is passed over.
"""

from __future__ import annotations

from typing import BinaryIO

# Blocks and sub-blocks: about a tenth of a second. A picture of a video has a few hundred.
_MOST_BLOCKS = 1 << 18

_IMAGE, _EXTENSION = b",", b"!"


def count_frames(file: BinaryIO) -> int:
    """The number of pictures, or of those that were passed when the count was given up.

    Raises ValueError, with a phrase, if it is given up before the first picture.
    """
    file.seek(10)
    flags = file.read(1)
    file.seek(2, 1)  # background and aspect
    _pass_palette(file, flags)
    return max(1, _counted(file))


def _counted(file: BinaryIO) -> int:
    frames = blocks = 0
    while blocks < _MOST_BLOCKS:
        blocks += 1
        kind = file.read(1)
        if kind == _IMAGE:
            place = file.read(9)
            if len(place) < 9:
                break
            _pass_palette(file, place[8:])
            frames += 1
        elif kind != _EXTENSION:
            break  # the trailer, the end, or what no reader goes beyond
        file.seek(1, 1)  # the size of codes, or the label
        while (size := file.read(1)) not in (b"", b"\0") and blocks < _MOST_BLOCKS:
            blocks += 1
            file.seek(size[0], 1)
    if not frames and blocks >= _MOST_BLOCKS:
        raise ValueError(f"more than {_MOST_BLOCKS} blocks stand before its first picture")
    return frames


def _pass_palette(file: BinaryIO, flags: bytes) -> None:
    """Stand behind the palette that `flags` announces."""
    if flags and flags[0] & 128:
        file.seek(3 * (2 << (flags[0] & 7)), 1)
