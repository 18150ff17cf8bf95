"""One background job: what its record wants done, and how far this process is with it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict, dataclass, field
from decimal import Decimal

from upscale.engine.plan import Request as PlanRequest
from upscale.server.records.rows import Row


@dataclass(frozen=True)
class Accepted:
    """What a job needs to run, besides its picture: names in replies, the network, the wish."""

    model: str
    network: str
    blend: float
    wish: PlanRequest
    n: int
    inline: bool
    base_url: str

    def to_json(self) -> str:
        """As a record has it."""
        return json.dumps({**asdict(self), "wish": asdict(self.wish)}, default=str)

    @classmethod
    def from_json(cls, text: str) -> Accepted:
        """The inverse of `to_json`."""
        data = json.loads(text)
        wish = {**data["wish"], "scale_factor": Decimal(data["wish"]["scale_factor"])}
        return cls(**{**data, "wish": PlanRequest(**wish)})


@dataclass(eq=False)
class Job:
    """A job that this process has taken. Belongs to the event loop.

    `work` makes and stores its result, `task` sees it to its end. `begun`: the device has begun
    with it; `made`: its result is there and only has to be stored; `left`: it waits for another
    turn, or is another process's.
    """

    row: Row
    begun: bool = False
    made: bool = False
    left: bool = False
    work: asyncio.Future[None] = field(init=False)
    task: asyncio.Task[None] = field(init=False)

    def leave(self) -> None:
        """Stop the work, which is no end."""
        self.left = True
        self.work.cancel()
