"""One request at another server, as its record has it: told before it is sent, and how it ended,
however that was. Knows nothing of bodies.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from upscale.errors import JobCancelled, UpstreamError
from upscale.providers.outcome import Billed, Failure
from upscale.providers.passthrough import Forwarded, Passthrough
from upscale.server.owed import Owed
from upscale.server.recording import Recorder, Recording, error_fields, status_of
from upscale.server.records.rows import Status


@dataclass
class Call:
    """One call, which may be paid for. `free`: it goes to a server of the house. `quote` is what is
    booked, in millionths of a dollar, where it may have been billed and nobody says at what.
    `under_way`: some of its body has gone.
    """

    recorder: Recorder
    record: Recording
    target: Passthrough
    path: str
    size: int
    free: bool
    quote: int = 0
    reply: Forwarded | None = None
    under_way: bool = False
    _sent: int = 0
    _begun: float = field(default_factory=time.monotonic)
    _ended: bool = False

    async def asks_price(self) -> None:
        """The body is about to be sent for a quote."""
        await self._sends()

    async def begins(self) -> None:
        """It is about to be sent. Raises JobCancelled where the request has ended meanwhile.

        A server that dies from now on has told of it, and what it may have come to is booked.
        """
        attempts = [self._attempt(billed="no" if self.free else "maybe")]
        # Nothing is owed where the request ends just now, before anything is sent.
        self.record.tell(remote_attempts=[], remote_job=None, idempotency_kept=False)
        await self._sends(
            status="processing",
            remote_attempts=attempts,
            remote_job=self._owed,
            idempotency_kept=not self.free,
        )
        self.recorder.feeds.open(self.record.id).tell("state", {"status": "processing"})
        self._begun = time.monotonic()
        self.tells()

    def failed(self, failure: Failure) -> None:
        """No reply came: what the end of the request is to say of it."""
        billed: Billed = "no" if self.free else failure.billed
        attempt = self._attempt(**{**failure.to_json(), "billed": billed})
        self._tell(0 if billed == "no" else self.quote, attempt)

    def took_a_dry_run_for_a_run(self, cost_micros: int | None) -> None:
        """The same of a dry run that was answered like a run."""
        attempt = self._attempt(billed="maybe", cost_micros=cost_micros)
        self._tell(cost_micros or 0, attempt)

    async def was_a_dry_run(self) -> None:
        """What was asked as a dry run is done there: on record, as the request that it became."""
        await self._sends(status="processing", dry_run=True)
        self.tells()

    def tells(self) -> None:
        """What is known of it by now, for whatever ends the request."""
        cost, billed = self._cost()
        self._tell(cost, self._attempt(billed=billed))

    async def cancelled(self) -> None:
        """The caller left, or somebody ended the request, while it was at work there.

        Its idempotency key stays taken where a repeat would pay again.
        """
        error = JobCancelled("The request ended while it was at work elsewhere.")
        await self._end(status_of(error), **error_fields(error))

    async def ends(self, got: int, *, whole: bool, media: tuple[str, ...] = ()) -> None:
        """`got` bytes of the reply came, all of them or not. Again changes nothing."""
        assert self.reply is not None
        status: Status = "completed"
        fields: dict[str, Any] = {}
        if not whole:
            status = "upstream_failure" if self.reply.cut else "cancelled"
            fields = error_fields(UpstreamError("The reply broke off."))
        elif self.reply.status >= 400:
            status = "rejected" if self.reply.status < 500 else "upstream_failure"
            told = f"{self.target.name} answered {self.reply.status}."
            fields = error_fields(UpstreamError(told, status=self.reply.status))
        await self._end(status, response_size_bytes=got, media=list(media), **fields)

    async def _end(self, status: Status, **fields: Any) -> None:
        if self._ended:
            return
        self._ended = True
        self.record.hand_over()  # nobody else writes its end
        cost, billed = self._cost()
        known = {} if self.reply is None else self.reply.headers
        if status != "completed":
            fields["idempotency_key"] = None
        attempt = self._attempt(
            http_status=None if self.reply is None else self.reply.status,
            job=known.get("x-lumenfall-request-id"),
            billed=billed,
            cost_micros=cost if billed == "yes" else None,
            seconds=round(time.monotonic() - self._begun, 3),
        )
        await self.recorder.finish(
            self.record.id,
            status,
            executed_model=known.get("x-lumenfall-model"),
            **self._booked(cost, attempt),
            **fields,
        )

    def _cost(self) -> tuple[int, Billed]:
        """What is booked, and whether it was billed."""
        reply = self.reply
        if self.free:
            return 0, "no"
        if reply is None:
            return (self.quote, "maybe") if self.under_way else (0, "no")
        if reply.refused and not reply.cost_micros:
            return 0, "no"
        if reply.cost_micros is not None:
            return reply.cost_micros, "yes"
        return self.quote, "maybe"

    async def _sends(self, **fields: Any) -> None:
        self._sent += self.size
        await self.record.change(
            durable=True,
            early=True,
            provider=self.target.provider,
            sent_to=self.target.host,
            sent_bytes=self._sent,
            quote_micros=self.quote or None,
            **fields,
        )
        self.record.tell(sent_to=self.target.host, sent_bytes=self._sent)

    def _tell(self, cost: int, attempt: dict[str, Any]) -> None:
        self.record.tell(**self._booked(cost, attempt))

    def _booked(self, cost: int, attempt: dict[str, Any]) -> dict[str, Any]:
        return {
            "cost_micros": cost,
            "sent_to": self.target.host,
            "sent_bytes": self._sent,
            "remote_attempts": [attempt],
            "remote_job": None,
            "idempotency_kept": attempt["billed"] != "no",
        }

    @property
    def _owed(self) -> dict[str, Any] | None:
        """What is booked for a request that was ended from outside, or died: no job that somebody
        could be asked for, only its quote.
        """
        return None if self.free else Owed(spent_micros=self.quote).to_json()

    def _attempt(self, **known: Any) -> dict[str, Any]:
        told = {
            "provider": self.target.provider,
            "endpoint": self.path,
            "sent_to": [self.target.host],
            **known,
        }
        return {name: value for name, value in told.items() if value is not None}
