"""Which routes can be used, in which order, and the turn from one to the next."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.providers.rig import OWN
from tests.providers.stubs.base import Stub
from tests.providers.tools import FastClock, Notes, make_task, route_of, settings_for
from upscale.errors import (
    AllProvidersExhausted,
    InvalidRequest,
    ModelDisabled,
    UpscaleError,
    UpstreamError,
)
from upscale.models.catalogue import CatalogueModel, load_catalogue
from upscale.providers.fal import Fal
from upscale.providers.health import Health
from upscale.providers.outcome import Failure, Kind
from upscale.providers.registry import Providers
from upscale.providers.routes import Candidate, nearest, none_left
from upscale.providers.sites import unusable
from upscale.providers.task import RemoteJob, nth
from upscale.settings import Settings


def model(name: str) -> CatalogueModel:
    found = load_catalogue().model(name)
    assert found is not None
    return found


class House:
    """A server's providers against all stubs."""

    def __init__(self, stubs: dict[str, Stub], folder: Path, *names: str) -> None:
        self.stubs, self.folder = stubs, folder
        self.clock, self.notes = FastClock(), Notes()
        plain = settings_for(**{name: stubs[name].url for name in names})
        self.settings = plain.model_copy(update=OWN)
        self.attempts: list[dict[str, Any]] = []
        self.providers: Providers | None = None

    def open(self) -> Providers:
        if self.providers is None:
            self.providers = Providers(self.settings, clock=self.clock.clock)
        return self.providers

    def serve(self, name: str, *, check: Any = None, each: bool = False, **given: Any) -> Any:
        forced = given.pop("forced", None)
        resample = given.pop("allow_resample", False)

        async def once() -> Any:
            providers = self.open()
            try:
                first = model(name).routes[0].provider.id
                task = make_task(
                    self.folder, name, first, clock=self.clock, notes=self.notes, **given
                )
                found = providers.survey(
                    model(name), task, provider=forced, allow_resample=resample
                )
                if not found.candidates:
                    raise none_left(model(name), found.skipped)
                self.attempts.clear()
                if not each:
                    return await providers.serve(found.candidates, self.attempts, check)
                results = []
                for index in range(task.n):
                    ours = tuple(replace(c, task=nth(c.task, index)) for c in found.candidates)
                    results.append(await providers.serve(ours, self.attempts, check))
                return results
            finally:
                await providers.aclose()

        return asyncio.run(once())


@pytest.fixture
def house(stubs: dict[str, Stub], tmp_path: Path) -> House:
    return House(stubs, tmp_path, *stubs)


def test_the_first_route_serves(house: House) -> None:
    served = house.serve("topaz-image-upscale")
    assert served.candidate.route.provider.id == "fal"
    assert served.result.executed_model == "fal/fal-ai/topaz/upscale/image"
    assert [a["provider"] for a in house.attempts] == ["fal"]
    attempt = house.attempts[0]
    assert (attempt["billed"], attempt["job"]) == ("yes", "req-0001")
    # Without fal's price list nobody knows what one of its units is.
    assert attempt["cost_micros"] is None
    assert attempt["sent_to"] == ["127.0.0.1"]


def test_units_are_worth_what_the_price_list_says(house: House) -> None:
    async def once() -> None:
        await house.open().refresh_prices()
        await house.open().aclose()

    asyncio.run(once())
    assert house.serve("topaz-image-upscale").result.cost_micros == 80_000


def test_several_results_are_several_runs(house: House) -> None:
    fields = {"seed": "41", "noise_scale": 0.1}
    several = house.serve("seedvr-image-upscale", each=True, n=3, fields=fields)
    assert len({served.result.path for served in several}) == 3
    sent = [job.sent for job in house.stubs["fal"].jobs.values()]
    assert [each["seed"] for each in sent] == [41, 42, 43]
    assert [a["billed"] for a in house.attempts] == ["yes"] * 3


def test_after_a_failure_nothing_more_is_paid_for(house: House) -> None:
    async def check(result: Any, candidate: Any) -> str | None:
        return "bad" if candidate.task.index == 1 else None

    with pytest.raises(UpstreamError):
        house.serve("seedvr-image-upscale", each=True, n=4, check=check)
    assert house.stubs["fal"].paid == 2
    assert [a["billed"] for a in house.attempts] == ["yes", "yes"]


def test_a_provider_can_be_forced(house: House) -> None:
    for provider in ("topaz", "replicate", "lumenfall"):
        served = house.serve("topaz-image-upscale", forced=provider)
        assert served.candidate.route.provider.id == provider
    assert house.stubs["fal"].paid == 0


def test_the_operators_account_is_no_matter_of_the_callers(house: House) -> None:
    house.stubs["fal"].fault = "locked"
    with pytest.raises(AllProvidersExhausted, match="account there cannot pay") as caught:
        house.serve("aura-sr", factor=4, forced="fal")
    assert "locked" not in caught.value.message.lower()
    assert "locked" not in repr(caught.value.attempts).lower()


@pytest.mark.parametrize("fault", ["429", "503", "500", "403", "locked", "404", "completed_error"])
def test_the_next_route_takes_over_where_nothing_was_billed(house: House, fault: str) -> None:
    house.stubs["fal"].fault = fault
    served = house.serve("topaz-image-upscale")
    assert served.candidate.route.provider.id == "topaz"
    assert [a["provider"] for a in house.attempts] == ["fal", "topaz"]
    assert "message" in house.attempts[0]
    assert house.stubs["fal"].billed == 0


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("cut_early", UpstreamError, 504),
        ("policy", UpstreamError, 400),
        ("422", InvalidRequest, 400),
        ("result_422", InvalidRequest, 400),
        ("no_picture", UpstreamError, 502),
        ("truncated", UpstreamError, 502),
    ],
)
def test_no_other_route_is_tried_where_it_may_have_been_billed(
    house: House, fault: str, error: type[UpscaleError], status: int
) -> None:
    house.stubs["fal"].fault = fault
    with pytest.raises(error) as caught:
        house.serve("topaz-image-upscale")
    assert caught.value.status == status
    assert sum(stub.paid for name, stub in house.stubs.items() if name != "fal") == 0
    assert len(house.attempts) == 1
    if fault == "policy":
        assert caught.value.reason == "content_policy"  # type: ignore[attr-defined]
    if fault == "cut_early":
        assert "may have been billed" in caught.value.message


def test_all_routes_can_fail(house: House) -> None:
    house.stubs["fal"].fault = "500"
    house.stubs["replicate"].fault = "500"
    house.stubs["lumenfall"].fault = "502"
    with pytest.raises(AllProvidersExhausted) as caught:
        house.serve("clarity-upscaler")
    providers = [a["provider"] for a in caught.value.attempts]
    assert providers == ["fal", "replicate", "lumenfall"]
    assert all(name in caught.value.message for name in providers)


def test_a_key_that_is_refused_puts_the_provider_out_of_use(house: House) -> None:
    house.stubs["fal"].fault = "403"
    house.serve("topaz-image-upscale")
    assert house.stubs["fal"].calls["submit"] == 1
    house.serve("topaz-image-upscale")
    assert house.stubs["fal"].calls["submit"] == 1
    with pytest.raises(InvalidRequest, match="off") as caught:
        house.serve("aura-sr", factor=4, forced="fal")
    assert caught.value.message.endswith("it refused the server's key.")


def test_a_route_that_failed_comes_last_until_it_has_cooled_down(house: House) -> None:
    fal = house.stubs["fal"]
    fal.fault = "500"
    house.serve("topaz-image-upscale")
    fal.fault = ""
    house.serve("topaz-image-upscale")
    assert [a["provider"] for a in house.attempts] == ["topaz"]
    house.clock.skipped += 61
    house.serve("topaz-image-upscale")
    assert [a["provider"] for a in house.attempts] == ["fal"]


def test_a_result_is_measured(house: House) -> None:
    async def check(result: Any, candidate: Any) -> str | None:
        return "its size is 19x16, not 24x16" if candidate.route.provider.id == "fal" else None

    with pytest.raises(UpstreamError, match="19x16"):
        house.serve("topaz-image-upscale", check=check)
    assert house.attempts[0]["billed"] == "yes"
    assert not list(house.folder.glob("out-*"))


def test_a_factor_that_a_route_cannot_express_skips_it(house: House) -> None:
    served = house.serve("topaz-image-upscale", factor="5.5")
    assert served.candidate.route.provider.id == "topaz"
    served = house.serve(
        "topaz-image-upscale", factor="5.5", forced="replicate", allow_resample=True
    )
    assert (served.candidate.task.factor, served.candidate.resample) == (Decimal(6), True)
    with pytest.raises(InvalidRequest, match=r"5\.5 is not 2 or 4 or 6"):
        house.serve("topaz-image-upscale", factor="5.5", forced="replicate")


def test_what_needs_no_resampling_comes_first(house: House) -> None:
    def order(factor: str) -> list[tuple[str, bool]]:
        task = make_task(house.folder, "clarity-upscaler", "fal", factor=factor)
        found = house.open().survey(model("clarity-upscaler"), task, allow_resample=True)
        return [(c.route.provider.id, c.resample) for c in found.candidates]

    assert order("8") == [("replicate", False), ("lumenfall", False), ("fal", True)]
    assert order("3") == [("fal", False), ("replicate", False), ("lumenfall", False)]
    slow = route_of("clarity-upscaler", "replicate")
    house.open().health.failed(slow, Failure(Kind.BROKEN, "x"))
    assert order("8") == [("lumenfall", False), ("replicate", False), ("fal", True)]


@pytest.mark.parametrize(
    ("provider", "name", "factor", "expected"),
    [
        ("fal", "seedvr-image-upscale", "12", "10"),
        ("replicate", "google-upscaler", "3", "4"),
        ("replicate", "google-upscaler", "6", "4"),
        ("fal", "aura-sr", "2", "4"),
    ],
)
def test_what_is_resampled_is_as_large_as_can_be(
    provider: str, name: str, factor: str, expected: str
) -> None:
    assert nearest(route_of(name, provider).scale, Decimal(factor)) == Decimal(expected)


def test_sizes_are_judged_before_anything_is_sent(house: House) -> None:
    for name, given, reason in [
        ("google-upscaler", {"factor": 4, "size": (1100, 1000), "forced": "vertex"}, "17,000,000"),
        ("recraft-crisp-upscale", {"factor": None, "size": (20, 400), "forced": "recraft"}, "32"),
        ("recraft-creative-upscale", {"factor": None, "forced": "recraft"}, "256"),
        ("crystal-upscaler", {"factor": 12, "size": (900, 10), "forced": "fal"}, "10,000"),
        ("topaz-image-upscale", {"factor": 2, "mime": "image/webp", "forced": "topaz"}, "webp"),
    ]:
        with pytest.raises(InvalidRequest, match=reason):
            house.serve(name, **given)
    assert sum(stub.paid for stub in house.stubs.values()) == 0
    assert not any(stub.seen for stub in house.stubs.values())


def test_keys_that_would_enable_a_model_are_named(stubs: dict[str, Stub], tmp_path: Path) -> None:
    with pytest.raises(ModelDisabled, match="FAL_KEY") as caught:
        House(stubs, tmp_path).serve("topaz-image-upscale")
    for key in ("TOPAZ_API_KEY", "REPLICATE_API_TOKEN", "LUMENFALL_API_KEY"):
        assert key in caught.value.message


def test_local_only_leaves_hosts_of_the_house(stubs: dict[str, Stub], tmp_path: Path) -> None:
    house = House(stubs, tmp_path, "fal", "topaz")
    closed = house.settings.model_copy(update={"local_only": True})
    assert not Providers(closed).adapters
    open_again = closed.model_copy(update={"local_hosts": "127.0.0.1"})
    house.settings = open_again
    assert set(house.open().adapters) == {"fal", "topaz"}
    house.serve("topaz-image-upscale")
    assert house.stubs["fal"].paid == 1


def test_health_remembers_what_failed() -> None:
    clock = FastClock()
    health, route = Health(clock.clock), route_of("aura-sr", "fal")
    health.failed(route, Failure(Kind.INPUT, "x"))
    assert health.cooling(route) == 0
    for seconds in (60, 120, 240, 480, 900, 900):
        health.failed(route, Failure(Kind.BROKEN, "x"))
        assert health.cooling(route) == pytest.approx(seconds, abs=1)
    health.succeeded(route)
    assert health.cooling(route) == 0
    health.failed(route, Failure(Kind.GONE, "no such model"))
    assert health.off(route) == "it does not have the model any more."
    assert health.off(route_of("seedvr-image-upscale", "fal")) is None
    health.clear()
    assert health.off(route) is None


def test_the_settings_show_no_key() -> None:
    settings = Settings(fal_key="sesame-open-42")  # type: ignore[arg-type]
    assert "sesame" not in repr(settings) + str(settings) + settings.model_dump_json()
    providers = Providers(settings)
    transport = providers.adapters["fal"].transport
    assert "sesame" not in repr(transport.site) + repr(vars(providers)) + repr(vars(transport))
    assert time.time() > 0


def test_an_answer_that_nobody_has_foreseen_is_in_doubt_and_paid_for_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stumble(*_: object) -> None:
        raise ValueError("an answer of another shape")

    monkeypatch.setattr(Fal, "collect", stumble)
    with pytest.raises(UpstreamError, match="may have been billed"):
        house.serve("topaz-image-upscale")
    assert [(a["provider"], a["billed"]) for a in house.attempts] == [("fal", "maybe")]
    assert house.stubs["fal"].paid == 1
    assert house.stubs["topaz"].paid == 0


def test_vertex_is_off_until_it_is_configured() -> None:
    for given, reason in [
        ({}, "UPSCALE_VERTEX_PROJECT"),
        ({"vertex_project": "p"}, "UPSCALE_VERTEX_REGION"),
        ({"vertex_base_url": "ftp://x", "vertex_project": "p"}, "base URL"),
    ]:
        assert reason in (unusable("vertex", Settings(**given)) or "")  # type: ignore[arg-type]
    whole = {"vertex_project": "p", "vertex_region": "r", "vertex_key": "token"}
    assert unusable("vertex", Settings(**whole)) is None  # type: ignore[arg-type]
    assert unusable("clarity", Settings()) == "this version has no adapter for it"


def test_a_job_whose_key_is_gone_stays_in_doubt(tmp_path: Path) -> None:
    job, task = RemoteJob("fal", "fal-ai/esrgan", id="x"), make_task(tmp_path, "aura-sr", "fal")
    ours = (Candidate(task.route, task),)
    with pytest.raises(UpstreamError, match="may have been billed") as caught:
        asyncio.run(Providers(Settings()).go_on(ours, job, []))
    assert (caught.value.status, caught.value.reason) == (504, "in_doubt")
