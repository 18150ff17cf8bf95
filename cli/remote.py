"""A batch by a running server, several pictures at once. Never loads torch."""

from __future__ import annotations

import asyncio
import struct
import time
import zlib
from collections.abc import Coroutine, Iterator
from contextlib import AbstractContextManager, nullcontext
from decimal import Decimal, InvalidOperation
from typing import Any

from upscale.cli.batch import Batch, Claim, Work
from upscale.cli.client import Client
from upscale.cli.console import Interrupts, complain, printable, say
from upscale.cli.options import deciding
from upscale.cli.plans import described_quote
from upscale.cli.progress import Overview, overview, result_line
from upscale.cli.servers import ServerOptions, check_allowed
from upscale.errors import InvalidParameter
from upscale.settings import Settings

# How often it is looked whether a signal came, in seconds.
_LOOK = 0.1
# Side in pixels of the picture by which a server is asked what it would do.
_SAMPLE = 64


class Remote:
    """Raises InvalidRequest where no picture may leave for that server."""

    def __init__(
        self, batch: Batch, settings: Settings, interrupts: Interrupts, server: ServerOptions
    ) -> None:
        check_allowed(server, settings)
        self._batch, self._server, self._interrupts = batch, server, interrupts
        self._options = batch.options
        self._fields = _fields(batch)
        self._at_work: list[str] = []
        self._micros = 0
        self._show: Overview | None = None

    def run(self) -> None:
        """Upscale, or plan, what the batch holds.

        Raises InvalidRequest for what the server takes no picture with, Stopped where it cannot be
        asked.
        """
        with self._interrupts.gently():
            asyncio.run(self._until_interrupted())
        self._interrupts.check()

    async def _until_interrupted(self) -> None:
        work = asyncio.create_task(self._all())
        while not work.done():
            await asyncio.wait({work}, timeout=_LOOK)
            if self._interrupts.wanted():
                # Closing the connections cancels the jobs of the server, too.
                work.cancel()
                await asyncio.wait({work})
                return
        work.result()

    async def _all(self) -> None:
        batch = self._batch
        async with Client(self._server, self._tell) as client:
            scale, network = await self._preflight(client)
            facts = deciding(
                self._options,
                network=network,
                scale=scale,
                format=batch.format,
                background=batch.background,
                settings=None,
            )
            with batch.opened(scale, facts), overview(len(batch.works)) as self._show:
                works = iter(batch.works)
                await _together(
                    self._take(client, works)
                    for _ in range(min(self._server.in_flight, len(batch.works)))
                )

            if self._options.dry_run and batch.several:
                complain(f"All of it costs {self._micros / 1e6:.6f} USD.")

    async def _preflight(self, client: Client) -> tuple[Decimal, dict[str, Any]]:
        """The factor, and what would upscale, by the plan for a small picture: a wrong option, key
        or model is told before anything is sent.
        """
        quote = await client.quote(_sample(), self._fields, ".png")
        plan = quote.get("plan")
        try:
            if isinstance(plan, dict):
                network = plan["network"]
                blend = {"blend": network["blend"]} if network["blend"] != 1.0 else {}
                return Decimal(plan["scale_factor"]), {"network": network["key"], **blend}
        except (KeyError, TypeError, InvalidOperation):
            pass
        # No server of ours: it tells what it costs, not how it is done.
        model = {"model": self._options.model, "provider": str(quote.get("provider"))}
        if self._options.scale is not None:
            return Decimal(self._options.scale), model
        rule = (await client.model(self._options.model)).get("scale_factor")
        default = rule.get("default") if isinstance(rule, dict) else None
        if default is None:
            allowed = "a number: this server does not tell the model's own"
            raise InvalidParameter("--scale", None, allowed)
        return Decimal(str(default)), model

    async def _take(self, client: Client, works: Iterator[Work]) -> None:
        """One picture after the other, while there are any."""
        for work in works:
            name = printable(work.item.path.name)
            self._at_work.append(name)
            self._update()
            try:
                with self._batch.reporting(work, self._aside):
                    await self._one(client, work)
            finally:
                self._at_work.remove(name)
            self._update()
            # Pictures that are done already are no work; a signal must get its turn all the same.
            await asyncio.sleep(0)

    async def _one(self, client: Client, work: Work) -> None:
        path = work.item.path
        with self._batch.claimed(work) as claim:
            if claim is None:
                return
            if self._options.dry_run:
                quote = await client.quote(path, self._fields, path.suffix)
                self._batch.done += 1
                self._micros += int(quote.get("total_cost_micros") or 0)
                with self._aside():
                    say(described_quote(path, work.target, quote))
                return
            begun = time.monotonic()
            reply = await client.edit(path, self._fields, claim.scratch, path.suffix)
            self._finish(claim, reply, time.monotonic() - begun)

    def _finish(self, claim: Claim, reply: dict[str, Any], seconds: float) -> None:
        path, target = claim.work.item.path, claim.work.target
        width, height = _size(reply)
        metadata = _dict(reply.get("metadata"))
        receipt = _dict(metadata.get("receipt"))
        key = _dict(receipt.get("network")).get("key")
        about = {name: value for name, value in metadata.items() if name != "receipt"}
        self._batch.finish(
            claim,
            size=(width, height),
            seconds=seconds,
            receipt={**receipt, "server": self._server.url, **about},
            network=str(key or ""),
        )
        precision = str(receipt.get("precision") or "")
        # The time of the work itself, as in a local run, where the server tells it.
        seconds = float(_dict(receipt.get("seconds")).get("total") or seconds)
        with self._aside():
            say(result_line(path, target, width, height, seconds, printable(precision)))
            for note in receipt.get("notes") or ():
                complain(f"{printable(path)}: {printable(str(note))}")

    def _tell(self, line: str) -> None:
        with self._aside():
            complain(line)

    def _update(self) -> None:
        batch = self._batch
        failed = batch.failed - len(batch.found.problems)
        if self._show is not None:
            self._show.update(batch.done + batch.skipped + failed, self._at_work)

    def _aside(self) -> AbstractContextManager[None]:
        return nullcontext() if self._show is None else self._show.aside()


def _fields(batch: Batch) -> dict[str, str]:
    """The form that goes with each picture; what was not asked for is left to the server."""
    options = batch.options
    wanted = {
        "model": options.model,
        "prompt": "",
        "response_format": "url",
        "output_format": batch.format,
        "scale_factor": options.scale,
        "output_compression": options.quality,
        "background_color": batch.background if batch.background != "#ffffff" else None,
        "strip_metadata": "true" if options.strip_metadata else None,
        "seed": options.seed or None,
        "denoise": options.denoise,
    }
    return {name: str(value) for name, value in wanted.items() if value is not None}


async def _together(works: Iterator[Coroutine[Any, Any, None]]) -> None:
    """Run them all; the first that raises ends the others, and is raised when they have ended."""
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _sample() -> bytes:
    """A grey PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", _SAMPLE, _SAMPLE, 8, 2, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * 3 * _SAMPLE) * _SAMPLE)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _size(reply: dict[str, Any]) -> tuple[int, int]:
    """Width and height of a result; zeros where the server does not tell."""
    width, _, height = str(reply.get("size")).partition("x")
    return (int(width), int(height)) if width.isdecimal() and height.isdecimal() else (0, 0)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
