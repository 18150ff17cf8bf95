"""Answers to paid creates: what the provider refuses, where it fails by its own word, and what
nobody can tell, which is never paid for again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.providers.rig import STUBS, Rig
from tests.providers.stubs.base import Stub
from upscale.providers import answers
from upscale.providers.outcome import OUTCOMES, Kind
from upscale.providers.transport import Reply, Transport

QUEUES = ("fal", "replicate", "topaz")
UNCLEAR = (301, 302, 303, 307, 308, 406, 408, 409, 499, 501, 504, 507, *range(520, 531), 599)
PAGE = (httpx.Headers({"content-type": "text/html"}), b"<html>away</html>")
WORDS = (httpx.Headers({"content-type": "application/json"}), b'{"message": "oops"}')


@pytest.fixture(params=sorted(STUBS))
def rig(request: pytest.FixtureRequest, stubs: dict[str, Stub], tmp_path: Path) -> Rig:
    return Rig(request.param, stubs[request.param], tmp_path)


def answering(monkeypatch: pytest.MonkeyPatch, reply: Reply, *, made: bool = False) -> list[str]:
    """Creates are answered by `reply`; where `made`, the provider has made a job all the same."""
    paid, asked = Transport.paid, []

    async def instead(self: Transport, url: str, *given: Any, **more: Any) -> Reply:
        asked.append(url)
        if made:
            await paid(self, url, *given, **more)
        return reply

    monkeypatch.setattr(Transport, "paid", instead)
    return asked


@pytest.mark.parametrize("status", [302, 408, 409, 500, 502, 504, 507, 520, 524])
def test_an_answer_that_tells_nothing_is_in_doubt(
    rig: Rig, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, Reply(status, *PAGE))
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.IN_DOUBT, "maybe", False)
    assert (failure.outcome.status, failure.http, len(asked)) == (504, status, 1)
    assert rig.notes.last.state == "sending"
    if rig.provider in QUEUES:
        assert rig.stub.calls["find"] == 3


@pytest.mark.parametrize("status", [302, 408, 409, 500, 502, 504, 507, 520, 524])
@pytest.mark.parametrize("content", [PAGE, WORDS], ids=["page", "words"])
def test_a_job_that_was_made_all_the_same_is_gone_on_with(
    rig: Rig, status: int, content: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if rig.provider not in QUEUES:
        pytest.skip("nothing can be asked there")
    asked = answering(monkeypatch, Reply(status, *content), made=True)
    assert rig.run().job.id == next(iter(rig.stub.jobs))
    assert (rig.stub.paid, len(asked)) == (1, 1)


@pytest.mark.parametrize("status", [500, 502])
def test_the_provider_s_own_word_for_a_failure_is_taken(
    rig: Rig, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(monkeypatch, Reply(status, *WORDS))
    failure = rig.fails()
    assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.BROKEN, "no", True)
    assert rig.notes.last.state == "unsent"
    assert bool(rig.stub.calls["find"]) is (rig.provider in QUEUES)


def test_every_status_is_a_refusal_a_failure_or_unclear() -> None:
    for status in UNCLEAR:
        assert answers.kind_of(status, True) is Kind.IN_DOUBT
        assert answers.kind_of(status, False) is Kind.IN_DOUBT
    for status in answers.FAILED:
        assert answers.kind_of(status, True) is Kind.BROKEN
        assert answers.kind_of(status, False) is Kind.IN_DOUBT
    for status, kind in answers.REFUSED.items():
        assert answers.kind_of(status, False) is kind
        assert OUTCOMES[kind].billed == "no"
    documented = {400, 401, 402, 403, 404, 405, 410, 412, 413, 415, 422, 425, 429, 503}
    assert documented <= set(answers.REFUSED)
    assert set(answers.REFUSED) >= answers.IDLE


@pytest.mark.parametrize("status", [302, 408, 504, 524])
def test_before_a_create_nothing_is_in_doubt(
    status: int, stubs: dict[str, Stub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for provider, model, factor in (("replicate", "real-esrgan", 4), ("fal", "aura-sr", 4)):
        rig = Rig(provider, stubs[provider], tmp_path)

        async def free(*_: Any, **__: Any) -> Reply:
            return Reply(status, *PAGE)

        monkeypatch.setattr(Transport, "free", free)
        failure = rig.fails(model=model, factor=factor)
        assert (failure.kind, failure.billed, failure.elsewhere) == (Kind.BROKEN, "no", True)
        assert not rig.notes.jobs


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (402, "payment required", Kind.BALANCE),
        (400, "not enough credits", Kind.BALANCE),
        (400, '{"code": "insufficient_credits"}', Kind.BALANCE),
        (403, "You do not have enough API units", Kind.BALANCE),
        (403, "Insufficient balance", Kind.BALANCE),
        (400, "your credits are exhausted", Kind.BALANCE),
        (403, "credit balance is too low", Kind.BALANCE),
        (422, "white balance wrong", Kind.INPUT),
        (422, "not enough credits", Kind.INPUT),
        (400, "insufficient white balance", Kind.INPUT),
        (400, "the white balance is too low", Kind.INPUT),
        (400, "no picture credit in the file", Kind.INPUT),
        (404, "no credits page", Kind.GONE),
        (429, "credits are too low for more", Kind.BUSY),
    ],
)
def test_recraft_s_account_is_empty_only_where_it_says_so(
    status: int, words: str, kind: Kind, stubs: dict[str, Stub], tmp_path: Path
) -> None:
    async def judged(adapter: Any) -> Kind:
        told: Kind = adapter.kind_of(Reply(status, httpx.Headers(), words.encode()))
        return told

    assert Rig("recraft", stubs["recraft"], tmp_path).ask(judged) is kind
