"""One background job: what its record wants done, and how far this process is with it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from typing import Any

from upscale.engine.plan import Request as PlanRequest
from upscale.server.records.rows import Row
from upscale.server.remote_plan import RemoteWish


@dataclass(frozen=True)
class Accepted:
    """What a job needs to run, besides its picture: names in replies, and either a network and the
    wish, or what is asked of a provider.
    """

    model: str
    n: int
    inline: bool
    base_url: str
    network: str = ""
    blend: float = 1.0
    wish: PlanRequest | None = None
    remote: RemoteWish | None = None

    def to_json(self) -> str:
        """As a record has it."""
        remote = None if self.remote is None else self.remote.to_json()
        return json.dumps({**vars(self), "wish": _plain(self.wish), "remote": remote}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Accepted:
        """The inverse of `to_json`."""
        data = json.loads(text)
        if data["wish"] is not None:
            factor = Decimal(data["wish"]["scale_factor"])
            data["wish"] = PlanRequest(**{**data["wish"], "scale_factor": factor})
        if data.get("remote") is not None:
            data["remote"] = RemoteWish.from_json(data["remote"])
        return cls(**data)


def _plain(wish: PlanRequest | None) -> dict[str, Any] | None:
    return None if wish is None else asdict(wish)


@dataclass(eq=False)
class Job:
    """A job that this process has taken. Belongs to the event loop.

    `work` makes and stores its result, `task` sees it to its end. `begun`: the device, or the
    provider of a `remote` one, has begun with it; `made`: its result is there and only has to be
    stored; `left`: it waits for another turn, or is another process's. `facts` are what its record
    is to say however it ends, as the cost of a paid call.
    """

    row: Row
    remote: bool = False
    begun: bool = False
    made: bool = False
    left: bool = False
    facts: dict[str, Any] = field(default_factory=dict)
    work: asyncio.Future[None] = field(init=False)
    task: asyncio.Task[None] = field(init=False)

    def leave(self) -> None:
        """Stop the work, which is no end."""
        self.left = True
        self.work.cancel()
