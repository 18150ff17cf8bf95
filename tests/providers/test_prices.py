"""Quotes against the stubs' own invoices, and what is approximate or unknown."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.providers.rig import OWN, Rig
from tests.providers.stubs import fal as fal_stub
from tests.providers.stubs.base import Stub, megapixels, scaled
from tests.providers.tools import make_task, route_of, settings_for
from upscale.models.catalogue import load_catalogue
from upscale.providers.prices import Fetched, PriceBook
from upscale.providers.registry import Providers

CLOSED = [
    ("seedvr-image-upscale", "fal", "2.5"),
    ("clarity-upscaler", "fal", "3"),
    ("crystal-upscaler", "fal", "2"),
    ("topaz-image-upscale", "fal", "2"),
    ("recraft-crisp-upscale", "fal", None),
    ("recraft-crisp-upscale", "recraft", None),
    ("recraft-creative-upscale", "recraft", None),
    ("recraft-crisp-upscale", "replicate", None),
]


@pytest.mark.parametrize(("model", "provider", "factor"), CLOSED)
@pytest.mark.parametrize(("size", "n"), [((40, 33), 1), ((301, 257), 3), ((33, 47), 10)])
def test_a_quote_is_what_the_invoice_says(
    model: str,
    provider: str,
    factor: str | None,
    size: tuple[int, int],
    n: int,
    stubs: dict[str, Stub],
    tmp_path: Path,
) -> None:
    rig = Rig(provider, stubs[provider], tmp_path)
    size = (size[0] + 256, size[1] + 256) if "creative" in model else size
    given: Any = {"model": model, "factor": factor, "size": size}
    quote = PriceBook().quote(rig.task(**given, n=n))
    assert quote is not None
    assert not quote.approximate
    for index in range(n):
        rig.run(**given, index=index)
    assert rig.stub.paid == n
    # A line of the invoice is a result, and is booked as such.
    assert quote.quote.micros == sum(round(e.amount * 1_000_000) for e in rig.stub.invoice)
    assert quote.quote.micros == sum(c.to_json()["total_cost"] for c in quote.quote.components)
    assert quote.read
    assert quote.source


SIDES = st.integers(1, 6000)


@given(SIDES, SIDES, st.decimals(1, 4, places=2), st.integers(1, 10))
def test_closed_forms_agree_with_an_independent_price_list(
    width: int, height: int, factor: Decimal, n: int
) -> None:
    for model, endpoint in [
        ("seedvr-image-upscale", "fal-ai/seedvr/upscale/image"),
        ("clarity-upscaler", "fal-ai/clarity-upscaler"),
        ("crystal-upscaler", "clarityai/crystal-upscaler"),
        ("topaz-image-upscale", "fal-ai/topaz/upscale/image"),
    ]:
        task = replace(_TASK(model), width=width, height=height, factor=factor, n=n)
        size = scaled((width, height), factor)
        unit, price, _ = fal_stub.PRICES[endpoint]
        pixels = megapixels(size)
        if unit == "units":
            steps = [(24, 8), (48, 16), (96, 32), (512, 136)]
            units = next((Decimal(u) for most, u in steps if pixels <= most), None)
        else:
            units = pixels
        quote = PriceBook().quote(task)
        if units is None:
            assert quote is None
        else:
            assert quote is not None
            assert quote.quote.micros == n * round(units * Decimal(price) * 1_000_000)
            assert quote.approximate is (unit == "units" and pixels > 96)


def _TASK(model: str) -> Any:
    return make_task(Path("/tmp"), model, "fal")


def test_time_priced_routes_are_approximate_or_unknown(tmp_path: Path) -> None:
    book = PriceBook()
    task = make_task(tmp_path, "real-esrgan", "fal", n=2)
    assert book.quote(task) is None
    book.learn("fal-ai/esrgan", 2.0)
    quote = book.quote(task)
    assert quote is not None
    assert (quote.approximate, quote.quote.micros) == (True, 4440)
    quote = book.quote(make_task(tmp_path, "clarity-upscaler", "replicate"))
    assert quote is not None
    assert (quote.approximate, quote.quote.micros) == (True, 15_000)


def test_what_nobody_publishes_has_no_quote(tmp_path: Path) -> None:
    for model, provider, factor in [
        ("google-upscaler", "vertex", 2),
        ("google-upscaler", "replicate", 2),
        ("recraft-creative-upscale", "fal", None),
        ("recraft-creative-upscale", "replicate", None),
        ("aura-sr", "fal", 4),
        ("real-esrgan", "replicate", 4),
        ("crystal-upscaler", "replicate", 2),
        ("topaz-image-upscale", "topaz", 2),
        ("topaz-image-upscale", "replicate", 2),
    ]:
        assert PriceBook().quote(make_task(tmp_path, model, provider, factor=factor)) is None
    for model in load_catalogue().models:
        assert PriceBook().quote(make_task(tmp_path, model.id, "lumenfall")) is None


@pytest.mark.parametrize("name", ["Wonder", "Wonder 4", " Redefine", "bloom 2", "Recovery V3", "x"])
def test_only_topaz_s_known_models_have_its_price(name: str, tmp_path: Path) -> None:
    def quote(fields: dict[str, Any]) -> Any:
        task = make_task(tmp_path, "topaz-image-upscale", "fal", fields=fields)
        return PriceBook().quote(task)

    assert quote({"enhance_model": name}) is None
    for usual in ("cgi", " Standard V2 ", "", None):
        assert quote({"enhance_model": usual}).quote.micros == 80_000


def test_an_operator_can_price_vertex(tmp_path: Path) -> None:
    settings = settings_for(vertex="http://127.0.0.1:9").model_copy(update=OWN)
    quote = Providers(settings).quote(make_task(tmp_path, "google-upscaler", "vertex", n=3))
    assert quote is not None
    assert quote.quote.micros == 180_000


def test_fetched_prices_take_the_catalogues_place(tmp_path: Path) -> None:
    book = PriceBook()
    book.fetched = {
        "fal-ai/seedvr/upscale/image": Fetched(Decimal("0.002"), "megapixels", "2026-11-25"),
        "fal-ai/recraft/upscale/creative": Fetched(Decimal("0.25"), "images", "2026-11-25"),
        "fal-ai/aura-sr": Fetched(Decimal("0.001"), "compute seconds", "2026-11-25"),
    }
    quote = book.quote(make_task(tmp_path, "seedvr-image-upscale", "fal", size=(1000, 500)))
    assert quote is not None
    assert (quote.quote.micros, quote.read) == (4000, "2026-11-25")
    creative = book.price(route_of("recraft-creative-upscale", "fal"))
    assert creative is not None
    assert creative.per_image == Decimal("0.25")
    aura = book.price(route_of("aura-sr", "fal"))
    assert aura is not None
    assert aura.per_second == Decimal("0.001")


@pytest.mark.parametrize(
    ("model", "unit"),
    [
        ("crystal-upscaler", "fortnights"),
        ("seedvr-image-upscale", "processed megapixels"),
    ],
)
def test_what_is_billed_by_a_unit_that_cannot_be_counted_has_no_quote(
    model: str, unit: str, tmp_path: Path
) -> None:
    book, task = PriceBook(), make_task(tmp_path, model, "fal")
    assert book.quote(task) is not None
    book.fetched[task.route.endpoint] = Fetched(Decimal(7), unit, "2026-11-25")
    assert book.quote(task) is None


@pytest.mark.parametrize("unit", ["units", "images"])
def test_a_table_by_size_is_a_guess_where_the_bill_is_by_another_unit(
    unit: str, tmp_path: Path
) -> None:
    book, task = PriceBook(), make_task(tmp_path, "topaz-image-upscale", "fal")
    exact = book.quote(task)
    assert exact is not None
    book.fetched[task.route.endpoint] = Fetched(Decimal("0.01"), unit, "2026-11-25")
    guess = book.quote(task)
    assert guess is not None
    assert (guess.quote, guess.approximate) == (exact.quote, not exact.approximate)


@pytest.mark.parametrize("model", ["seedvr-image-upscale", "clarity-upscaler", "crystal-upscaler"])
@given(SIDES, SIDES, st.decimals(1, 4, places=2), st.integers(1, 10))
def test_a_quote_by_a_fetched_price_is_what_each_result_is_billed(
    model: str, width: int, height: int, factor: Decimal, n: int
) -> None:
    task = replace(_TASK(model), width=width, height=height, factor=factor, n=n)
    book, adapter = PriceBook(), Providers(settings_for(fal="http://127.0.0.1:9")).adapters["fal"]
    book.fetched[task.route.endpoint] = Fetched(Decimal("0.0271"), "megapixels", "2026-11-25")
    quote = book.quote(task)
    assert quote is not None
    units = megapixels(scaled((width, height), factor))
    assert quote.quote.micros == n * (adapter.micros(units, Decimal("0.0271")) or 0)


def test_prices_are_refreshed(stubs: dict[str, Stub], tmp_path: Path) -> None:
    import asyncio

    settings = settings_for(fal=stubs["fal"].url)
    providers = Providers(settings)

    async def once() -> int:
        try:
            return await providers.refresh_prices()
        finally:
            await providers.aclose()

    assert asyncio.run(once()) == 8
    assert providers.prices.fetched["fal-ai/esrgan"].unit == "compute seconds"
    quote = providers.quote(make_task(tmp_path, "recraft-creative-upscale", "fal", factor=None))
    assert quote is not None
    assert quote.quote.micros == 250_000
