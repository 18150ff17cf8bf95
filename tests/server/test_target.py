"""Sizes as wishes: the factor that is found gives what was asked for, or the refusal is clear."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.server.live import Live, check_error, png
from upscale.engine.scaling import scaled
from upscale.errors import InvalidParameter, InvalidRequest
from upscale.models.catalogue import NETWORK_RULE, ScaleRule
from upscale.server.target import Target

CHOICES = ScaleRule("choices", choices=(Decimal(2), Decimal(4)), default=Decimal(2))
sides = st.integers(1, 4000)


@given(sides, sides, st.data())
def test_a_width_is_met_to_the_pixel(width: int, height: int, data: st.DataObject) -> None:
    wish = data.draw(st.integers(width, 16 * width))
    factor = Target(width=wish).factor(width, height, NETWORK_RULE, None)
    assert scaled(width, factor) == wish
    assert 1 <= factor <= 16


@given(sides, sides, st.decimals(1, 16, places=3))
def test_both_sides_that_one_factor_gives_are_met(width: int, height: int, factor: Decimal) -> None:
    wish = scaled(width, factor), scaled(height, factor)
    found = Target(*wish).factor(width, height, ScaleRule("free", Decimal(0), Decimal(17)), None)
    assert (scaled(width, found), scaled(height, found)) == wish


@given(sides, sides, st.decimals("0.000001", 300, places=6))
def test_megapixels_are_a_most_and_nothing_larger_would_do(
    width: int, height: int, megapixels: Decimal
) -> None:
    most = megapixels * 1_000_000
    target = Target(megapixels=megapixels)
    if width * height > most:
        with pytest.raises(InvalidParameter):
            target.factor(width, height, NETWORK_RULE, None)
        return
    factor = target.factor(width, height, NETWORK_RULE, None)
    found = scaled(width, factor), scaled(height, factor)
    assert found[0] * found[1] <= most
    more = min(Decimal(16), factor + Decimal("0.000001"))
    larger = scaled(width, more), scaled(height, more)
    assert larger == found or larger[0] * larger[1] > most


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (Target(width=24), 2),
        (Target(height=32), 4),
        (Target(width=48, height=32), 4),
        (Target(megapixels=Decimal("0.0015")), 2),
        (Target(megapixels=Decimal(100)), 4),
    ],
)
def test_models_of_fixed_factors_take_what_one_of_them_gives(target: Target, expected: int) -> None:
    assert target.factor(12, 8, CHOICES, None) == expected


def test_plain_wishes_have_plain_factors() -> None:
    assert str(Target(width=120).factor(12, 8, NETWORK_RULE, None)) == "10"
    assert str(Target(width=30).factor(12, 8, NETWORK_RULE, None)) == "2.5"
    assert str(Target(megapixels=Decimal("0.001536")).factor(12, 8, NETWORK_RULE, None)) == "4"


@pytest.mark.parametrize(
    ("target", "rule", "asked", "words"),
    [
        (Target(width=11), NETWORK_RULE, None, "12 to 192"),
        (Target(height=129), NETWORK_RULE, None, "8 to 128"),
        (Target(width=48, height=48), NETWORK_RULE, None, "contradict each other"),
        (Target(width=48, megapixels=Decimal("0.001")), NETWORK_RULE, None, "contradict"),
        (Target(width=36), CHOICES, None, "24 x 16 (factor 2) or 48 x 32 (factor 4)"),
        (Target(megapixels=Decimal("0.0001")), CHOICES, None, "24 x 16"),
        (Target(width=36), NETWORK_RULE, Decimal(4), "contradicts scale_factor=4"),
        (Target(megapixels=Decimal("0.001")), NETWORK_RULE, Decimal(4), "48 x 32"),
    ],
)
def test_what_cannot_be_is_explained(
    target: Target, rule: ScaleRule, asked: Decimal | None, words: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        target.factor(12, 8, rule, asked)
    assert words in refusal.value.message
    assert refusal.value.field in target.wishes


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"target_width": "31"}, "31x21"),
        ({"target_height": "20", "scale_factor": "2.5"}, "30x20"),
        ({"target_megapixels": "0.002"}, "55x36"),
        ({"model": "recraft-crisp-upscale", "target_width": "24"}, "24x16"),
        ({"model": "tiny-x2", "target_width": "36", "target_height": "24"}, "36x24"),
    ],
)
def test_sizes_over_http(live: Live, fields: dict[str, Any], size: str) -> None:
    assert live.edit(fields).json()["size"] == size
    assert live.edit(fields, params={"dryRun": "true"}).json()["plan"]["size"] == size


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"target_width": "0"}, "target_width"),
        ({"target_width": "1.5"}, "target_width"),
        ({"target_height": "x"}, "target_height"),
        ({"target_megapixels": "0"}, "target_megapixels"),
        ({"target_megapixels": "nan"}, "target_megapixels"),
        ({"target_width": "30", "scale_factor": "4"}, "target_width"),
        ({"target_width": "500"}, "target_width"),
        ({"model": "google-upscaler", "target_width": "36"}, "target_width"),
        ({"model": "recraft-crisp-upscale", "target_width": "48"}, "target_width"),
    ],
)
def test_wishes_that_are_refused_name_their_field(
    live: Live, fields: dict[str, Any], param: str
) -> None:
    check_error(live.edit(fields), 400, param=param)
    assert not live.engine.jobs


def test_a_target_of_a_model_that_nothing_serves_is_404_before_the_image_is_read(
    live: Live,
) -> None:
    fields = {"model": "aura-sr", "target_width": "48"}
    file = {"image": ("a.png", png()[:20], "image/png")}
    check_error(live.edit(fields, files=file), 404, "MODEL_DISABLED", "model")
