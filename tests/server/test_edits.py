"""Edits over HTTP: fields, factors, models, replies, dry runs, limits."""

from __future__ import annotations

import base64
from decimal import Decimal
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from tests.server.live import EDITS, Live, check_error, check_headers, picture, png
from upscale.errors import OutOfMemory, QueueFull


def test_a_file_and_a_factor_give_a_link_to_a_larger_picture(live: Live) -> None:
    reply = live.edit({"scale_factor": "4"})
    assert reply.status_code == 200
    body = reply.json()
    assert set(body) == {"created", "size", "data", "metadata"}
    assert body["size"] == "48x32"
    [entry] = body["data"]
    assert list(entry) == ["url"]
    about = body["metadata"]
    assert about.pop("receipt")["size"] == {"width": 48, "height": 32}
    assert about == {
        "model": "real-esrgan",
        "executed_model": "local/realesr-general-x4v3",
        "provider": "local",
        "provider_name": "Local",
        "cost": 0,
        "cost_currency": "USD",
    }
    check_headers(reply)
    assert reply.headers["X-Lumenfall-Provider"] == "local"
    assert reply.headers["X-Lumenfall-Model"] == "local/realesr-general-x4v3"
    with Image.open(BytesIO(live.client.get(entry["url"]).content)) as image:
        assert (image.format, image.size) == ("PNG", (48, 32))


@pytest.mark.parametrize("prompt", [{}, {"prompt": ""}, {"prompt": "sharper"}])
def test_a_prompt_may_be_absent_empty_or_there(live: Live, prompt: dict[str, str]) -> None:
    assert live.edit(prompt).status_code == 200


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ("real-esrgan", "48x32"),
        ("clarity-upscaler", "24x16"),
        ("tiny-x2", "24x16"),
        ("bundled-x4", "48x32"),
        ("local/real-esrgan", "48x32"),
        ("local/tiny-x2", "24x16"),
        ("ESRGAN", "48x32"),
    ],
)
def test_without_a_factor_the_default_is_taken(live: Live, model: str, size: str) -> None:
    assert live.edit({"model": model}).json()["size"] == size


@pytest.mark.parametrize("factor", ["4", "4.0", 4, " 4 "])
def test_writings_of_one_factor_are_the_same(live: Live, factor: Any) -> None:
    assert live.edit({"scale_factor": factor}).json()["size"] == "48x32"


def test_a_fractional_factor_rounds_halves_up(live: Live) -> None:
    file = {"image": ("a.png", png((35, 7)), "image/png")}
    assert live.edit({"scale_factor": "1.5"}, files=file).json()["size"] == "53x11"


@pytest.mark.parametrize("factor", ["0", "-1", "nan", "inf", "abc", "1e9", "0.5", "17", "4x"])
def test_bad_factors_name_the_field(live: Live, factor: str) -> None:
    message = check_error(live.edit({"scale_factor": factor}), 400, param="scale_factor")
    assert "1 to 16" in message


@pytest.mark.parametrize(
    ("model", "factor", "status"),
    [
        ("google-upscaler", "3", 400),
        ("google-upscaler", "2", 200),
        ("recraft-crisp-upscale", "7", 200),
        ("recraft-crisp-upscale", "0", 400),
        ("topaz-image-upscale", "1.5", 200),
        ("topaz-image-upscale", "7", 400),
    ],
)
def test_factors_obey_the_model(live: Live, model: str, factor: str, status: int) -> None:
    assert live.edit({"model": model, "scale_factor": factor}).status_code == status


def test_choices_are_listed_and_a_fixed_model_uses_its_own_scale(live: Live) -> None:
    refused = live.edit({"model": "google-upscaler", "scale_factor": "3"})
    assert "2 or 4" in check_error(refused, 400, param="scale_factor")
    fixed = live.edit({"model": "recraft-crisp-upscale", "scale_factor": "7"})
    assert fixed.json()["size"] == "24x16"


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_base64_holds_the_file_that_was_asked_for(live: Live, format: str) -> None:
    reply = live.edit({"response_format": "b64_json", "output_format": format, "n": 3})
    assert int(reply.headers["content-length"]) == len(reply.content)
    entries = reply.json()["data"]
    assert len(entries) == 3
    assert len({entry["b64_json"] for entry in entries}) == 1
    assert reply.json()["metadata"]["receipt"]["output"]["format"] == format
    with Image.open(BytesIO(base64.b64decode(entries[0]["b64_json"]))) as image:
        assert (image.format, image.size) == (format.upper(), (48, 32))
    assert len(live.engine.jobs) == 1


def test_jpg_is_a_name_of_jpeg_and_links_have_its_type(live: Live) -> None:
    url = live.edit({"output_format": "jpg"}).json()["data"][0]["url"]
    assert url.endswith(".jpg")
    assert live.client.get(url).headers["content-type"] == "image/jpeg"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("response_format", "xyz"),
        ("output_format", "bmp"),
        ("output_compression", "101"),
        ("output_compression", "-1"),
        ("output_compression", "x"),
        ("n", "0"),
        ("n", "11"),
        ("n", "1.5"),
        ("seed", "-1"),
        ("denoise", "1.5"),
        ("stream", "true"),
    ],
)
def test_bad_fields_are_named(live: Live, field: str, value: str) -> None:
    check_error(live.edit({field: value}), 400, param=field)
    assert not live.engine.jobs


def test_compression_reaches_the_plan_as_a_quality(live: Live) -> None:
    for sent, quality in (("0", 1), ("100", 100), ("", None)):
        live.edit({"output_format": "jpeg", "output_compression": sent})
        assert live.engine.jobs[-1].plan.output.quality == quality


def test_three_of_a_deterministic_network_are_one_run_and_three_entries(live: Live) -> None:
    body = live.edit({"n": "3", "seed": "5"}).json()
    assert len(body["data"]) == 3
    assert len(live.engine.jobs) == 1
    assert live.engine.jobs[0].plan.seed == 5


def test_fields_of_other_clients_are_ignored(live: Live) -> None:
    others = {
        "size": "1024x1024",
        "quality": "hd",
        "style": "vivid",
        "background": "auto",
        "moderation": "low",
        "input_fidelity": "high",
        "partial_images": "0",
        "stream": "false",
        "user": "me",
        "face_enhance": "true",
        "frobnicate": "x" * 200_000,
        "list[]": ["a", "b"],
    }
    assert live.edit(others).status_code == 200


def test_denoise_mixes_the_pair(live: Live) -> None:
    assert live.edit({"denoise": "0.25"}).status_code == 200
    network = live.engine.jobs[0].plan.network
    assert (network.name, network.blend) == ("realesr-general-x4v3", 0.25)
    assert (network.blend_path or "").endswith("wdn-x4v3.safetensors")
    live.edit()
    assert live.engine.jobs[1].plan.network.blend == 1.0


def test_a_field_that_contradicts_itself_is_refused_and_a_repeated_one_is_not(live: Live) -> None:
    check_error(live.edit({"model": ["real-esrgan", "tiny-x2"]}), 400, param="model")
    assert live.edit({"model": ["real-esrgan", "real-esrgan"]}).status_code == 200


def test_a_missing_model_is_named(live: Live) -> None:
    check_error(live.edit({"model": ""}), 400, param="model")


def test_an_unknown_model_comes_with_a_suggestion(live: Live) -> None:
    message = check_error(live.edit({"model": "real-esrgam"}), 404, "MODEL_NOT_FOUND", "model")
    assert message == "Model 'real-esrgam' not found. Did you mean 'real-esrgan'?"
    check_error(live.edit({"model": "fal/nothing"}), 404, "MODEL_NOT_FOUND", "model")


def test_a_model_that_nothing_serves_says_how_to_install_one(live: Live) -> None:
    message = check_error(live.edit({"model": "aura-sr"}), 404, "MODEL_DISABLED", "model")
    assert "upscale weights import FILE --as aura-sr" in message
    assert "FAL_KEY" in message
    refused = live.edit({"model": "aura-sr", "scale_factor": "3"})
    check_error(refused, 400, param="scale_factor")
    check_error(live.edit({"model": "aura-sr", "n": "0"}), 400, param="n")


def test_a_forced_provider_names_its_key(live: Live) -> None:
    message = check_error(live.edit({"model": "fal/real-esrgan"}), 404, "MODEL_DISABLED", "model")
    assert "FAL_KEY" in message


@pytest.mark.parametrize("wish", ["true", "TRUE", "1"])
def test_a_dry_run_prices_and_plans_and_does_nothing(live: Live, wish: str) -> None:
    stored = set((live.settings.data_dir / "media").iterdir())
    reply = live.edit({"n": "2"}, params={"dryRun": wish})
    body = reply.json()
    plan = body.pop("plan")
    assert body == {
        "estimated": True,
        "model": "real-esrgan",
        "provider": "local",
        "total_cost_micros": 0,
        "currency": "USD",
        "components": [
            {
                "type": "output",
                "metric": "image",
                "quantity": 2,
                "billable_quantity": 2,
                "unit_price": 0.0,
                "total_cost": 0,
            }
        ],
    }
    assert plan["size"] == "48x32"
    assert str(live.settings.weights_folder) not in reply.text
    assert not live.engine.jobs
    assert set((live.settings.data_dir / "media").iterdir()) == stored


def test_dry_run_false_runs_and_nonsense_is_refused(live: Live) -> None:
    assert "data" in live.edit(params={"dryRun": "false"}).json()
    check_error(live.edit(params={"dryRun": "maybe"}), 400, param="dryRun")


@pytest.mark.parametrize(
    ("field", "value"), [("scale_factor", "99"), ("n", "0"), ("model", "nothing")]
)
def test_a_dry_run_fails_as_the_run_does(live: Live, field: str, value: str) -> None:
    run, dry = live.edit({field: value}), live.edit({field: value}, params={"dryRun": "true"})
    assert run.status_code == dry.status_code
    assert run.json() == dry.json()


def test_nothing_of_a_request_stays_in_the_spool(live: Live) -> None:
    live.edit()
    live.edit({"response_format": "b64_json"})
    live.edit({"n": "0"})
    [own] = (live.settings.data_dir / "spool").iterdir()
    assert [path.name for path in own.iterdir()] == ["lock"]


def test_a_full_queue_is_a_429_that_says_when_to_come_back(live: Live) -> None:
    live.engine.failure = QueueFull("16 jobs are waiting.", retry_after=400)
    reply = live.edit()
    check_error(reply, 429, "RATE_LIMITED")
    assert reply.json()["error"]["type"] == "rate_limit_error"
    assert reply.headers["retry-after"] == "60"
    assert "x-should-retry" not in reply.headers


def test_errors_that_repeat_themselves_are_not_retried(live: Live) -> None:
    assert live.edit({"n": "0"}).headers["x-should-retry"] == "false"
    live.engine.failure = OutOfMemory("Even the smallest tile does not fit.")
    reply = live.edit()
    check_error(reply, 500, "INTERNAL_ERROR")
    assert reply.headers["x-should-retry"] == "false"


def test_an_unexpected_failure_tells_nothing_of_itself(live: Live) -> None:
    live.engine.failure = RuntimeError("secret of the house")
    reply = live.edit()
    check_error(reply, 500, "INTERNAL_ERROR")
    assert "secret" not in reply.text


def test_pictures_over_the_limits_are_refused_before_work(small: Live) -> None:
    file = {"image": ("a.png", png((40, 40)), "image/png")}
    check_error(small.edit(files=file), 413, param="image")
    check_error(small.edit({"scale_factor": "15"}), 413, param="scale_factor")
    whole = small.edit({"scale_factor": "8", "output_format": "webp"})
    check_error(whole, 413, param="output_format")
    text = small.edit({"scale_factor": "8", "response_format": "b64_json"})
    assert "response_format=url" in check_error(text, 413, param="response_format")
    assert small.edit({"scale_factor": "8"}).status_code == 200
    assert len(small.engine.jobs) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_other_kinds_of_pictures_pass_through(live: Live, mode: str) -> None:
    file = {"image": ("a.png", picture(mode=mode), "image/png")}
    assert live.edit(files=file).status_code == 200


def test_a_factor_in_json_keeps_its_digits(live: Live) -> None:
    body = {"model": "real-esrgan", "scale_factor": 2.3, "image": data_uri()}
    assert live.client.post(EDITS, json=body).status_code == 200
    assert Decimal(live.engine.jobs[0].plan.scale_factor) == Decimal("2.3")


def data_uri() -> str:
    return "data:image/png;base64," + base64.b64encode(png()).decode()
