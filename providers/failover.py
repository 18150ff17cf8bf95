"""The turn from one route to the next, by the taxonomy of failures: a paid call that may have been
made is never made again elsewhere. Every attempt is recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from upscale import logs
from upscale.errors import AllProvidersExhausted, UpscaleError
from upscale.providers.adapter import Adapter
from upscale.providers.health import Health
from upscale.providers.outcome import Failure, Kind, told
from upscale.providers.routes import Candidate
from upscale.providers.task import RemoteJob, RemoteResult

log = logs.get("providers")

Check = Callable[[RemoteResult, Candidate], Awaitable[str | None]]


@dataclass(frozen=True)
class Served:
    """A result, and by which route it came."""

    result: RemoteResult
    candidate: Candidate


async def serve(
    candidates: Sequence[Candidate],
    adapters: Mapping[str, Adapter],
    health: Health,
    attempts: list[dict[str, Any]],
    check: Check | None = None,
) -> Served:
    """The first result of `candidates`, tried in turn; `attempts` is told of each, whatever comes.

    `check` measures a result and says what is wrong with it. Raises UpstreamError, InvalidRequest
    and AllProvidersExhausted.
    """
    for candidate in candidates:
        adapter = adapters[candidate.route.provider.id]
        try:
            work = adapter.run(candidate.task)
            return await _attempted(work, candidate, adapter, health, attempts, check)
        except Failure as failure:
            if not failure.elsewhere:
                raise told(failure, adapter.name, attempts) from None
    raise AllProvidersExhausted(_exhausted(attempts), attempts=attempts)


async def go_on(
    candidate: Candidate,
    job: RemoteJob,
    adapter: Adapter,
    health: Health,
    attempts: list[dict[str, Any]],
    check: Check | None = None,
) -> Served:
    """The result of a paid call that was made before, as by a process that died since. Told of in
    `attempts` as another one, and no other route is tried. Raises UpstreamError, InvalidRequest.
    """
    try:
        work = adapter.resume(candidate.task, job)
        return await _attempted(work, candidate, adapter, health, attempts, check)
    except Failure as failure:
        raise told(failure, adapter.name, attempts) from None


async def _attempted(
    work: Awaitable[RemoteResult],
    candidate: Candidate,
    adapter: Adapter,
    health: Health,
    attempts: list[dict[str, Any]],
    check: Check | None,
) -> Served:
    """What `work` gives, measured; told of in `attempts` however it ends. Raises Failure too."""
    began = adapter.clock.now()
    attempt = {
        "provider": candidate.route.provider.id,
        "endpoint": candidate.route.endpoint,
        "started": round(adapter.clock.wall(), 3),
    }
    attempts.append(attempt)
    try:
        result = await work
        if check is not None:
            await _checked(result, candidate, check)
    except asyncio.CancelledError:
        attempt |= {"error": "cancelled", "billed": "maybe"}
        raise
    except Failure as failure:
        attempt |= failure.to_json()
        _blame(candidate, failure, health)
        raise
    except UpscaleError as error:  # ours, as a full disk
        attempt |= {"error": error.code, "message": error.message, "billed": "maybe"}
        raise
    except Exception:  # what nobody has foreseen may have been paid for
        log.exception("a provider's answer")
        unknown = Failure(Kind.RUN_FAILED, "its answer is not understood.", billed="maybe")
        attempt |= unknown.to_json()
        _blame(candidate, unknown, health)
        raise unknown from None
    finally:
        attempt["seconds"] = round(adapter.clock.now() - began, 3)
        attempt["sent_to"] = list(candidate.task.trail.sent_to)
    health.succeeded(candidate.route)
    attempt |= {"job": result.job.id, "billed": "yes", "cost_micros": result.cost_micros}
    return Served(result, candidate)


async def _checked(result: RemoteResult, candidate: Candidate, check: Check) -> None:
    wrong = await check(result, candidate)
    if wrong is not None:
        result.path.unlink(missing_ok=True)
        raise Failure(
            Kind.BAD_RESULT,
            f"the result cannot be used: {wrong}.",
            job=result.job.id,
            billed="no" if result.units == 0 else "yes",
            cost_micros=result.cost_micros,
        )


def _blame(candidate: Candidate, failure: Failure, health: Health) -> None:
    health.failed(candidate.route, failure)
    fields = logs.fields(
        provider=candidate.route.provider.id,
        endpoint=candidate.route.endpoint,
        error=str(failure.kind),
        reason=failure.message,
        http_status=failure.http,
        job=failure.job or None,
        billed=failure.billed,
    )
    if failure.outcome.off:
        log.error("a route is off until the settings change", extra=fields)
    else:
        log.warning("a route failed", extra=fields)


def _exhausted(attempts: Sequence[Mapping[str, Any]]) -> str:
    tried = [f"{a['provider']}: {a['message']}" for a in attempts if "message" in a]
    return "No provider could serve the request. " + " ".join(tried)
