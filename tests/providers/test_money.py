"""Over sequences of faults and moments: nothing is paid twice, and what may have been paid for is
on record. Judged from the ledgers of the stubs and the notes alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.providers.rig import MODELS, OWN, STUBS, fresh
from tests.providers.stubs.base import Stub
from tests.providers.tools import KEYS, FastClock, Notes, make_task, settings_for
from upscale.errors import UpscaleError
from upscale.models.catalogue import load_catalogue
from upscale.providers.registry import Providers

FAULTS = (
    "",
    "429",
    "503",
    "500",
    "403",
    "404",
    "422",
    "cut_early",
    "cut_reply",
    "half_reply",
    "poll_500",
    "poll_cut",
    "stuck",
    "completed_error",
    "failed",
    "result_500",
    "result_422",
    "no_output",
    "truncated",
    "oversized",
    "foreign_link",
    "empty",
    "find_500",
)
QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


async def _serve(
    stubs: dict[str, Stub], folder: Path, model: str, leave_after: float | None
) -> Any:
    """One request, up to its end or until its caller goes away; notes, attempts, the error."""
    config = settings_for(**{n: s.url for n, s in stubs.items()}).model_copy(update=OWN)
    clock, notes = FastClock(), Notes()
    providers = Providers(config, clock=clock.clock)
    attempts: list[dict[str, Any]] = []
    found = load_catalogue().model(model)
    assert found is not None
    first = found.routes[0].provider.id
    factor = None if found.scale.kind == "fixed" else found.scale.default
    size = (40, 36) if "crisp" in model else (12, 8)
    task = make_task(
        folder, model, first, clock=clock, notes=notes, seconds=40.0, factor=factor, size=size
    )
    candidates = providers.survey(found, task).candidates
    error: BaseException | None = None
    work = asyncio.ensure_future(providers.serve(candidates, attempts))
    try:
        if leave_after is not None:
            await asyncio.wait({work}, timeout=leave_after)
            work.cancel()
        await work
    except (UpscaleError, asyncio.CancelledError) as caught:
        error = caught
    finally:
        with contextlib.suppress(Exception):
            await providers.aclose()
    return notes, attempts, error


def _judge(stubs: dict[str, Stub], notes: Notes, attempts: list[Any], error: Any) -> None:
    paid = sum(stub.paid for stub in stubs.values())
    lines = sum(len(stub.invoice) for stub in stubs.values())
    assert lines <= 1, "billed twice"
    # Whatever was created is known by its id, or is on record as being in doubt.
    known = {job.id for job in notes.jobs if job.id}
    doubtful = [j for j in notes.jobs if not j.id and j.state in ("sending", "cancelled")]
    for stub in stubs.values():
        for identity in stub.jobs:
            assert identity in known or doubtful, "created, and nobody knows"
    if error is None:
        assert paid >= 1
        assert attempts[-1]["billed"] == "yes"
    elif lines:
        assert attempts[-1]["billed"] in ("yes", "maybe"), "billed, and the record says no"
    for attempt in attempts[:-1]:
        assert attempt["billed"] == "no", "another route was tried although this may be billed"
    assert not any(stub.leaks or stub.wrong_keys for stub in stubs.values())


@pytest.mark.parametrize("model", ["topaz-image-upscale", "recraft-crisp-upscale"])
@given(
    faults=st.fixed_dictionaries({name: st.sampled_from(FAULTS) for name in STUBS}),
    times=st.sampled_from([1, 2, 1 << 30]),
    polls=st.integers(0, 3),
)
@settings(max_examples=40, deadline=None, suppress_health_check=QUIET)
def test_nothing_is_paid_twice(
    model: str,
    faults: dict[str, str],
    times: int,
    polls: int,
    stubs: dict[str, Stub],
    tmp_path: Path,
) -> None:
    for name, stub in stubs.items():
        fresh(stub)
        stub.fault, stub.times, stub.polls = faults[name], times, polls
    _judge(stubs, *asyncio.run(_serve(stubs, tmp_path, model, None)))


@pytest.mark.parametrize("model", ["topaz-image-upscale", "recraft-crisp-upscale"])
@given(
    fault=st.sampled_from(FAULTS),
    moment=st.floats(0.0, 0.12),
)
@settings(max_examples=30, deadline=None, suppress_health_check=QUIET)
def test_a_caller_may_leave_at_any_moment(
    model: str, fault: str, moment: float, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    for name, stub in stubs.items():
        fresh(stub)
        stub.fault, stub.times = (fault if name != "lumenfall" else ""), 1
    _judge(stubs, *asyncio.run(_serve(stubs, tmp_path, model, moment)))


SECRETS = [part for key in KEYS.values() for part in key.split(":") if len(part) > 8]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("model", ["topaz-image-upscale", "recraft-crisp-upscale"])
def test_no_secret_is_told(
    model: str,
    fault: str,
    stubs: dict[str, Stub],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    root = logging.getLogger("upscale")
    kept, root.propagate = root.propagate, True
    try:
        with caplog.at_level(logging.DEBUG):
            for stub in stubs.values():
                stub.fault = fault
            notes, attempts, error = asyncio.run(_serve(stubs, tmp_path, model, None))
    finally:
        root.propagate = kept
    records = [f"{r.getMessage()} {getattr(r, 'fields', '')}" for r in caplog.records]
    own = [
        text
        for r, text in zip(caplog.records, records, strict=True)
        if not r.name.startswith(
            ("httpcore", "asyncio", "uvicorn", "multipart", "python_multipart")
        )
    ]
    captured = capfd.readouterr()
    told = "\n".join(
        [
            *own,
            captured.out,
            captured.err,
            repr(attempts),
            repr(error),
            repr(getattr(error, "__dict__", "")),
            repr(notes.jobs),
            repr([job.to_json() for job in notes.jobs]),
        ]
    )
    assert not [secret for secret in SECRETS if secret in told]
    assert "presigned-secret" not in told
    library = "\n".join(text for r, text in zip(caplog.records, records, strict=True))
    assert not [secret for secret in SECRETS if secret in library]


def test_every_provider_has_a_model_for_these_tests() -> None:
    assert set(MODELS) == set(STUBS) == set(KEYS)
