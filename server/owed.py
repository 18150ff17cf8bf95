"""Paid calls whose end is not known yet, as the record of their request keeps them (`remote_job`):
the one place that knows its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from upscale.providers.task import RemoteJob


@dataclass(frozen=True)
class Owed:
    """The calls and what each was quoted at, by the number of their result; what others of the
    same request have cost, which are settled or which nobody can be asked for. Money in millionths
    of a dollar.
    """

    jobs: Mapping[int, RemoteJob] = field(default_factory=dict)
    quoted: Mapping[int, int] = field(default_factory=dict)
    spent_micros: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a record."""
        jobs = [
            {"index": index, "quoted": self.quoted.get(index, 0), **job.to_json()}
            for index, job in sorted(self.jobs.items())
        ]
        return {"jobs": jobs, "spent_micros": self.spent_micros}

    @classmethod
    def from_json(cls, told: Mapping[str, Any] | None) -> Owed:
        """The inverse of `to_json`; of None nothing."""
        jobs, quoted = {}, {}
        for each in (told or {}).get("jobs", ()):
            job = dict(each)
            index = job.pop("index")
            quoted[index] = job.pop("quoted")
            jobs[index] = RemoteJob.from_json(job)
        return cls(jobs, quoted, (told or {}).get("spent_micros", 0))
