"""Requests for models that nobody here knows: through a real server to a stub of the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from PIL import Image

from tests.providers.rig import fresh
from tests.providers.stubs.base import running
from tests.providers.stubs.blocking import GatewayStub
from tests.providers.tools import KEYS
from tests.server.live import Live, png, serving, wait_for
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.settings import Settings

GENERATIONS = "/openai/v1/images/generations"
ASKED = {"model": "flux.2-max", "prompt": "a capybara", "n": 1}


@pytest.fixture(scope="module")
def _gateway() -> Iterator[GatewayStub]:
    with running(GatewayStub(KEYS["lumenfall"])) as stub:
        yield stub


@pytest.fixture
def gateway(_gateway: GatewayStub) -> GatewayStub:
    fresh(_gateway)
    return _gateway


def settings(folder: Path, gateway: GatewayStub, **more: Any) -> Settings:
    given: dict[str, Any] = {
        "data_dir": folder / "data",
        "gateway_base_url": gateway.url,
        "gateway_key": KEYS["lumenfall"],
        **more,
    }
    return Settings(**given)


def house(folder: Path, gateway: GatewayStub, **more: Any) -> Settings:
    """A server of the house instead of the gateway."""
    own: dict[str, Any] = {
        "data_dir": folder / "data",
        "passthrough_base_url": f"{gateway.url}/openai/v1",
        "passthrough_key": KEYS["lumenfall"],
        "local_only": True,
        "local_hosts": "127.0.0.1",
    }
    return Settings(**{**own, **more})


def kept(live: Live, reply: httpx.Response) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def ended() -> bool:
        found.update(live.client.get(f"/v1/requests/{reply.headers['x-request-id']}").json())
        return found["status"] not in ("pending", "processing")

    wait_for(ended)
    return found


def test_a_generation_goes_to_the_gateway_as_it_came(tmp_path, gateway):
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED, headers={"Authorization": "Bearer mine"})
        assert reply.status_code == 200
        assert reply.headers["X-Lumenfall-Provider"] == "gemini"
        assert reply.headers["x-request-id"].startswith("req_")
        job = gateway.jobs["raw-1"]
        assert json.loads(job.sent["raw"]) == ASKED
        assert gateway.seen[-1]["authorization"] == f"Bearer {KEYS['lumenfall']}"
        record = kept(live, reply)
        assert (record["status"], record["model"]) == ("completed", "flux.2-max")
        assert record["sent_to"] == "127.0.0.1"
        assert record["sent_bytes"] == len(job.sent["raw"])
        assert record["cost"] == reply.json()["metadata"]["cost"] == 0.04
        assert live.spool.held == 0


def test_an_edit_by_an_unknown_model_goes_along_with_its_picture(tmp_path, gateway):
    with serving(settings(tmp_path, gateway)) as live:
        picture = png()
        files = {"image": ("mine.png", picture, "image/png")}
        reply = live.edit({"model": "gemini-3-pro-image", "prompt": "bluer"}, files=files)
        assert reply.status_code == 200, reply.text
        (job,) = gateway.jobs.values()
        sent = str(job.sent)
        assert "gemini-3-pro-image" in sent
        assert gateway.paid == 1
        assert kept(live, reply)["model"] == "gemini-3-pro-image"
        # Ours stay ours.
        assert live.edit({"model": "bundled-x4"}).json()["metadata"]["provider"] == "local"
        assert gateway.paid == 1


def test_the_openai_sdk_generates_and_then_upscales(tmp_path, gateway):
    """One base URL for the whole chain."""
    with serving(settings(tmp_path, gateway)) as live:
        client = openai.OpenAI(base_url=f"{live.url}/openai/v1", api_key="x", max_retries=0)
        made = client.images.generate(model="flux.2-max", prompt="a capybara")
        assert made.data
        upscaled = client.images.edit(
            model="bundled-x4", image=("a.png", png(), "image/png"), prompt=""
        )
        assert upscaled.data


def test_without_a_target_the_reply_says_how_to_enable_it(tmp_path, gateway):
    with serving(Settings(data_dir=tmp_path / "data")) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert reply.status_code == 404
        message = reply.json()["error"]["message"]
        assert "LUMENFALL_API_KEY" in message
        assert "UPSCALE_PASSTHROUGH_BASE_URL" in message
        unknown = live.edit({"model": "gemini-3-pro-image"})
        assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "MODEL_NOT_FOUND")
    assert not gateway.seen


def test_local_only_passes_nothing_on_but_to_the_house(tmp_path, gateway):
    with serving(settings(tmp_path, gateway, local_only=True)) as live:
        assert live.client.post(GENERATIONS, json=ASKED).status_code == 404
        assert live.edit({"model": "gemini-3-pro-image"}).status_code == 404
    assert not gateway.seen
    with serving(house(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert reply.status_code == 200
        assert kept(live, reply)["status"] == "completed"


def test_keys_keep_their_limits(tmp_path, gateway):
    with serving(settings(tmp_path, gateway)) as live:
        ring = KeyRing(Database.of(live.settings))
        made = {
            "in": ring.create("in", remote=False),
            "few": ring.create("few", models=["bundled-x4"]),
            "one": ring.create("one", models=["flux.2-max"]),
            "poor": ring.create("poor", spending_limit_micros=1),
            "rich": ring.create("rich", spending_limit_micros=5_000_000),
        }
        codes = {}
        for name, (_, token) in made.items():
            headers = {"Authorization": f"Bearer {token}"}
            reply = live.client.post(GENERATIONS, json=ASKED, headers=headers)
            codes[name] = (reply.status_code, reply.json().get("error", {}).get("code"))
        assert codes == {
            "in": (404, "MODEL_DISABLED"),
            "few": (404, "MODEL_DISABLED"),
            "one": (200, None),
            "poor": (402, "INSUFFICIENT_BALANCE"),
            "rich": (200, None),
        }
        headers = {"Authorization": f"Bearer {made['rich'][1]}"}
        wait_for(lambda: ring.find(made["rich"][1]).spent_micros > 0)  # type: ignore[union-attr]
        assert gateway.paid == 2
        for fields, code in (
            ({"model": "flux.2-max"}, 200),
            ({"model": "dall-e-2"}, 404),
            ({}, 404),
        ):
            reply = live.client.post(
                "/openai/v1/images/variations",
                data=fields,
                files={"image": ("a.png", png(), "image/png")},
                headers={"Authorization": f"Bearer {made['one'][1]}"},
            )
            assert reply.status_code == code, reply.text
        assert gateway.paid == 3
        assert live.client.get("/v1/balance", headers=headers).json()["available"]["amount"] < 5


def test_an_error_comes_back_as_it_is_and_is_on_record(tmp_path, gateway):
    gateway.fault = "400"
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert reply.status_code == 400
        assert "bad value" in reply.text
        record = kept(live, reply)
        assert (record["status"], record["cost"]) == ("rejected", 0)


@pytest.mark.parametrize(("fault", "status"), [("cut_reply", 504), ("401", 502)])
def test_what_fails_between_is_told_as_ours(tmp_path, gateway, fault, status):
    gateway.fault = fault
    with serving(settings(tmp_path, gateway)) as live:
        reply = live.client.post(GENERATIONS, json=ASKED)
        assert (reply.status_code, reply.json()["error"]["code"]) == (status, "UPSTREAM_ERROR")
        assert KEYS["lumenfall"] not in reply.text
        assert kept(live, reply)["status"] == "upstream_failure"
        assert gateway.paid <= 1


def test_a_reply_that_breaks_off_is_not_taken_for_whole(tmp_path, gateway):
    gateway.fault = "half_reply"
    with serving(settings(tmp_path, gateway)) as live:
        with pytest.raises(httpx.RemoteProtocolError):
            live.client.post(GENERATIONS, json=ASKED)
        listed = lambda: live.client.get("/v1/requests").json()["data"][0]  # noqa: E731
        wait_for(lambda: listed()["status"] == "upstream_failure")
        assert live.spool.held == 0


def test_links_are_mirrored_where_the_operator_wants_it(tmp_path, gateway):
    given = {"passthrough_mirror": True, "local_hosts": "127.0.0.1"}
    with serving(settings(tmp_path, gateway, **given)) as live:
        files = {"image": ("a.png", png(), "image/png")}
        gateway.fault = "own_link"
        reply = live.edit({"model": "gemini-3-pro-image"}, files=files)
        (entry,) = reply.json()["data"]
        assert entry["url"].startswith(live.url)
        Image.open(BytesIO(live.client.get(entry["url"]).content)).verify()
