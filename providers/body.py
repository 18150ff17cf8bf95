"""Bodies of requests whose length is known before: JSON, multipart forms, files; files are read as
they are sent. Knows whether the last byte was handed over.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PIECE = 1 << 16


@dataclass(frozen=True)
class Body:
    """Bytes and files, one after the other."""

    parts: tuple[bytes | Path, ...]
    content_type: str

    @property
    def length(self) -> int:
        """In bytes."""
        return sum(p.stat().st_size if isinstance(p, Path) else len(p) for p in self.parts)


def json_body(value: object) -> Body:
    """A JSON document."""
    return Body((json.dumps(value, separators=(",", ":")).encode(),), "application/json")


def file_body(path: Path, mime: str) -> Body:
    """A file as it is."""
    return Body((path,), mime)


def form_body(fields: Mapping[str, Any], part: str, path: Path, name: str, mime: str) -> Body:
    """A multipart form: fields as text, then a file under the name `name`."""
    mark = os.urandom(16).hex()
    head = "".join(
        f'--{mark}\r\nContent-Disposition: form-data; name="{_quoted(field)}"\r\n\r\n'
        f"{_text(value)}\r\n"
        for field, value in fields.items()
    )
    head += (
        f'--{mark}\r\nContent-Disposition: form-data; name="{part}"; filename="{_quoted(name)}"\r\n'
        f"Content-Type: {mime}\r\n\r\n"
    )
    tail = f"\r\n--{mark}--\r\n".encode()
    return Body((head.encode(), path, tail), f"multipart/form-data; boundary={mark}")


def _quoted(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _text(value: object) -> str:
    return ("true" if value else "false") if isinstance(value, bool) else str(value)


class Relayed:
    """A body that somebody else is still sending. `complete`: its last piece was handed over."""

    def __init__(self, pieces: AsyncIterable[bytes]) -> None:
        self._pieces_in = pieces
        self.complete = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The pieces, one behind, so that the last one is known for what it is."""
        held = b""
        async for piece in self._pieces_in:
            if held:
                yield held
            held = piece
        self.complete = True
        if held:
            yield held


class Sending:
    """A body on its way, once. `complete`: its last byte was handed over."""

    def __init__(self, body: Body, handed_over: Callable[[], None] = lambda: None) -> None:
        self._body, self._handed_over = body, handed_over
        self.length = body.length
        self.complete = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """The bytes; the last one comes alone, so that `complete` is true of it only."""
        left = self.length
        async for piece in self._pieces():
            left -= len(piece)
            if left > 0:
                yield piece
                continue
            if len(piece) > 1:
                yield piece[:-1]
            self.complete = True
            self._handed_over()
            yield piece[-1:]
            return
        self.complete = self.length == 0

    async def _pieces(self) -> AsyncIterator[bytes]:
        for part in self._body.parts:
            if isinstance(part, bytes):
                for at in range(0, len(part), _PIECE):
                    yield part[at : at + _PIECE]
                continue
            with await asyncio.to_thread(part.open, "rb") as file:
                while piece := await asyncio.to_thread(file.read, _PIECE):
                    yield piece
