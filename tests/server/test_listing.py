"""What the lists of models say: what runs where, what would have to be installed, and schemas."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Live, check_error, serving, wait_for
from upscale.models.catalogue import load_catalogue
from upscale.server import app
from upscale.settings import Settings
from upscale.weights.store import Store


def model(live: Live, name: str) -> dict[str, Any]:
    body: dict[str, Any] = live.client.get(f"/openai/v1/models/{name}").json()
    return body


def test_what_is_installed_is_known_before_anybody_asks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_LOOK_SECONDS", 0.01)
    store = Store(tmp_path / "weights")
    with serving(Settings(data_dir=tmp_path)) as live:
        wait_for(lambda: live.engine.known == {"bundled-x4"})
        file = tmp_path / "later-x2.safetensors"
        file.write_bytes(b"later")
        store.register(file, name=None, serves=None, replace=False)
        wait_for(lambda: "later-x2" in live.engine.known)
        assert live.engine.jobs == []


def test_a_served_model_says_on_what(live: Live) -> None:
    body = model(live, "real-esrgan")
    assert (body["available"], body["network"], body["reason"]) == (
        True,
        "realesr-general-x4v3",
        None,
    )
    assert body["installed"] == ["realesr-general-x4v3"]
    assert body["scale_factor"] == {
        "rule": "free",
        "allowed": "a number from 1 to 16",
        "default": 4,
    }


def test_a_model_that_is_not_served_says_why_and_what_to_do(live: Live) -> None:
    body = model(live, "aura-sr")
    assert (body["available"], body["network"], body["installed"]) == (False, None, [])
    assert body["reason"].startswith("No installed network serves the model 'aura-sr'.")
    assert body["import_command"] == "upscale weights import FILE --as aura-sr"
    assert {"provider": "fal", "endpoint": "fal-ai/aura-sr", "key": "FAL_KEY"}.items() <= body[
        "remote"
    ][0].items()
    best = model(live, "real-esrgan")["installable"][0]
    assert best["command"] == "upscale weights pull realesrgan_x4plus"
    assert (best["bytes"], best["licence"], best["author"]) == (
        67_040_989,
        "BSD-3-Clause",
        "xinntao",
    )


def test_a_network_is_a_model_of_its_own(live: Live) -> None:
    body = model(live, "bundled-x4")
    assert (body["bundled"], body["available"]) == (True, True)
    assert len(body["sha256"]) == 64


@pytest.mark.parametrize("path", ["/openai/v1/models", "/v1/models"])
def test_the_list_holds_the_objects(live: Live, path: str) -> None:
    listed = {entry["id"]: entry for entry in live.client.get(path).json()["data"]}
    for name in ("real-esrgan", "aura-sr", "bundled-x4"):
        assert listed[name] == live.client.get(f"{path}/{name}").json()


@pytest.mark.parametrize("name", [m.id for m in load_catalogue().models] + ["bundled-x4"])
def test_every_model_has_a_schema_that_agrees_with_its_rule(live: Live, name: str) -> None:
    schema = live.client.get(f"/v1/models/{name}?schema=true").json()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["properties"]["model"]["const"] == name
    factor = schema["properties"]["scale_factor"]
    assert factor.get("default") == model(live, name)["scale_factor"]["default"]
    refusals = {
        "clarity-upscaler": 17,
        "topaz-image-upscale": factor.get("maximum", 0) + 1,
        "google-upscaler": sum(factor.get("enum", [])) / 2,
        "aura-sr": 2,
        "recraft-crisp-upscale": 0,
    }
    if name in refusals:
        reply = live.edit({"model": name, "scale_factor": str(refusals[name])})
        check_error(reply, 400, param="scale_factor")


def test_a_schema_holds_the_models_own_parameters(live: Live) -> None:
    properties = live.client.get("/v1/models/real-esrgan?schema=TRUE").json()["properties"]
    assert properties["denoise"] == {
        "type": "number",
        "minimum": 0,
        "maximum": 1,
        "description": "Mixes two networks: 1 smooths, 0 keeps noise.",
    }
    assert "without effect" in properties["face_enhance"]["description"]
    pair = live.client.get("/v1/models/realesr-general-x4v3?schema=1").json()["properties"]
    assert "denoise" in pair
    plain = live.client.get("/v1/models/tiny-x2?schema=1").json()["properties"]
    assert "denoise" not in plain


def test_a_schema_holds_what_says_how_a_request_is_treated(live: Live) -> None:
    for name in ("aura-sr", "bundled-x4"):
        properties = live.client.get(f"/v1/models/{name}?schema=1").json()["properties"]
        assert {"background", "user"} <= properties.keys()


def test_nonsense_in_the_query_is_named(live: Live) -> None:
    check_error(live.client.get("/v1/models/aura-sr?schema=maybe"), 400, param="schema")
