"""The body of a request into a Form: multipart (with or without a length), JSON, or urlencoded."""

from __future__ import annotations

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from upscale.errors import InvalidRequest, TooLarge, UnsupportedMediaType
from upscale.server.forms import Form, ImagePart, bytes_as_parts, is_image_name
from upscale.server.ids import random_token
from upscale.server.multipart import TEXT_BYTES, MultipartReader
from upscale.server.spool import private_file, storing

_TAKEN = "Send multipart/form-data, or application/json with the image as a URL or data URI"
_MAX_FIELDS = 1000
_MAX_DEPTH = 4
# Bodies that must be in memory as a whole to be parsed, several times over: longer ones wait for
# their turn on the disk.
_LARGE_BYTES = 16 << 20
_HEAD_BYTES = 1024


async def read_form(request: Request, folder: Path, max_bytes: int, *, large: asyncio.Lock) -> Form:
    """Read the whole body; files go to `folder`. Large bodies without parts are parsed one at a
    time, under the lock `large`.

    Raises TooLarge as soon as `max_bytes` are passed (at once where Content-Length says so),
    UnsupportedMediaType, and InvalidRequest for a body that is not what its header says.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    pieces = _limited(request, max_bytes)
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"Content-Encoding '{encoding[:40]}' is not taken: send it plain."
        )
    if kind == b"multipart/form-data":
        return await _read_multipart(pieces, options.get(b"boundary"), folder)
    if kind == b"application/json":
        return await _read_whole(pieces, _read_json, folder, large)
    if kind == b"application/x-www-form-urlencoded":
        return await _read_whole(pieces, _read_urlencoded, folder, large)
    shown = kind.decode("latin-1")[:80] or "missing"
    raise UnsupportedMediaType(f"Content-Type is {shown}. {_TAKEN}.")


async def _limited(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large("The request body", int(length), max_bytes)
    got = 0
    async for piece in request.stream():
        got += len(piece)
        if got > max_bytes:
            raise _too_large("The request body so far", got, max_bytes)
        yield piece


def _too_large(what: str, got: int, limit: int) -> TooLarge:
    return TooLarge(
        what,
        got=got,
        limit=limit,
        unit="bytes",
        advice="Send a smaller file, or raise UPSCALE_MAX_BODY_BYTES on the server.",
        field=None,
    )


async def _read_whole(
    pieces: AsyncIterator[bytes],
    read: Callable[[IO[bytes], Path], Form],
    folder: Path,
    large: asyncio.Lock,
) -> Form:
    with tempfile.SpooledTemporaryFile(_LARGE_BYTES, dir=str(folder)) as body:
        async for piece in pieces:
            with storing("the upload"):
                body.write(piece)
        turn = large if body.tell() > _LARGE_BYTES else contextlib.nullcontext()
        body.seek(0)
        async with turn:
            return await asyncio.to_thread(read, body, folder)


async def _read_multipart(
    pieces: AsyncIterator[bytes], boundary: bytes | None, folder: Path
) -> Form:
    if not boundary:
        raise InvalidRequest(
            "Content-Type says multipart/form-data without a boundary. "
            "Let the HTTP client set this header."
        )
    with contextlib.closing(MultipartReader(boundary, folder)) as reader:
        async for piece in pieces:
            reader.feed(piece)
        return reader.finish()


def _read_json(body: IO[bytes], folder: Path) -> Form:
    if body.read(_HEAD_BYTES).lstrip(b"\r\n\t ").startswith(b"--"):
        raise InvalidRequest(
            "The body looks like multipart/form-data while Content-Type says application/json. "
            "Do not set Content-Type yourself; the client knows the boundary."
        )
    body.seek(0)
    try:
        data = json.loads(body.read(), parse_float=Decimal, parse_constant=str)
    except (ValueError, ArithmeticError, RecursionError) as fault:
        reason = str(fault) if isinstance(fault, json.JSONDecodeError) else "unreadable"
        raise InvalidRequest(f"The body is not valid JSON: {reason}.") from fault
    if not isinstance(data, dict):
        raise InvalidRequest("The JSON body must be an object.")
    form = Form()
    for name, value in data.items():
        if is_image_name(name):
            form.images.extend(_on_disk(part, folder) for part in _json_images(name, value))
        elif isinstance(value, str):
            form.add(name, value[:TEXT_BYTES])
        elif isinstance(value, int | Decimal):
            form.add(name, value)
        elif value is not None:
            form.add(name, json.dumps(value, default=str)[:80])
    return form


def _json_images(name: str, value: Any, depth: int = 0) -> Iterator[ImagePart]:
    """Every string in an image field: plain, in lists, under `url` or `image_url`."""
    if isinstance(value, str):
        # surrogatepass: lone surrogates are no URL either, and are refused as one later.
        data = value.encode("utf-8", "surrogatepass")
        yield ImagePart(name, None, len(data), data)
    elif isinstance(value, list) and depth < _MAX_DEPTH:
        if value and all(type(item) is int for item in value):
            raise bytes_as_parts()
        for item in value:
            yield from _json_images(name, item, depth + 1)
    elif isinstance(value, dict) and depth < _MAX_DEPTH:
        if value.get("type") == "Buffer":
            raise bytes_as_parts()
        for key in ("url", "image_url"):
            yield from _json_images(name, value.get(key), depth + 1)
    elif value is not None:
        raise InvalidRequest(
            "In JSON, 'image' is a URL or a data URI as a string (or {\"url\": …}).", field="image"
        )


def _read_urlencoded(body: IO[bytes], folder: Path) -> Form:
    form = Form()
    try:
        pairs = parse_qsl(body.read(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError as fault:
        raise InvalidRequest(f"The body is not a valid form: {fault}.") from fault
    for name_bytes, value in pairs:
        name = name_bytes.decode("utf-8", "replace")
        if is_image_name(name):
            form.images.append(_on_disk(ImagePart(name, None, len(value), value), folder))
        else:
            form.add(name, value[:TEXT_BYTES].decode("utf-8", "replace"))
    return form


def _on_disk(part: ImagePart, folder: Path) -> ImagePart:
    """The part, moved to a file where it is long: it may wait for a while in the queue."""
    if part.size <= TEXT_BYTES:
        return part
    path = folder / f"text-{random_token()}"
    with storing("the image"), private_file(path) as file:
        file.write(part.data)
    return replace(part, data=part.data[:TEXT_BYTES], path=path)
