"""The body of a request into a Form: multipart (with or without a length), JSON, or urlencoded.

Every piece is counted and handed on as it arrives; nothing here or below holds a picture in memory.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from upscale.errors import InvalidRequest, JobCancelled, TooLarge, UnsupportedMediaType
from upscale.server.forms import Form
from upscale.server.json_reader import JsonReader
from upscale.server.multipart import MultipartReader
from upscale.server.spool import RequestFolder, private_file, storing
from upscale.server.urlencoded import UrlencodedReader

_TAKEN = "Send multipart/form-data, or application/json with the image as a URL or data URI"


class Reader(Protocol):
    """What reads a body of one kind, piece by piece."""

    def feed(self, data: bytes) -> None:
        """The next piece, of any length."""

    def finish(self) -> Form:
        """The Form, once the whole body was fed."""

    def close(self) -> None:
        """Close what is open."""


async def read_form(
    request: Request,
    folder: RequestFolder,
    max_bytes: int,
    idle_seconds: float,
    copy: Path | None = None,
) -> Form:
    """Read the whole body; files go to `folder`. The caller may be silent for `idle_seconds`.
    `copy` is a new file for the body as it came.

    Raises TooLarge as soon as `max_bytes` are passed (at once where Content-Length says so),
    UnsupportedMediaType, InvalidRequest for a body that is not what its header says, JobCancelled
    where the caller goes away, and what `RequestFolder.take` raises.
    """
    _check_length(request, folder, max_bytes)
    with contextlib.ExitStack() as stack:
        reader = stack.enter_context(contextlib.closing(_reader(request, folder.path)))
        kept = None if copy is None else stack.enter_context(private_file(copy))
        async for piece in _limited(request, max_bytes, idle_seconds):
            folder.take(len(piece) if kept is None else 2 * len(piece))
            reader.feed(piece)
            if kept is not None:
                with storing("the request"):
                    kept.write(piece)
        return reader.finish()


async def spool_body(
    request: Request, folder: RequestFolder, target: Path, max_bytes: int, idle_seconds: float
) -> None:
    """The whole body as it came into the new file `target`; limits and errors as of `read_form`."""
    _check_length(request, folder, max_bytes)
    with storing("the request"), private_file(target) as file:
        async for piece in _limited(request, max_bytes, idle_seconds):
            folder.take(len(piece))
            file.write(piece)


def _check_length(request: Request, folder: RequestFolder, max_bytes: int) -> None:
    length = request.headers.get("content-length", "")
    if length.isdecimal():
        _check_size("The request body", int(length), max_bytes)
        folder.check(int(length))


def _reader(request: Request, folder: Path) -> Reader:
    kind, options = parse_options_header(request.headers.get("content-type"))
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedMediaType(
            f"Content-Encoding '{encoding[:40]}' is not taken: send it plain."
        )
    if kind == b"multipart/form-data":
        return MultipartReader(_boundary(options), folder)
    if kind == b"application/json":
        return JsonReader(folder)
    if kind == b"application/x-www-form-urlencoded":
        return UrlencodedReader(folder)
    shown = kind.decode("latin-1")[:80] or "missing"
    raise UnsupportedMediaType(f"Content-Type is {shown}. {_TAKEN}.")


def _boundary(options: dict[bytes, bytes]) -> bytes:
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest(
            "Content-Type says multipart/form-data without a boundary. "
            "Let the HTTP client set this header."
        )
    return boundary


async def _limited(request: Request, max_bytes: int, idle_seconds: float) -> AsyncIterator[bytes]:
    got = 0
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(idle_seconds):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except ClientDisconnect:
            raise JobCancelled("The caller closed the connection.") from None
        except TimeoutError:
            raise InvalidRequest(
                f"The upload stalled: nothing came for {idle_seconds:g} seconds. Send it again."
            ) from None
        got += len(piece)
        _check_size("The request body so far", got, max_bytes)
        yield piece


def _check_size(what: str, got: int, limit: int) -> None:
    if got > limit:
        raise TooLarge(
            what,
            got=got,
            limit=limit,
            unit="bytes",
            advice="Send a smaller file, or raise UPSCALE_MAX_BODY_BYTES on the server.",
            field=None,
        )
