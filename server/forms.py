"""A request's fields, whatever its body's encoding was: scalars in memory, images as parts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from upscale.errors import InvalidRequest

# Text kept in memory, in bytes: longer values of image fields go to a file, those of other fields
# are cut (no parameter is as long).
TEXT_BYTES = 1 << 16

# `image`, `image[]`, `image[0]`, `image[url]`, `image_url`, `images[0][image_url]`, …
_IMAGE_NAME = re.compile(r"(image|images|image_url)((\[[^\[\]]{0,40}\]){0,3})")
_INDEX = re.compile(r"(image|images)\[\d+\]")
_BYTE = re.compile(rb"\d{1,3}")

NODE_CURE = (
    "In Node, wrap a Buffer, Uint8Array, ArrayBuffer or Blob: "
    'image: await toFile(buffer, "picture.png").'
)


@dataclass(frozen=True)
class ImagePart:
    """A value of an image field: a file (`filename` is not None) or text.

    The bytes lie in the file `path`, or, where that is None, in `data`; `data` always holds the
    first of them. `size` is in bytes.
    """

    name: str
    filename: str | None
    size: int
    data: bytes
    path: Path | None = None

    @property
    def is_file(self) -> bool:
        """Whether it came as a file."""
        return self.filename is not None


@dataclass(frozen=True)
class Structure:
    """A list or an object where one value was expected: no parameter takes one."""

    shown: str

    def __str__(self) -> str:
        return self.shown


@dataclass
class Form:
    """All fields; a name that came several times has several values."""

    fields: dict[str, list[object]] = field(default_factory=dict)
    images: list[ImagePart] = field(default_factory=list)

    def add(self, name: str, value: object) -> None:
        """One more value of `name`."""
        self.fields.setdefault(name, []).append(value)


def is_image_name(name: str) -> bool:
    """Whether a field of that name holds an image or the address of one."""
    return _IMAGE_NAME.fullmatch(name) is not None


def is_single_byte(name: str, value: bytes) -> bool:
    """Whether it looks like one byte of an array: `image[17]` = `137`."""
    return bool(_INDEX.fullmatch(name) and _BYTE.fullmatch(value))


def bytes_as_parts() -> InvalidRequest:
    """The error for an array of bytes that a client sent as one field for each byte."""
    return InvalidRequest(
        "The image came as one field for each byte (image[0], image[1], …). " + NODE_CURE,
        field="image",
    )
