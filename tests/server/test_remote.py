"""Models that no network here serves, by providers: a real server in front of stub providers that
count paid calls and write invoices.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.providers.rig import OWN, all_running, fresh
from tests.providers.stubs.base import Stub
from tests.providers.tools import KEYS, FastClock, settings_for
from tests.server.live import EDITS, Live, check_headers, picture, png, serving
from upscale.providers import registry
from upscale.settings import Settings


@pytest.fixture(scope="module")
def _stubs() -> Iterator[dict[str, Stub]]:
    with all_running() as stubs:
        yield stubs


@pytest.fixture
def stubs(_stubs: dict[str, Stub]) -> dict[str, Stub]:
    for stub in _stubs.values():
        fresh(stub)
    return _stubs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits between polls pass at once."""
    monkeypatch.setattr(registry, "Clock", lambda: FastClock().clock)


@contextmanager
def house(
    stubs: dict[str, Stub], folder: Path, *names: str, weights: Path | None = None, **more: Any
) -> Iterator[Live]:
    """A server with keys of these providers."""
    plain = settings_for(**{name: stubs[name].url for name in names})
    given: dict[str, Any] = {
        "data_dir": folder / "data",
        "weights_dir": weights or folder / "weights",
        **OWN,
        **more,
    }
    with serving(plain.model_copy(update=given)) as live:
        yield live


def fetched(live: Live, reply: httpx.Response, index: int = 0) -> Image.Image:
    assert reply.status_code == 200, reply.text
    url = reply.json()["data"][index]["url"]
    image = Image.open(BytesIO(live.client.get(url).content))
    image.load()
    return image


def record(live: Live, reply: httpx.Response) -> dict[str, Any]:
    found = live.client.get(f"/v1/requests/{reply.headers['x-request-id']}")
    body: dict[str, Any] = found.json()
    return body


def test_a_model_without_a_network_goes_to_a_provider(stubs, tmp_path):
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "seedvr-image-upscale", "scale_factor": "2"})
        image = fetched(live, reply)
        assert image.size == (24, 16)
        assert image.getpixel((5, 5)) == (40, 90, 160)
        assert image.info.get("icc_profile")
        body = reply.json()
        about = body["metadata"]
        assert about["provider"] == "fal"
        assert about["executed_model"] == "fal/fal-ai/seedvr/upscale/image"
        assert about["receipt"]["attempts"][0]["provider"] == "fal"
        assert reply.headers["X-Lumenfall-Provider"] == "fal"
        assert reply.headers["X-Lumenfall-Model"] == "fal/fal-ai/seedvr/upscale/image"
        check_headers(reply)
        kept = record(live, reply)
        assert (kept["status"], kept["sent_to"]) == ("completed", "127.0.0.1")
        assert kept["sent_bytes"] > 0
        assert stubs["fal"].paid == 1


def test_an_installed_network_goes_first_and_a_provider_can_be_forced(stubs, tmp_path, weights_dir):
    with house(stubs, tmp_path, "fal", weights=weights_dir) as live:
        reply = live.edit()
        assert reply.json()["metadata"]["provider"] == "local"
        assert stubs["fal"].paid == 0
        forced = live.edit({"model": "fal/real-esrgan"})
        assert forced.json()["metadata"]["provider"] == "fal"
        assert stubs["fal"].paid == 1


def test_without_a_key_the_reply_says_which_one_would_help(stubs, tmp_path):
    with house(stubs, tmp_path) as live:
        for model, words in [
            ("topaz-image-upscale", ("FAL_KEY", "TOPAZ_API_KEY", "REPLICATE_API_TOKEN")),
            ("topaz/topaz-image-upscale", ("TOPAZ_API_KEY",)),
            ("real-esrgan", ("FAL_KEY", "upscale weights pull")),
        ]:
            reply = live.edit({"model": model})
            assert reply.status_code == 404
            error = reply.json()["error"]
            assert error["code"] == "MODEL_DISABLED"
            assert all(word in error["message"] for word in words), error
        reply = live.edit({"model": "topaz/real-esrgan"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, "MODEL_DISABLED")


def test_local_only_keeps_everything_in_the_house(stubs, tmp_path):
    with house(stubs, tmp_path, *stubs, local_only=True) as live:
        for model in ("topaz-image-upscale", "fal/real-esrgan", "google-upscaler"):
            reply = live.edit({"model": model, "scale_factor": "2"})
            assert reply.status_code == 404
            assert "UPSCALE_LOCAL_ONLY" in reply.json()["error"]["message"]
    assert not any(stub.paid or stub.calls or stub.seen for stub in stubs.values())


def test_local_only_allows_hosts_of_the_house(stubs, tmp_path):
    given = {"local_only": True, "local_hosts": "127.0.0.1"}
    with house(stubs, tmp_path, "fal", **given) as live:
        assert live.edit({"model": "aura-sr"}).status_code == 200
    assert stubs["fal"].paid == 1


@pytest.mark.parametrize(
    ("model", "provider", "more"),
    [
        ("seedvr-image-upscale", "fal", {"scale_factor": "3"}),
        ("clarity-upscaler", "fal", {"scale_factor": "2"}),
        ("crystal-upscaler", "fal", {"scale_factor": "2"}),
        ("recraft-crisp-upscale", "recraft", {}),
        ("recraft-creative-upscale", "recraft", {}),
        ("topaz-image-upscale", "topaz", {"scale_factor": "2", "n": "2"}),
        ("google-upscaler", "vertex", {"scale_factor": "2"}),
        ("aura-sr", "lumenfall", {}),
    ],
)
@pytest.mark.parametrize("size", [(300, 260), (512, 390)])
def test_the_quote_is_what_the_invoice_says(stubs, tmp_path, model, provider, more, size):
    """The dry run, the reply, the record and the provider's own invoice agree to the millionth."""
    with house(stubs, tmp_path, provider) as live:
        if provider == "fal":
            _until(lambda: stubs["fal"].calls["pricing"] > 0)
        files = {"image": ("a.png", png(size), "image/png")}
        told = live.edit({"model": model, **more}, files=files, params={"dryRun": "true"})
        assert told.status_code == 200, told.text
        assert stubs[provider].paid == 0
        quoted = told.json()["total_cost_micros"]
        reply = live.edit({"model": model, **more}, files=files)
        assert reply.status_code == 200, reply.text
        cost = round(reply.json()["metadata"]["cost"] * 1e6)
        invoice = stubs[provider].billed
        assert cost == round(invoice * 1_000_000) if invoice else True
        if not told.json()["approximate"]:
            assert quoted == cost
        kept = record(live, reply)
        assert round(kept["cost"] * 1e6) == cost
        assert stubs[provider].paid == int(more.get("n", 1))


def test_several_results_are_several_files(stubs, tmp_path):
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "seedvr-image-upscale", "scale_factor": "2", "n": "3"})
        links = [entry["url"] for entry in reply.json()["data"]]
        assert len(set(links)) == 3
        assert stubs["fal"].paid == 3
        inline = live.edit(
            {"model": "seedvr-image-upscale", "n": "2", "response_format": "b64_json"}
        )
        for entry in inline.json()["data"]:
            Image.open(BytesIO(base64.b64decode(entry["b64_json"]))).verify()


def test_a_failed_route_hands_over_to_the_next(stubs, tmp_path):
    stubs["fal"].fault = "503"
    with house(stubs, tmp_path, "fal", "topaz") as live:
        reply = live.edit({"model": "topaz-image-upscale", "scale_factor": "2"})
        assert reply.status_code == 200, reply.text
        about = reply.json()["metadata"]
        assert about["provider"] == "topaz"
        assert [a["provider"] for a in about["receipt"]["attempts"]] == ["fal", "topaz"]
        kept = record(live, reply)
        assert [a["provider"] for a in kept["remote_attempts"]] == ["fal", "topaz"]
        assert kept["executed_model"] if "executed_model" in kept else True


def test_when_every_route_fails_the_error_lists_them(stubs, tmp_path):
    for name in ("fal", "topaz"):
        stubs[name].fault = "503"
    with house(stubs, tmp_path, "fal", "topaz") as live:
        reply = live.edit({"model": "topaz-image-upscale", "scale_factor": "2"})
        assert reply.status_code == 502
        error = reply.json()["error"]
        assert error["code"] == "ALL_PROVIDERS_EXHAUSTED"
        assert [a["provider"] for a in error["attempts"]] == ["fal", "topaz"]
        kept = record(live, reply)
        assert (kept["status"], kept["cost"]) == ("upstream_failure", 0)
        check_headers(reply)


def test_a_refusal_of_the_content_says_so(stubs, tmp_path):
    stubs["fal"].fault = "policy"
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "aura-sr"})
        assert reply.status_code == 400
        error = reply.json()["error"]
        assert (error["code"], error["reason"]) == ("UPSTREAM_ERROR", "content_policy")


@pytest.mark.parametrize("fault", ["wrong_size", "truncated", "no_picture", "foreign_link"])
def test_a_bad_result_is_not_handed_on(stubs, tmp_path, fault):
    stubs["fal"].fault = fault
    with house(stubs, tmp_path, "fal") as live:
        reply = live.edit({"model": "seedvr-image-upscale", "scale_factor": "2"})
        assert reply.status_code == 502
        assert reply.json()["error"]["reason"] == "bad_result"
        assert stubs["fal"].paid == 1
        assert live.spool.held == 0
        assert not list((live.settings.data_dir / "media").glob("*.png"))


def test_transparency_and_metadata_survive(stubs, tmp_path):
    file, exif = BytesIO(), Image.Exif()
    exif[0x010F] = "Camera of mine"
    image = Image.new("RGBA", (20, 16), (40, 90, 160, 255))
    image.paste((0, 0, 0, 0), (0, 0, 10, 16))
    image.save(file, "PNG", exif=exif)
    with house(stubs, tmp_path, "fal") as live:
        files = {"image": ("a.png", file.getvalue(), "image/png")}
        data = {"model": "seedvr-image-upscale", "scale_factor": "2", "output_format": "webp"}
        result = fetched(live, live.edit(data, files=files))
        assert result.mode == "RGBA"
        assert result.getpixel((2, 10))[3] == 0
        assert result.getpixel((37, 10))[3] == 255
        assert result.getexif()[0x010F] == "Camera of mine"
        (sent,) = stubs["fal"].uploads.values()
        assert b"Camera of mine" not in sent
        assert Image.open(BytesIO(sent)).mode == "RGB"


def test_a_factor_is_never_rounded_and_resampled_only_where_the_caller_says_so(stubs, tmp_path):
    with house(stubs, tmp_path, "vertex") as live:
        data = {"model": "google-upscaler", "scale_factor": "4"}
        files = {"image": ("a.png", png((20, 12)), "image/png")}
        assert fetched(live, live.edit(data, files=files)).size == (80, 48)
    with house(stubs, tmp_path, "replicate") as live:
        data = {"model": "topaz-image-upscale", "scale_factor": "3"}
        reply = live.edit(data, files=files)
        assert reply.status_code == 400, reply.text
        assert stubs["replicate"].paid == 0
        allowed = live.edit({**data, "allow_resample": "true"}, files=files)
        assert fetched(live, allowed).size == (60, 36)
        assert allowed.json()["metadata"]["receipt"]["output"]["resampled"] is True


def test_no_key_is_anywhere(stubs, tmp_path, capsys, caplog):
    """Neither in replies, nor in records, files, logs, nor at another provider's."""
    texts = []
    with house(stubs, tmp_path, *stubs) as live:
        for fault in ("", "503", "key", "policy", "wrong_size"):
            for stub in stubs.values():
                stub.fault = fault
            for model in ("topaz-image-upscale", "aura-sr", "recraft-crisp-upscale"):
                texts.append(live.edit({"model": model}).text)
                texts.append(live.edit({"model": model}, params={"dryRun": "1"}).text)
        texts += [live.client.get(p).text for p in ("/v1/requests", "/openai/v1/models", "/health")]
        for path in (tmp_path / "data").rglob("*"):
            if path.is_file():
                texts.append(path.read_bytes().decode("latin-1"))
    texts += [caplog.text, *capsys.readouterr()]
    secrets = [part for key in KEYS.values() for part in key.split(":") if len(part) > 6]
    for text in texts:
        assert not [secret for secret in secrets if secret in text]
        assert "presigned-secret" not in text
    for name, stub in stubs.items():
        assert stub.leaks == []
        others = [key for other, key in KEYS.items() if other != name]
        seen = json.dumps(stub.seen)
        assert not [key for key in others if key in seen]


def test_models_say_by_whom_they_can_be_served(stubs, tmp_path):
    with house(stubs, tmp_path, "fal") as live:
        models = {m["id"]: m for m in live.client.get("/openai/v1/models").json()["data"]}
        seedvr = models["seedvr-image-upscale"]
        assert seedvr["available"] is True
        by = {r["provider"]: r["available"] for r in seedvr["remote"]}
        assert by["fal"] is True
        assert not any(there for name, there in by.items() if name != "fal")
        assert models["google-upscaler"]["available"] is False


def _until(condition: Any) -> None:
    from tests.server.live import wait_for

    wait_for(condition)


_ = (EDITS, Decimal, Settings, picture)
