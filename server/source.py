"""Which image a request means, and how it gets onto this disk: as an upload, a data URI, a URL or a
media link of our own.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from upscale.errors import InvalidRequest, UnreadableImage
from upscale.imaging.kinds import HEAD_BYTES, kind
from upscale.server.data_uri import is_data_uri, write_data_uri
from upscale.server.fetch import Fetcher
from upscale.server.forms import NODE_CURE, Form, ImagePart, bytes_as_parts, is_single_byte
from upscale.server.media import MediaStore, linked_name
from upscale.server.spool import RequestFolder, private_file, storing

_MAX_URL = 8192
# Nor are these text, whatever they turn out to be: a PNG spoilt on its way, a sound.
_LIKE_PICTURES = (b"\x89PNG\r\n", b"RIFF")

# First bytes of pictures in base64, from callers who left out the data URI's header.
_MAGIC_BASE64 = (b"iVBORw0K", b"/9j/", b"UklGR")


def pick_image(form: Form) -> ImagePart:
    """The one image of a request: a file before any text, an empty file counts as absent.

    Raises InvalidRequest, with the cure, where there is none, or more than one.
    """
    files = [part for part in form.images if part.size and (part.is_file or _is_picture(part))]
    if len(files) > 1:
        raise _one_image(len(files))
    if files:
        return files[0]
    texts = [part for part in form.images if not part.is_file and part.data[:_MAX_URL].strip()]
    if any(is_single_byte(part.name, part.data) for part in texts):
        raise bytes_as_parts()
    # Long ones lie on the disk and count as different without a look at all of them.
    if len({(part.size, part.data, part.path) for part in texts}) > 1:
        raise _one_image(len(texts))
    if texts:
        _check_text(texts[0])
        return texts[0]
    if form.images:
        raise InvalidRequest("The image is empty (0 bytes).", field="image")
    raise InvalidRequest(
        f"'image' is missing. Send a file, a URL or a data URI. {NODE_CURE}", field="image"
    )


async def obtain(
    part: ImagePart, folder: RequestFolder, *, media: MediaStore, fetcher: Fetcher, own_url: str
) -> Path:
    """The image as a file: where it was spooled, or a new one in `folder`.

    `own_url` is the address under which this server was asked. Raises InvalidRequest.
    """
    target = folder.path / "image"
    if part.is_file or _is_picture(part):
        if part.path is not None:
            return part.path
        with storing("the image"), private_file(target) as file:
            file.write(part.data)
        return target
    if is_data_uri(part.data):
        folder.take(part.size // 4 * 3 + 3)
        await asyncio.to_thread(write_data_uri, part, target)
        if part.path is not None:
            part.path.unlink()
            folder.give_back(part.size)
        return target
    url = part.data.decode("utf-8", "replace").strip()
    name = linked_name(url)
    if name is not None:
        if await asyncio.to_thread(media.copy, name, target, folder.take):
            return target
        if url.startswith(own_url.rstrip("/") + "/"):
            raise InvalidRequest("The media link in 'image' has expired.", field="image")
    await fetcher.fetch(url, target, folder.take)
    return target


def _is_picture(part: ImagePart) -> bool:
    """Whether it is one by its bytes, having come without a file name, as if it were text."""
    try:
        kind(part.data[:HEAD_BYTES])
    except UnreadableImage:
        return part.data.startswith(_LIKE_PICTURES)
    return True


def _check_text(part: ImagePart) -> None:
    if is_data_uri(part.data):
        return
    text = part.data[:_MAX_URL].strip()
    if text.startswith(_MAGIC_BASE64):
        raise InvalidRequest(
            "'image' is bare base64. Put its header before it: data:image/png;base64,…",
            field="image",
        )
    if part.size > _MAX_URL or not text.lower().startswith((b"http://", b"https://")):
        raise InvalidRequest(
            f"'image' is text, but neither an http(s) URL nor a data URI. {NODE_CURE}",
            field="image",
        )


def _one_image(count: int) -> InvalidRequest:
    return InvalidRequest(
        f"{count} images came; upscaling takes one image per request.", field="image"
    )
