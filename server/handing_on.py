"""Replies of other servers on their way to a caller: gathered while they are small, else handed on
as they arrive.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from upscale import logs
from upscale.providers.outcome import Failure
from upscale.server.faults import BrokenOff

log = logs.get("server")


class Ends(Protocol):
    """What is told that `got` bytes went through, all that there were or not."""

    async def __call__(self, got: int, *, whole: bool) -> None:
        """Write it down."""


async def gathered(pieces: AsyncIterator[bytes], most: int) -> tuple[bytes, bool]:
    """What comes, and whether that is all; else more than `most` bytes came, the last piece whole.
    Raises Failure.
    """
    content = bytearray()
    async for piece in pieces:
        content += piece
        if len(content) > most:
            return bytes(content), False
    return bytes(content), True


class HandedOn(StreamingResponse):
    """`head` and the pieces that follow it. However the way ends, `ends` is told and `stack`, which
    holds the connection, closed.
    """

    def __init__(
        self,
        head: bytes,
        pieces: AsyncIterator[bytes],
        stack: contextlib.AsyncExitStack,
        ends: Ends | None,
        status: int,
        headers: Mapping[str, str],
    ) -> None:
        super().__init__(self._through(head, pieces), status_code=status, headers=headers)
        self._stack, self._ends = stack, ends
        self._got, self._whole = 0, False
        length = self.headers.get("content-length", "")
        self._length = int(length) if length.isdecimal() else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            try:
                if self._ends is not None:
                    await self._ends(self._got, whole=self._whole)
            finally:
                await self._stack.aclose()

    async def _through(self, head: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            if head:
                await self._came(head)
                yield head
            async for piece in pieces:
                await self._came(piece)
                yield piece
        except Failure:
            log.warning("a forwarded reply broke off", extra=logs.fields(bytes=self._got))
            raise BrokenOff("the reply broke off") from None
        await self._all_came()

    async def _came(self, piece: bytes) -> None:
        self._got += len(piece)
        if self._got == self._length:
            await self._all_came()

    async def _all_came(self) -> None:
        """Before the caller has the last of it: who asks then what became of it is told."""
        self._whole = True
        if self._ends is not None:
            await self._ends(self._got, whole=True)
