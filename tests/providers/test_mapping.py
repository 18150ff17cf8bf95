"""The table of routes: what each model's routes are sent, and what they refuse."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.providers.tools import make_task, route_of
from upscale.models.catalogue import load_catalogue
from upscale.providers import mapping
from upscale.providers.sites import Provided, site_of
from upscale.providers.task import enlarged
from upscale.settings import Settings

# Model, provider, endpoint, name of the factor, a factor and what is sent for it, factors refused.
TABLE: list[tuple[str, str, str, str, Any, Any, list[str]]] = [
    (
        "topaz-image-upscale",
        "fal",
        "fal-ai/topaz/upscale/image",
        "upscale_factor",
        "1.5",
        1.5,
        ["5"],
    ),
    ("topaz-image-upscale", "topaz", "/enhance/async", "output_width", "1.5", 18, []),
    (
        "topaz-image-upscale",
        "replicate",
        "topazlabs/image-upscale",
        "upscale_factor",
        "6",
        "6x",
        ["3"],
    ),
    ("recraft-crisp-upscale", "fal", "fal-ai/recraft/upscale/crisp", "", None, None, []),
    ("recraft-crisp-upscale", "recraft", "/images/crispUpscale", "", None, None, []),
    ("recraft-crisp-upscale", "replicate", "recraft-ai/recraft-crisp-upscale", "", None, None, []),
    ("recraft-creative-upscale", "fal", "fal-ai/recraft/upscale/creative", "", None, None, []),
    ("recraft-creative-upscale", "recraft", "/images/creativeUpscale", "", None, None, []),
    (
        "recraft-creative-upscale",
        "replicate",
        "recraft-ai/recraft-creative-upscale",
        "",
        7,
        None,
        [],
    ),
    ("clarity-upscaler", "fal", "fal-ai/clarity-upscaler", "upscale_factor", "4", 4, ["4.1"]),
    ("clarity-upscaler", "replicate", "philz1337x/clarity-upscaler", "scale_factor", "2", 2, []),
    ("crystal-upscaler", "fal", "clarityai/crystal-upscaler", "scale_factor", "2.5", 2.5, ["17"]),
    ("crystal-upscaler", "replicate", "philz1337x/crystal-upscaler", "scale_factor", "2", 2, []),
    ("real-esrgan", "fal", "fal-ai/esrgan", "scale", "8", 8, ["8.5"]),
    ("real-esrgan", "replicate", "nightmareai/real-esrgan", "scale", "10", 10, ["11"]),
    (
        "seedvr-image-upscale",
        "fal",
        "fal-ai/seedvr/upscale/image",
        "upscale_factor",
        "3",
        3,
        ["11"],
    ),
    ("aura-sr", "fal", "fal-ai/aura-sr", "upscaling_factor", "4", 4, ["2"]),
    ("google-upscaler", "vertex", "imagen-4.0-upscale-preview", "upscaleFactor", "2", "x2", ["3"]),
    ("google-upscaler", "replicate", "google/upscaler", "upscale_factor", "4", "x4", ["3"]),
]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row[0]}-{row[1]}")
def test_the_table(row: Any, tmp_path: Path) -> None:
    model, provider, endpoint, name, factor, sent, refused = row
    assert route_of(model, provider).endpoint == endpoint
    task = make_task(tmp_path, model, provider, factor=factor)
    given = mapping.inputs(task)
    assert given.get(name) == sent
    assert type(given.get(name)) is type(sent)
    for wrong in refused:
        reason = mapping.bars(make_task(tmp_path, model, provider, factor=wrong))
        assert reason is not None
        assert wrong in reason


def test_every_route_of_the_catalogue_is_in_the_table() -> None:
    ours = {
        (model.id, route.provider.id, route.endpoint)
        for model in load_catalogue().models
        for route in model.routes
        if route.provider.id != "lumenfall"
    }
    assert ours == {row[:3] for row in TABLE}
    for model in load_catalogue().models:
        assert model.routes[-1].provider.id == "lumenfall"
        assert model.routes[-1].endpoint == model.id


FIELDS: list[tuple[str, str, dict[str, Any], dict[str, Any]]] = [
    (
        "clarity-upscaler",
        "fal",
        {"prompt": "fine", "creativity": "0.35", "num_inference_steps": "18", "odd": "true"},
        {"prompt": "fine", "creativity": 0.35, "num_inference_steps": 18, "odd": True},
    ),
    (
        "topaz-image-upscale",
        "fal",
        {"enhance_model": "CGI", "subject_detection": "Foreground", "crop_to_fill": "false"},
        {
            "model": "CGI",
            "subject_detection": "Foreground",
            "crop_to_fill": False,
            "output_format": "png",
        },
    ),
    ("topaz-image-upscale", "fal", {"subject_detection": "None"}, {"output_format": "png"}),
    ("real-esrgan", "fal", {"face_enhance": "1"}, {"face": True, "output_format": "png"}),
    (
        "aura-sr",
        "fal",
        {"overlapping_tiles": "true", "checkpoint": "v2"},
        {"overlapping_tiles": True, "checkpoint": "v2"},
    ),
    (
        "recraft-crisp-upscale",
        "fal",
        {"enable_safety_checker": "no"},
        {"enable_safety_checker": False},
    ),
    ("google-upscaler", "replicate", {"compression_quality": "80"}, {"compression_quality": 80}),
]


@pytest.mark.parametrize(("model", "provider", "fields", "expected"), FIELDS)
def test_callers_fields_get_their_names_and_types(
    model: str, provider: str, fields: Any, expected: Any, tmp_path: Path
) -> None:
    factor = load_catalogue().model(model).scale.default  # type: ignore[union-attr]
    task = make_task(tmp_path, model, provider, factor=factor, fields=fields)
    sent = mapping.inputs(task)
    sent.pop(task.route.scale.field, None)
    assert sent == expected


TRICKS = {
    "image_url": "http://evil/x",
    "image": "x",
    "sync_mode": "true",
    "output_format": "jpeg",
    "upscale_factor": "10",
    "Upscale_Factor": "10",
    "scale_factor": 9,
    "upscale_mode": "target",
    "target_resolution": "2160p",
    "webhook_url": "http://evil",
    "output_width": "32000",
    "source_url": "http://evil",
    "model": "Wonder",
    "n": 10,
    "size": "1x1",
    "num_images": 4,
    "Num_Outputs": 4,
    "numSamples": "4",
    "batch-size": 4,
    "image_urls": "x",
    "IMAGES": "x",
    "webhook": "x",
    "my_webhook_address": "x",
    "callback_url": "x",
    "sync_Mode": True,
    "downscaling": "true",
    "custom_sd_model": "x",
    "dry_run": "true",
    "provider": "dear",
    "texture": "https://evil/x",
    "look": "data:image/png;base64,AAAA",
    "list": ["http://evil/x"],
}


@pytest.mark.parametrize(
    ("model", "provider"), sorted({(row[0], row[1]) for row in TABLE} | {("aura-sr", "lumenfall")})
)
def test_callers_cannot_change_what_is_billed_or_where_it_goes(
    model: str, provider: str, tmp_path: Path
) -> None:
    factor = load_catalogue().model(model).scale.default  # type: ignore[union-attr]
    plain = make_task(tmp_path, model, provider, factor=factor)
    tricky = make_task(tmp_path, model, provider, factor=factor, fields=TRICKS)
    assert mapping.inputs(tricky) == mapping.inputs(plain)


@pytest.mark.parametrize(
    ("provider", "given", "sent"),
    [
        ("fal", "cgi", "CGI"),
        ("topaz", " standard v2", "Standard V2"),
        ("topaz", "WONDER 3.5 ", "Wonder 3.5"),
        ("replicate", "text refine", "Text Refine"),
        ("topaz", " Bloom 2", "Bloom 2"),
        ("topaz", " ", "Standard V2"),
        ("topaz", None, "Standard V2"),
    ],
)
def test_known_models_of_topaz_s_are_spelled_as_it_spells_them(
    provider: str, given: object, sent: str, tmp_path: Path
) -> None:
    fields = {"enhance_model": given}
    task = make_task(tmp_path, "topaz-image-upscale", provider, fields=fields)
    name = "enhance_model" if provider == "replicate" else "model"
    assert mapping.inputs(task)[name] == sent


@pytest.mark.parametrize("name", ["Bloom 2", " redefine", "Wonder 4", "Recovery V3"])
def test_models_of_topaz_s_that_are_not_usual_are_generative(name: str, tmp_path: Path) -> None:
    large = {"size": (6000, 6000), "factor": 2}
    for provider in ("topaz", "fal", "replicate"):
        usual = make_task(tmp_path, "topaz-image-upscale", provider, **large)
        assert mapping.bars(usual) is None
        other = replace(usual, fields={"enhance_model": name})
        assert "128,000,000" in (mapping.bars(other) or "")
        gen = mapping.endpoint(other) == "/enhance-gen/async"
        assert gen is (provider == "topaz")
        aside = replace(usual, fields={"Enhance_Model": name})  # another field: it stays here
        assert mapping.inputs(aside) == mapping.inputs(usual)
    newer = make_task(tmp_path, "topaz-image-upscale", "topaz", fields={"enhance_model": "faces"})
    assert mapping.endpoint(newer) == "/enhance/async"


def test_sizes_are_exact() -> None:
    assert enlarged(35, 35, Decimal("1.5")) == (53, 53)
    assert enlarged(35, 21, Decimal("2.3")) == (81, 48)
    assert enlarged(35, 21, None) is None


def test_keys_and_hosts_of_every_site() -> None:
    providers: tuple[Provided, ...] = (
        "fal",
        "replicate",
        "topaz",
        "recraft",
        "vertex",
        "lumenfall",
    )
    known = {provider.id: provider for provider in load_catalogue().providers}
    for name in providers:
        assert name in known
        site = site_of(name, Settings(vertex_region="us-central1"))
        assert all(base.startswith("https://") for base in site.api.values())
        assert not site.auth
    assert site_of("vertex", Settings(vertex_region="us-central1")).api == {
        "aiplatform.googleapis.com": "https://us-central1-aiplatform.googleapis.com"
    }
