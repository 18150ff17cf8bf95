"""The catalogue: rules of factors, names, preferences, and its agreement with the weights' list."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.errors import InvalidParameter
from upscale.models.catalogue import NETWORK_RULE, CatalogueModel, load_catalogue
from upscale.weights.known import load_manifest
from upscale.weights.store import Network

CATALOGUE = load_catalogue()


def model(name: str) -> CatalogueModel:
    found = CATALOGUE.model(name)
    assert found is not None
    return found


def network(name: str, *, serves: str = "real-esrgan", pair: bool = False) -> Network:
    blend = Path("/b") if pair else None
    return Network(name, Path("/a"), name, False, (serves,), "", "", blend)


def test_the_nine_models_are_there_with_their_defaults() -> None:
    defaults = {m.id: m.scale.default for m in CATALOGUE.models}
    assert defaults == {
        "real-esrgan": 4,
        "aura-sr": 4,
        "seedvr-image-upscale": 2,
        "clarity-upscaler": 2,
        "crystal-upscaler": 2,
        "topaz-image-upscale": 2,
        "recraft-crisp-upscale": None,
        "recraft-creative-upscale": None,
        "google-upscaler": 2,
    }


def test_the_list_of_known_files_agrees_with_the_catalogue() -> None:
    manifest = load_manifest()
    assert manifest.models == {m.id for m in CATALOGUE.models}
    assert manifest.aliases == {alias for m in CATALOGUE.models for alias in m.aliases}
    for each in CATALOGUE.models:
        serving = {known.id for known in manifest.files if each.id in known.serves}
        assert {preference.id for preference in each.networks} == serving


def test_every_model_names_a_provider_and_its_key() -> None:
    for each in CATALOGUE.models:
        assert each.routes
        assert all(route.provider.key.isupper() for route in each.routes)


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("real-esrgan", ["1", "2.5", "16"], ["0.99", "16.1", "-4", "0"]),
        ("google-upscaler", ["2", "4", "4.0"], ["3", "1", "2.5"]),
        ("recraft-crisp-upscale", ["0.1", "7", "1000000000"], ["0", "-1"]),
        ("topaz-image-upscale", ["1", "1.5", "6"], ["6.5", "0"]),
    ],
)
def test_factors_are_held_to_the_rule(name: str, good: list[str], bad: list[str]) -> None:
    for factor in good:
        model(name).scale.check(Decimal(factor))
    for factor in bad:
        with pytest.raises(InvalidParameter) as caught:
            model(name).scale.check(Decimal(factor))
        assert caught.value.field == "scale_factor"


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "", "x", "1" * 40, True, None, [4]])
def test_what_is_no_number_is_no_factor(text: object) -> None:
    for rule in (
        NETWORK_RULE,
        model("google-upscaler").scale,
        model("recraft-crisp-upscale").scale,
    ):
        with pytest.raises(InvalidParameter):
            rule.parse(text)


@given(st.decimals(1, 16, places=3))
def test_a_factor_is_read_exactly(factor: Decimal) -> None:
    assert NETWORK_RULE.parse(str(factor)) == factor


def test_names_are_found_in_any_case_and_by_alias() -> None:
    assert model("Real-ESRGAN").id == model("esrgan").id == "real-esrgan"
    assert CATALOGUE.model("nothing") is None
    assert CATALOGUE.provider("FAL") is not None


def test_suggestions_are_close_names_or_none() -> None:
    assert CATALOGUE.suggest("real-esrgam") == "real-esrgan"
    assert CATALOGUE.suggest("esrgn") == "real-esrgan"
    assert CATALOGUE.suggest("bundeld-x4", ["bundled-x4"]) == "bundled-x4"
    assert CATALOGUE.suggest("zzzzzz") is None


def test_the_preferred_network_is_chosen_and_a_smaller_one_for_small_factors() -> None:
    large, small = network("realesrgan_x4plus"), network("realesrgan_x2plus")
    other = network("my-own")
    choose = model("real-esrgan").choose
    assert choose([other, small, large]) == large
    assert choose([other, small, large], factor=Decimal("1.5")) == small
    assert choose([other, small], factor=Decimal(4)) == other
    assert choose([small], factor=Decimal(4)) == small
    assert choose([network("x", serves="aura-sr")]) is None


def test_a_blend_needs_a_pair() -> None:
    plain, pair = network("realesrgan_x4plus"), network("realesr-general-x4v3", pair=True)
    choose = model("real-esrgan").choose
    assert choose([plain, pair]) == plain
    assert choose([plain, pair], blend=True) == pair
    assert choose([plain], blend=True) is None
