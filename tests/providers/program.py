"""One request to one provider, its notes kept as they come: to be killed at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.providers.rig import MODELS, OWN
from tests.providers.tools import FastClock, Notes, make_task, settings_for
from upscale.providers.registry import Providers
from upscale.providers.task import RemoteJob


async def main(provider: str, url: str, folder: Path) -> None:
    """Serve it, and say so."""
    record = (folder / "notes").open("a", encoding="utf-8")

    class Kept(Notes):
        async def note(self, job: RemoteJob) -> None:
            record.write(json.dumps(job.to_json()) + "\n")
            record.flush()
            os.fsync(record.fileno())

    model, factor = MODELS[provider]
    clock = FastClock()
    given: dict[str, Any] = {"factor": factor, "size": (40, 36)}
    task = make_task(folder, model, provider, clock=clock, notes=Kept(), **given)
    settings = settings_for(**{provider: url}).model_copy(update=OWN)
    providers = Providers(settings, clock=clock.clock)
    print("ready", flush=True)
    await providers.adapters[provider].run(task)
    await providers.aclose()
    print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
