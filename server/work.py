"""One upscale that is decided and paid for, on its way through the engine: what the foreground and
background jobs have in common.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from upscale import logs
from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.receipt import Progress, Receipt
from upscale.errors import CheckpointError, RecordsFault
from upscale.server.records.speeds import Speeds
from upscale.server.services import UpscaleEngine
from upscale.server.threads import asked, whole

log = logs.get("server")

# Profiles, EXIF and XMP of a result, and the frame of its format.
_METADATA_BYTES = 1 << 20

# Shorter jobs tell more of what surrounds them than of the network's speed.
_TELLING_SECONDS = 2.0


@dataclass(frozen=True)
class Expected:
    """A Plan whose expected time was corrected by `factor`, as measured on earlier jobs."""

    plan: Plan
    factor: float


@dataclass(frozen=True)
class Turn:
    """Whose job it is, and how urgent; `patient` ones wait however long the queue is."""

    share: str
    priority: int
    patient: bool = False


async def expected(plan: Plan, speeds: Speeds) -> Expected:
    """The Plan with the time that jobs of its network on this device really take."""
    factor = await asked(speeds.factor, plan.network.key, _device(plan))
    seconds = round(plan.expected_seconds * factor, 2)
    return Expected(replace(plan, expected_seconds=seconds), factor)


async def run(
    engine: UpscaleEngine,
    speeds: Speeds,
    order: JobOrder,
    turn: Turn,
    factor: float,
    progress: Callable[[Progress], None] | None = None,
) -> Receipt:
    """Run a job and remember how long it took. `factor` is that of its Plan's expectation."""
    plan = order.plan
    with blaming_the_model(Path(plan.network.path)):
        receipt = await engine.run(
            order, progress, share=turn.share, priority=turn.priority, patient=turn.patient
        )
    took = receipt.seconds.get("total", 0.0)
    log.info(
        "edit done",
        extra=logs.fields(
            request=order.id,
            network=plan.network.name,
            size=f"{plan.width}x{plan.height}",
            seconds=took,
        ),
    )
    if took >= _TELLING_SECONDS:
        with contextlib.suppress(RecordsFault):  # only an expectation is the poorer for it
            await whole(
                lambda: speeds.note(
                    plan.network.key,
                    _device(plan),
                    pixels=plan.width * plan.height,
                    expected=plan.expected_seconds / factor,
                    real=took,
                )
            )
    return with_expectation(receipt, plan)


def most_bytes(plan: Plan) -> int:
    """More than any format makes of the result, in bytes: its pixels as they are, and metadata."""
    output = plan.output
    return output.width * output.height * output.channels * output.depth // 8 + _METADATA_BYTES


def with_expectation(receipt: Receipt, plan: Plan) -> Receipt:
    """The receipt with the time that was expected, and by how much it was missed (0.1: it took a
    tenth longer).
    """
    seconds = {**receipt.seconds, "expected": plan.expected_seconds}
    if plan.expected_seconds > 0 and "total" in seconds:
        seconds["error"] = round(seconds["total"] / plan.expected_seconds - 1, 3)
    return replace(receipt, seconds=seconds)


@contextlib.contextmanager
def blaming_the_model(file: Path) -> Iterator[None]:
    """Says of a CheckpointError which field is to blame, and not where the file lies."""
    try:
        yield
    except CheckpointError as error:
        error.field = "model"
        error.message = error.message.replace(os.path.join(file.parent, ""), "")
        raise


def _device(plan: Plan) -> str:
    return f"{plan.device}, {plan.threads} threads, {plan.precision}"
