"""What a file is, judged by its first bytes, never by its name.

Knows the kinds that we open and enough of the others to say what came instead. Knows nothing
of what stands further inside a file.
"""

from __future__ import annotations

from pathlib import Path

from upscale.errors import UnreadableImage

NAMES = {
    "png": "PNG",
    "jpeg": "JPEG",
    "webp": "WebP",
    "gif": "GIF",
    "tiff": "TIFF",
    "bmp": "BMP",
    "avif": "AVIF",
}
"""The kinds that we open, as people write them."""

HEAD_BYTES = 64
"""How many of a file's bytes are enough to judge it."""

ACCEPTED = f"Accepted are {', '.join(list(NAMES.values())[:-1])} and AVIF."

# The first bytes of each, but of WebP and AVIF, which begin like other kinds.
_OURS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"GIF87a": "gif",
    b"GIF89a": "gif",
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"BM": "bmp",
}

# Bytes at an offset, and the name of what they begin; the first match counts.
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (4, b"ftyphei", "a HEIC"),
    (4, b"ftyphev", "a HEIC"),
    (4, b"ftypmif1", "a HEIF"),
    (4, b"ftypmsf1", "a HEIF"),
    (4, b"ftypqt", "a video"),
    (4, b"ftyp", "a video"),
    (0, b"\xff\x0a", "a JPEG XL"),
    (0, b"\0\0\0\x0cJXL ", "a JPEG XL"),
    (0, b"\0\0\0\x0cjP  ", "a JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"%PDF", "a PDF"),
    (0, b"\0\0\1\0", "an icon (ICO)"),
    (0, b"DDS ", "a DDS texture"),
    (0, b"\x76\x2f\x31\x01", "an OpenEXR"),
    (0, b"qoif", "a QOI"),
    (0, b"\x1aE\xdf\xa3", "a video"),
    (8, b"AVI ", "a video"),
    (8, b"WAVE", "a sound"),
    (0, b"PK\3\4", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
)


def read_head(path: Path) -> bytes:
    """The first bytes of the file. Raises UnreadableImage if there is no reading it."""
    try:
        with path.open("rb") as file:
            return file.read(HEAD_BYTES)
    except OSError as fault:
        raise UnreadableImage(
            f"The image file cannot be read: {fault.strerror or fault}. {ACCEPTED}"
        ) from fault


def kind(head: bytes) -> str:
    """A key of NAMES; raises UnreadableImage, saying what it is, for anything else."""
    for magic, name in _OURS.items():
        if head.startswith(magic):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and _is_avif(head):
        return "avif"
    raise UnreadableImage(f"The image file {_described(head)}. {ACCEPTED}")


def _is_avif(head: bytes) -> bool:
    """Whether AVIF is the brand of a file, or one of those it is compatible with."""
    end = min(int.from_bytes(head[:4], "big"), len(head))
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, end - 3, 4))}
    return bool(brands & {b"avif", b"avis"})


def _described(head: bytes) -> str:
    if not head:
        return "is empty"
    for offset, magic, name in _FOREIGN:
        if head[offset:].startswith(magic):
            return f"looks like {name}"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith(b"<svg"):
        return "looks like an SVG"
    if text.startswith((b"<!doctype html", b"<html")):
        return "is a web page (HTML)"
    if text.startswith(b"data:"):
        return "is the text of a data URI, not decoded"
    if text and all(byte in b"\t\n\r\f\b" or 32 <= byte < 127 for byte in head):
        return "is text"
    if any(head) is False:
        return "holds only zeros"
    return "is of an unknown kind"
