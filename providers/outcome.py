"""What a provider's failure means: how the caller is told, whether another route may be tried,
whether it may have been billed, whether the route goes off. Data; knows no provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Literal

from upscale.errors import InvalidRequest, UpscaleError, UpstreamError

Billed = Literal["no", "maybe", "yes"]


class Kind(StrEnum):
    """A way to fail; also `error.reason` for the caller."""

    INPUT = "invalid_input"
    POLICY = "content_policy"
    KEY = "provider_key"
    BALANCE = "provider_balance"
    GONE = "provider_model"
    BUSY = "provider_busy"
    UNREACHED = "unreachable"
    BROKEN = "provider_error"
    BARRED = "barred"
    RUN_FAILED = "run_failed"
    IN_DOUBT = "in_doubt"
    TOO_LATE = "deadline"
    BAD_RESULT = "bad_result"


@dataclass(frozen=True)
class Outcome:
    """What follows from a kind of failure.

    `elsewhere`: may another route be tried (unbilled: where the provider bills nothing for it).
    `billed`: whether it is, where the provider does not say. `off`: the route is not used again
    until the settings change. `blame`: it counts against the route's health.
    """

    status: int
    elsewhere: Literal["yes", "no", "unbilled"]
    billed: Billed = "no"
    off: bool = False
    blame: bool = True


OUTCOMES: Mapping[Kind, Outcome] = MappingProxyType(
    {
        Kind.INPUT: Outcome(400, "no", blame=False),
        Kind.POLICY: Outcome(400, "no", "maybe", blame=False),
        Kind.KEY: Outcome(502, "yes", off=True),
        Kind.BALANCE: Outcome(502, "yes", off=True),
        Kind.GONE: Outcome(502, "yes", off=True),
        Kind.BUSY: Outcome(502, "yes"),
        Kind.UNREACHED: Outcome(502, "yes"),
        Kind.BROKEN: Outcome(502, "yes"),
        Kind.BARRED: Outcome(502, "yes", blame=False),
        Kind.RUN_FAILED: Outcome(502, "unbilled", "maybe"),
        Kind.IN_DOUBT: Outcome(504, "no", "maybe"),
        Kind.TOO_LATE: Outcome(504, "no", "maybe"),
        Kind.BAD_RESULT: Outcome(502, "unbilled", "yes"),
    }
)


_OURS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.KEY: "it refused the server's key.",
        Kind.BALANCE: "the server's account there cannot pay.",
        Kind.GONE: "it does not have the model any more.",
    }
)


class Failure(Exception):
    """A route failed. `message` is for people: without secrets, a sentence or two.

    `billed` and `cost_micros` (millionths of a dollar) are what is known; `retry_after` is in
    seconds, where the provider says; `job` is the provider's id.
    """

    def __init__(
        self,
        kind: Kind,
        message: str,
        *,
        http: int | None = None,
        retry_after: float | None = None,
        job: str = "",
        billed: Billed | None = None,
        cost_micros: int | None = None,
    ) -> None:
        super().__init__(message)
        self.kind, self.message, self.http = kind, message, http
        self.retry_after, self.job = retry_after, job
        self.billed: Billed = billed if billed is not None else OUTCOMES[kind].billed
        self.cost_micros = cost_micros

    @property
    def outcome(self) -> Outcome:
        """What follows from it."""
        return OUTCOMES[self.kind]

    @property
    def shown(self) -> str:
        """The message for callers: what is between the operator and the provider is not theirs."""
        return _OURS.get(self.kind, self.message)

    @property
    def elsewhere(self) -> bool:
        """Whether another route may be tried."""
        rule = self.outcome.elsewhere
        return rule == "yes" or (rule == "unbilled" and self.billed == "no")

    def to_json(self) -> dict[str, Any]:
        """For the receipt and the record."""
        facts = {
            "error": str(self.kind),
            "message": self.shown,
            "http_status": self.http,
            "job": self.job or None,
            "billed": self.billed,
            "cost_micros": self.cost_micros,
        }
        return {name: value for name, value in facts.items() if value is not None}


def told(failure: Failure, name: str, attempts: Sequence[dict[str, Any]] = ()) -> UpscaleError:
    """The error for the caller, of a failure at the provider `name` that ends the request."""
    text = f"{name}: {failure.shown}"
    if failure.kind is Kind.INPUT:
        return InvalidRequest(text)
    if failure.billed != "no" and failure.outcome.status >= 500:
        text += " It may have been billed." if failure.billed == "maybe" else " It was billed."
    return UpstreamError(
        text, status=failure.outcome.status, reason=str(failure.kind), attempts=attempts
    )
