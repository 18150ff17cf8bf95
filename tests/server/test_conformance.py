"""The conformance list of the hosted gateway's API: a request, and what must come back.

One line each, printed as it is met. The servers are real ones on loopback, in front of stubs where
the line is about providers; pixels come from a fake engine, except where the line is about pixels.
"""

from __future__ import annotations

import base64
import http.server
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from tests.providers.rig import all_running
from tests.providers.stubs.base import Stub
from tests.providers.tools import FastClock
from tests.server.live import EDITS, Live, check_error, check_headers, picture, png, serving
from tests.server.remotely import house
from upscale.engine.client import Engine
from upscale.errors import QueueFull
from upscale.providers import registry
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.settings import Settings
from upscale.weights.store import Store

ORIGIN = "https://app.example"
PNG = ("a.png", png(), "image/png")
URI = "data:image/png;base64," + base64.b64encode(png()).decode()
FORMATS = {"png", "jpeg", "gif", "webp", "avif", "tiff"}


@dataclass
class Servers:
    """`box`: fake engine, prices, the test's own picture host allowed. `small`: tiny limits.
    `locked`: a server that has keys, each edit for 0.02 USD. `provided`: stub providers, and a
    server of its own with the keys of those that are named.
    """

    box: Live
    small: Live
    locked: Live
    pictures: str
    real: Callable[[], httpx.Client]
    provided: Callable[..., AbstractContextManager[tuple[dict[str, Stub], Live]]]

    def key(self, name: str, **limits: Any) -> str:
        """The token of a new key of `locked`."""
        return KeyRing(Database.of(self.locked.settings)).create(name, **limits)[1]

    def holder(self, token: str) -> Live:
        """`locked`, with a client that has that token."""
        bearer = {"Authorization": f"Bearer {token}"}
        return replace(self.locked, client=httpx.Client(base_url=self.locked.url, headers=bearer))

    def ok(self, data: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """An edit that must succeed; its body."""
        return ok(self.box.edit(data, **more))

    def text(self, **fields: Any) -> httpx.Response:
        """An edit by text parts alone."""
        fields = {"model": "real-esrgan", **fields}
        return self.box.client.post(EDITS, files=[(k, (None, v)) for k, v in fields.items()])

    def json(self, **fields: Any) -> httpx.Response:
        """An edit by a JSON body."""
        return self.box.client.post(EDITS, json={"model": "real-esrgan", **fields})


def ok(reply: httpx.Response, size: str | None = None) -> dict[str, Any]:
    """Assert the documented shape of a result."""
    assert reply.status_code == 200, reply.text
    check_headers(reply)
    body: dict[str, Any] = reply.json()
    assert set(body) == {"created", "size", "data", "metadata"}
    assert abs(body["created"] - time.time()) < 60
    for entry in body["data"]:
        assert set(entry) in ({"url"}, {"b64_json"})
    about = body["metadata"]
    named = {"model", "executed_model", "provider", "provider_name", "cost", "cost_currency"}
    assert set(about) == named | {"receipt"}
    assert about["executed_model"] == reply.headers["X-Lumenfall-Model"]
    assert about["provider"] == reply.headers["X-Lumenfall-Provider"]
    assert about["cost_currency"] == "USD"
    assert size in (None, body["size"])
    return body


def refused(reply: httpx.Response, param: str | None, *words: str, status: int = 400) -> None:
    """Assert a documented refusal whose message holds `words`, not to be retried."""
    message = check_error(reply, status, param=param)
    assert all(word in message for word in words), message
    assert reply.headers["x-should-retry"] == "false"


Check = Callable[[Servers], None]
LINES: list[tuple[int, str, Check]] = []


def line(number: int, title: str) -> Callable[[Check], Check]:
    """The decorated function checks that line of the list."""

    def add(check: Check) -> Check:
        LINES.append((number, title, check))
        return check

    return add


@line(1, "a file and scale_factor=4: 4x")
def _(s: Servers) -> None:
    with s.real() as client:
        reply = client.post(
            EDITS, data={"model": "real-esrgan", "scale_factor": "4"}, files={"image": PNG}
        )
        body = ok(reply, "48x32")
        with Image.open(BytesIO(client.get(body["data"][0]["url"]).content)) as image:
            assert (image.format, image.size) == ("PNG", (48, 32))
            image.load()


for number, prompt in ((2, {}), (3, {"prompt": ""}), (4, {"prompt": "x"})):

    @line(number, f"the same with {prompt or 'no prompt'}")
    def _(s: Servers, prompt: dict[str, str] = prompt) -> None:
        assert s.ok({"scale_factor": "4", **prompt})["size"] == "48x32"


@line(5, "without scale_factor: 4 for real-esrgan")
def _(s: Servers) -> None:
    assert s.ok()["size"] == "48x32"


@line(6, "without scale_factor: 2 for the others")
def _(s: Servers) -> None:
    for model in ("clarity-upscaler", "topaz-image-upscale", "google-upscaler"):
        assert s.ok({"model": model})["size"] == "24x16"
    for model in ("crystal-upscaler", "seedvr-image-upscale", "aura-sr"):
        default = s.box.client.get(f"/openai/v1/models/{model}").json()["scale_factor"]["default"]
        assert default == (4 if model == "aura-sr" else 2)


@line(7, 'scale_factor "4", "4.0", 4')
def _(s: Servers) -> None:
    for factor in ("4", "4.0", 4):
        assert s.ok({"scale_factor": factor})["size"] == "48x32"
        ok(s.json(image=URI, scale_factor=factor), "48x32")


@line(8, "scale_factor=2.5 rounds the sides")
def _(s: Servers) -> None:
    file = {"image": ("a.png", png((35, 7)), "image/png")}
    assert s.ok({"scale_factor": "2.5"}, files=file)["size"] == "88x18"


@line(9, "scale_factor=0, -1, nan, inf, abc, 1e9: 400 naming the field")
def _(s: Servers) -> None:
    for factor in ("0", "-1", "nan", "inf", "abc", "1e9"):
        refused(s.box.edit({"scale_factor": factor}), "scale_factor", "1 to 16")


@line(10, "google-upscaler with 3: 400 listing 2 and 4")
def _(s: Servers) -> None:
    refused(s.box.edit({"model": "google-upscaler", "scale_factor": "3"}), "scale_factor", "2 or 4")
    refused(s.box.edit({"model": "aura-sr", "scale_factor": "2"}), "scale_factor", "4")


@line(11, "recraft with scale_factor=7: accepted and ignored")
def _(s: Servers) -> None:
    assert s.ok({"model": "recraft-crisp-upscale", "scale_factor": "7"})["size"] == "24x16"
    served = s.box.edit({"model": "recraft-creative-upscale", "scale_factor": "7"})
    check_error(served, 404, "MODEL_DISABLED", "model")


@line(12, "topaz 1.5 accepted, 7 refused")
def _(s: Servers) -> None:
    assert s.ok({"model": "topaz-image-upscale", "scale_factor": "1.5"})["size"] == "18x12"
    topaz = {"model": "topaz-image-upscale", "scale_factor": "7"}
    refused(s.box.edit(topaz), "scale_factor", "1 to 6")


@line(13, "image[] with one file")
def _(s: Servers) -> None:
    s.ok(files=[("image[]", PNG)])


@line(14, "image[0] as a file")
def _(s: Servers) -> None:
    s.ok(files=[("image[0]", PNG)])


@line(15, "image[] with two files: 400")
def _(s: Servers) -> None:
    refused(s.box.edit(files=[("image[]", PNG)] * 2), "image", "one image per request")


@line(16, "image as a URL in a text part: fetched")
def _(s: Servers) -> None:
    ok(s.text(image=s.pictures), "48x32")


@line(17, "image as a data URI of 8 MB in a text part")
def _(s: Servers) -> None:
    large = base64.b64encode(png() + bytes(8 << 20)).decode()
    ok(s.text(image=f"data:image/png;base64,{large}"), "48x32")


@line(18, "image_url beside an empty image part")
def _(s: Servers) -> None:
    empty = ("image", ("upload", b"", "application/octet-stream"))
    s.ok(files=[("image_url", (None, URI)), empty])


@line(19, "JSON with a URL or a data URI")
def _(s: Servers) -> None:
    for image in (URI, s.pictures, {"url": URI}, [URI]):
        ok(s.json(image=image, scale_factor=4), "48x32")


@line(20, "JSON with images[].image_url")
def _(s: Servers) -> None:
    ok(s.json(images=[{"image_url": URI}]), "48x32")


@line(21, "image[0]=137 text parts: 400 naming the mistake")
def _(s: Servers) -> None:
    parts = {f"image[{i}]": str(byte) for i, byte in enumerate(png())}
    refused(s.text(**parts), "image", "one field for each byte", "toFile")


@line(22, "no image: 400")
def _(s: Servers) -> None:
    refused(s.text(prompt="x"), "image", "missing", "toFile")


@line(23, "an empty file: 400")
def _(s: Servers) -> None:
    refused(s.box.edit(files={"image": ("a.png", b"")}), "image", "empty")


@line(24, "a text file named .png: 400")
def _(s: Servers) -> None:
    refused(s.box.edit(files={"image": ("a.png", b"hello", "image/png")}), "image")


@line(25, "a PNG sent as image/jpeg")
def _(s: Servers) -> None:
    s.ok(files={"image": ("a.jpg", png(), "image/jpeg")})


@line(26, "a chunked body without a length")
def _(s: Servers) -> None:
    fields, file = {"model": "real-esrgan"}, {"image": PNG}
    whole = s.box.client.build_request("POST", EDITS, data=fields, files=file)
    body, kind = whole.read(), {"content-type": whole.headers["content-type"]}
    reply = s.box.client.post(EDITS, content=iter([body[:90], body[90:]]), headers=kind)
    assert "content-length" not in reply.request.headers
    ok(reply, "48x32")


@line(27, "fields after the file")
def _(s: Servers) -> None:
    fields = [("model", (None, "real-esrgan")), ("scale_factor", (None, "2"))]
    ok(s.box.client.post(EDITS, files=[("image", PNG), *fields]), "24x16")


@line(28, "a field twice: 400 where the values differ")
def _(s: Servers) -> None:
    refused(s.box.edit({"model": ["real-esrgan", "tiny-x2"]}), "model", "one value")
    s.ok({"model": ["real-esrgan", "real-esrgan"]})


@line(29, "b64_json decodes to the right size and format")
def _(s: Servers) -> None:
    fields = {"model": "real-esrgan", "response_format": "b64_json", "scale_factor": "2.5"}
    with s.real() as client:
        body = ok(client.post(EDITS, data=fields, files={"image": PNG}), "30x20")
    with Image.open(BytesIO(base64.b64decode(body["data"][0]["b64_json"]))) as image:
        assert (image.format, image.size) == ("PNG", (30, 20))
        image.load()


@line(30, "response_format=xyz: 400")
def _(s: Servers) -> None:
    refused(s.box.edit({"response_format": "xyz"}), "response_format", "url or b64_json")


@line(31, "output_format png, jpeg, gif, webp, avif, tiff: the file is that")
def _(s: Servers) -> None:
    with s.real() as client:
        for format in FORMATS:
            fields = {"model": "real-esrgan", "output_format": format}
            body = ok(client.post(EDITS, data=fields, files={"image": PNG}), "48x32")
            got = client.get(body["data"][0]["url"])
            assert got.headers["content-type"] == f"image/{format}"
            with Image.open(BytesIO(got.content)) as image:
                assert (image.format, image.size) == (format.upper(), (48, 32))
                image.load()


@line(32, "output_compression 0, 100; 101, x: 400")
def _(s: Servers) -> None:
    for good in ("0", "100"):
        s.ok({"output_format": "jpeg", "output_compression": good})
    for bad in ("101", "x"):
        refused(s.box.edit({"output_compression": bad}), "output_compression", "0 to 100")


@line(33, "n=3: three entries")
def _(s: Servers) -> None:
    assert len(s.ok({"n": "3"})["data"]) == 3


@line(34, "n=0, 11: 400")
def _(s: Servers) -> None:
    for bad in ("0", "11"):
        refused(s.box.edit({"n": bad}), "n", "1 to 10")


@line(35, "size, aspect_ratio, quality, style: ignored")
def _(s: Servers) -> None:
    others = {"size": "1x1", "aspect_ratio": "1:1", "quality": "hd", "style": "vivid"}
    more = {"background": "auto", "moderation": "low", "partial_images": "0", "mask": "x"}
    assert s.ok({**others, **more})["size"] == "48x32"


@line(36, "an unknown field: ignored")
def _(s: Servers) -> None:
    s.ok({"frobnicate": "7", "a[b][]": "c"})


@line(37, "stream=true: 400")
def _(s: Servers) -> None:
    refused(s.box.edit({"stream": "true"}), "stream", "no event stream")


def dry(s: Servers, data: dict[str, Any] | None = None, wish: str = "true") -> dict[str, Any]:
    """The body of a dry run, its shape asserted."""
    reply = s.box.edit(data, params={"dryRun": wish})
    assert reply.status_code == 200, reply.text
    check_headers(reply)
    body: dict[str, Any] = reply.json()
    shape = {"estimated", "model", "provider", "total_cost_micros", "currency", "components"}
    assert set(body) == shape | {"plan"}
    assert body["estimated"] is True
    assert body["total_cost_micros"] == sum(c["total_cost"] for c in body["components"])
    for component in body["components"]:
        kinds = {"type", "metric", "quantity", "billable_quantity", "unit_price", "total_cost"}
        assert set(component) == kinds
    assert {"passes", "tiles", "memory", "expected_seconds", "expected_bytes"} <= set(body["plan"])
    return body


def nothing_done(s: Servers) -> bool:
    """Whether no job ran and nothing is left in the spool."""
    [own] = (s.box.settings.data_dir / "spool").iterdir()
    return not s.box.engine.jobs and [path.name for path in own.iterdir()] == ["lock"]


@line(38, "dryRun=true: priced and planned, nothing run, nothing stored")
def _(s: Servers) -> None:
    before = sorted((s.box.settings.data_dir / "media").rglob("*"))
    dry(s)
    assert nothing_done(s)
    assert sorted((s.box.settings.data_dir / "media").rglob("*")) == before


@line(39, "dryRun=TRUE, 1: the same; dryRun=false: a real run")
def _(s: Servers) -> None:
    for wish in ("TRUE", "True", "1", "yes"):
        dry(s, wish=wish)
    assert nothing_done(s)
    ok(s.box.edit(params={"dryRun": "false"}))


@line(40, "a dry run with a bad parameter: the run's error")
def _(s: Servers) -> None:
    for bad in ({"scale_factor": "99"}, {"model": "nothing"}, {"model": "aura-sr"}, {"n": "0"}):
        run, rehearsal = s.box.edit(bad), s.box.edit(bad, params={"dryRun": "true"})
        assert (run.status_code, run.json()) == (rehearsal.status_code, rehearsal.json())


@line(41, "the dry run's total is the later cost")
def _(s: Servers) -> None:
    for fields in ({}, {"n": "3"}, {"scale_factor": "2.5"}, {"model": "recraft-crisp-upscale"}):
        total = dry(s, fields)["total_cost_micros"]
        assert total > 0
        assert round(Decimal(str(s.ok(fields)["metadata"]["cost"])) * 1_000_000) == total


@line(42, "n=2 doubles the quantities")
def _(s: Servers) -> None:
    one, two = dry(s), dry(s, {"n": "2"})
    for a, b in zip(one["components"], two["components"], strict=True):
        assert b["quantity"] == pytest.approx(2 * a["quantity"])


def locked_out(reply: httpx.Response) -> None:
    """Assert the documented 401."""
    assert check_error(reply, 401, "AUTHENTICATION_FAILED") == "Invalid API key"
    assert reply.json()["error"]["type"] == "authentication_error"
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.headers["x-should-retry"] == "false"


@line(43, "no key where keys are required: 401")
def _(s: Servers) -> None:
    s.key("line 43")
    locked_out(s.locked.edit())
    locked_out(s.locked.client.get("/openai/v1/models"))
    locked_out(s.locked.edit(params={"dryRun": "true"}))


@line(44, "another scheme, an unknown key: 401")
def _(s: Servers) -> None:
    token = s.key("line 44")
    for header in (f"Basic {token}", token, "Bearer", "Bearer upk_nobody", "Bearer ü"):
        locked_out(s.locked.edit(headers={"Authorization": header.encode()}))
    ok(s.locked.edit(headers={"Authorization": f"bearer {token}"}))


@line(45, "a revoked key: 401")
def _(s: Servers) -> None:
    holder = s.holder(s.key("line 45"))
    ok(holder.edit())
    KeyRing(Database.of(s.locked.settings)).revoke("line 45")
    locked_out(holder.edit())


@line(46, "no model: 400")
def _(s: Servers) -> None:
    refused(s.box.edit({"model": ""}), "model", "missing")


@line(47, "an unknown model: 404 with a suggestion")
def _(s: Servers) -> None:
    reply = s.box.edit({"model": "real-esrgn"})
    assert "real-esrgan" in check_error(reply, 404, "MODEL_NOT_FOUND", "model")


@line(48, "a model that is not served: 404 MODEL_DISABLED and the way out")
def _(s: Servers) -> None:
    message = check_error(s.box.edit({"model": "aura-sr"}), 404, "MODEL_DISABLED", "model")
    assert "upscale weights" in message


@line(49, "fal/aura-sr without a key of fal's: what to configure")
def _(s: Servers) -> None:
    with s.provided() as (_, live):
        message = check_error(live.edit({"model": "fal/aura-sr"}), 404, "MODEL_DISABLED", "model")
    assert "FAL_KEY" in message


@line(50, "local/real-esrgan: local")
def _(s: Servers) -> None:
    assert s.ok({"model": "local/real-esrgan"})["metadata"]["provider"] == "local"


@line(51, "above the spending limit: 402, with both amounts")
def _(s: Servers) -> None:
    holder = s.holder(s.key("line 51", spending_limit_micros=50_000))
    for left in (0.03, 0.01):
        assert ok(holder.edit())["metadata"]["cost"] == 0.02
        assert holder.client.get("/v1/balance").json()["available"]["amount"] == left
    ran = len(s.locked.engine.jobs)
    refusal = holder.edit()
    message = check_error(refusal, 402, "INSUFFICIENT_BALANCE")
    assert "$0.020000" in message
    assert "$0.010000" in message
    assert refusal.json()["error"]["type"] == "insufficient_quota"
    assert refusal.headers["x-should-retry"] == "false"
    assert len(s.locked.engine.jobs) == ran


@line(52, "above the limit of a minute: 429 with Retry-After")
def _(s: Servers) -> None:
    for name, limits in (
        ("line 52", {"requests_per_minute": 2}),
        ("line 52 too", {"megapixels_per_minute": 0.001}),
    ):
        holder = s.holder(s.key(name, **limits))
        replies = [holder.edit() for _ in range(3)]
        ok(replies[0])
        check_error(replies[2], 429, "RATE_LIMITED")
        assert replies[2].json()["error"]["type"] == "rate_limit_error"
        assert 1 <= int(replies[2].headers["retry-after"]) <= 60


@line(53, "a full queue: 429 with Retry-After")
def _(s: Servers) -> None:
    s.box.engine.failure = QueueFull("16 jobs are waiting.", retry_after=400)
    reply = s.box.edit()
    check_error(reply, 429, "RATE_LIMITED")
    assert 1 <= int(reply.headers["retry-after"]) <= 60


@line(54, "every route fails: ALL_PROVIDERS_EXHAUSTED, not to be retried")
def _(s: Servers) -> None:
    with s.provided("fal", "topaz") as (stubs, live):
        stubs["fal"].fault = stubs["topaz"].fault = "503"
        reply = live.edit({"model": "topaz-image-upscale", "scale_factor": "2"})
    assert (reply.status_code, reply.headers["x-should-retry"]) == (502, "false")
    error = reply.json()["error"]
    assert (error["code"], error["type"]) == ("ALL_PROVIDERS_EXHAUSTED", "server_error")
    assert [attempt["provider"] for attempt in error["attempts"]] == ["fal", "topaz"]


@line(55, "a provider refuses the content: UPSTREAM_ERROR, no other is asked")
def _(s: Servers) -> None:
    with s.provided("fal", "topaz") as (stubs, live):
        stubs["fal"].fault = "policy"
        reply = live.edit({"model": "topaz-image-upscale", "scale_factor": "2"})
        assert stubs["topaz"].paid == 0
    assert (reply.status_code, reply.headers["x-should-retry"]) == (400, "false")
    error = reply.json()["error"]
    assert (error["code"], error["reason"]) == ("UPSTREAM_ERROR", "content_policy")


@line(56, "GET models: a list with the four fields")
def _(s: Servers) -> None:
    body = s.box.client.get("/openai/v1/models").json()
    assert body["object"] == "list"
    assert len(body["data"]) > 9
    for entry in body["data"]:
        assert {"id", "object", "created", "owned_by"} <= set(entry)
        assert (entry["object"], type(entry["created"])) == ("model", int)


@line(57, "GET models/{id}, slash escaped or not; unknown: 404")
def _(s: Servers) -> None:
    for name in ("aura-sr", "fal/aura-sr", "fal%2Faura-sr"):
        assert s.box.client.get(f"/openai/v1/models/{name}").json()["id"] == "aura-sr"
    reply = s.box.client.get("/openai/v1/models/invalid-model")
    message = check_error(reply, 404, "MODEL_NOT_FOUND", "model")
    assert message.startswith("Model 'invalid-model' not found")


@line(58, "GET /v1/models/{id}?schema=true: JSON Schema")
def _(s: Servers) -> None:
    schema = s.box.client.get("/v1/models/google-upscaler?schema=true").json()
    assert schema["type"] == "object"
    assert schema["properties"]["scale_factor"]["enum"] == [2, 4]
    assert schema["required"] == ["model", "image"]


# What the gateway documents of a request.
RECORD = {"id", "object", "created_at", "model", "modality", "endpoint", "status", "cost"}
RECORD |= {"currency", "duration_ms", "key_id", "error_code", "error_message", "session_id"}
RECORD |= {"trace_id", "user", "request_size_bytes", "response_size_bytes"}


@line(59, "GET /v1/requests pages both ways")
def _(s: Servers) -> None:
    holder = s.holder(s.key("line 59"))
    made = [holder.edit().headers["x-request-id"] for _ in range(5)][::-1]
    pages, url = [], "/v1/requests?limit=2&summary=true"
    while url:
        page = holder.client.get(url).json()
        assert page["object"] == "list"
        assert all(set(request) == RECORD for request in page["data"])
        assert page["summary"]["total_requests"] == 5
        pages.append([request["id"] for request in page["data"]])
        back, url = page["previous_page_url"], page["next_page_url"]
    assert pages == [made[:2], made[2:4], made[4:]]
    before = []
    while back:
        page = holder.client.get(back).json()
        before.append([request["id"] for request in page["data"]])
        back = page["previous_page_url"]
    assert before == [made[2:4], made[:2]]
    both = holder.client.get(f"/v1/requests?starting_after={made[0]}&ending_before={made[4]}")
    check_error(both, 400, param="ending_before")
    for limit in ("0", "101", "x"):
        check_error(holder.client.get(f"/v1/requests?limit={limit}"), 400, param="limit")
    # Of another key there is nothing to see.
    other = s.holder(s.key("line 59, another"))
    assert other.client.get("/v1/requests").json()["data"] == []
    for cursor in ("starting_after", "ending_before"):
        check_error(other.client.get(f"/v1/requests?{cursor}={made[0]}"), 400, param=cursor)


@line(60, "GET /v1/requests/{id}")
def _(s: Servers) -> None:
    holder = s.holder(s.key("line 60"))
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    headers = {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "x-session-id": "scan-7"}
    made = holder.edit({"user": "ada"}, headers=headers)
    found = holder.client.get(f"/v1/requests/{made.headers['x-request-id']}")
    check_headers(found)
    body = found.json()
    assert set(body) >= RECORD
    assert (body["object"], body["status"], body["cost"]) == ("request", "completed", 0.02)
    assert (body["user"], body["session_id"], body["trace_id"]) == ("ada", "scan-7", trace)
    assert (body["model"], body["endpoint"]) == ("real-esrgan", EDITS)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", body["created_at"])
    wrong = holder.edit({"scale_factor": "99"})
    failed = holder.client.get(f"/v1/requests/{wrong.headers['x-request-id']}").json()
    assert (failed["status"], failed["error_code"]) == ("rejected", "INVALID_REQUEST")
    assert failed["error_message"] == wrong.json()["error"]["message"]
    other = s.holder(s.key("line 60, another"))
    for asking, id in ((holder, "req_nope"), (other, body["id"])):
        check_error(asking.client.get(f"/v1/requests/{id}"), 404, param="id")


@line(61, "DELETE payloads twice: already_purged")
def _(s: Servers) -> None:
    holder = s.holder(s.key("line 61"))
    made = holder.edit()
    place = f"/v1/requests/{made.headers['x-request-id']}"
    link = made.json()["data"][0]["url"]
    assert holder.client.get(link).status_code == 200
    for already, deleted in ((False, 1), (True, 0)):
        body = holder.client.delete(f"{place}/payloads").json()
        assert (body["purged"], body["already_purged"]) == (True, already)
        assert body["media_deleted"] == deleted
        check_error(holder.client.get(link), 404)
    assert holder.client.get(place).json()["response"] is None


@line(62, "a media link: type, HEAD, Range, 404 after its time")
def _(s: Servers) -> None:
    url = s.ok({"output_format": "webp"})["data"][0]["url"]
    whole = s.box.client.get(url)
    assert whole.headers["content-type"] == "image/webp"
    head = s.box.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    part = s.box.client.get(url, headers={"range": "bytes=2-5"})
    assert (part.status_code, part.content) == (206, whole.content[2:6])
    short = s.small.edit({"scale_factor": "2"}).json()["data"][0]["url"]
    assert s.small.client.get(short).status_code == 200
    deadline = time.monotonic() + 10
    while s.small.client.get(short).status_code == 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    check_error(s.small.client.get(short), 404)


@line(63, "a media link as the next image, without the network")
def _(s: Servers) -> None:
    url = ok(s.small.edit({"scale_factor": "2"}), "24x16")["data"][0]["url"]
    fields = {"model": "real-esrgan", "image": url, "scale_factor": "2"}
    ok(s.small.client.post(EDITS, json=fields), "48x32")


@line(64, "unknown path 404, method 405, content type 415, body 413: in the shape")
def _(s: Servers) -> None:
    for path in ("/nope", "/openai/v1/nope", EDITS + "/"):
        refused(s.box.client.post(path), None, status=404)
    refused(s.box.client.put(EDITS), None, status=405)
    refused(s.box.client.post(EDITS, content=b"x"), None, status=415)
    large = {"image": ("a.png", png() + bytes(200_000))}
    refused(s.small.edit(files=large), None, "100,000 bytes", status=413)


@line(65, "every reply has the X-Lumenfall headers and x-request-id")
def _(s: Servers) -> None:
    for method, path in (
        ("GET", "/openai/v1/models"),
        ("GET", "/health"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("HEAD", "/openai/v1/models/aura-sr"),
        ("OPTIONS", EDITS),
        ("GET", "/nope"),
        ("PUT", EDITS),
        ("POST", EDITS),
    ):
        check_headers(s.box.client.request(method, path))


@line(66, "HEAD, OPTIONS and CORS")
def _(s: Servers) -> None:
    assert s.box.client.head("/openai/v1/models").status_code == 200
    asked = s.box.client.options(EDITS)
    assert (asked.status_code, asked.headers["allow"]) == (204, "POST, OPTIONS")
    preflight = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization",
    }
    allowed = s.box.client.options(EDITS, headers=preflight)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    other = s.box.client.options(EDITS, headers={**preflight, "origin": "https://evil.example"})
    assert "access-control-allow-origin" not in other.headers
    # Errors can be read by the page too.
    failed = s.box.client.post(EDITS, headers={"origin": ORIGIN})
    assert failed.headers["access-control-allow-origin"] == ORIGIN
    assert "x-request-id" in failed.headers["access-control-expose-headers"].lower()


@line(67, "the caller goes away: the work stops")
def _(s: Servers) -> None:
    s.box.engine.held = True
    request = httpx.Request(
        "POST", s.box.url + EDITS, data={"model": "real-esrgan"}, files={"image": PNG}
    )
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    with socket.create_connection(("127.0.0.1", request.url.port or 0)) as connection:
        connection.sendall(f"POST {EDITS} HTTP/1.1\r\n{head}\r\n".encode() + request.read())
        assert s.box.engine.begun.wait(30)
    assert s.box.engine.cancelled.wait(30)


@line(68, "an image over the pixel limit: 413 before decoding")
def _(s: Servers) -> None:
    file = {"image": ("a.png", png((40, 40)), "image/png")}
    refused(s.small.edit(files=file), "image", "1,000 pixels", status=413)
    assert not s.small.engine.jobs


@line(69, "a truncated JPEG: 400")
def _(s: Servers) -> None:
    whole = picture("jpeg", (64, 64))
    with s.real() as client:
        for cut in (10, len(whole) // 2):
            file = {"image": ("a.jpg", whole[:cut], "image/jpeg")}
            refused(client.post(EDITS, data={"model": "real-esrgan"}, files=file), "image")


@line(70, "a private address as the image's URL: 400, no connection made")
def _(s: Servers) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.2", 0))
        listener.listen()
        listener.setblocking(False)
        port = listener.getsockname()[1]
        for host in ("127.0.0.2", "[::ffff:127.0.0.2]"):
            refused(s.text(image=f"http://{host}:{port}/a.png"), "image", "private")
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.fixture(scope="module")
def pictures() -> Iterator[str]:
    """The address of a picture on a server of the test's own."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(png())

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/a.png"
        server.shutdown()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> Iterator[Live]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("box"),
        weights_dir=weights_dir,
        max_body_bytes=24 << 20,
        local_hosts="127.0.0.1",
        price_per_image=Decimal("0.01"),
        price_per_megapixel=Decimal("0.0123"),
        cors_origins=ORIGIN,
    )
    with serving(settings) as live:
        yield live


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> Iterator[Live]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("locked"),
        weights_dir=weights_dir,
        price_per_image=Decimal("0.02"),
    )
    with serving(settings) as live:
        yield live


@pytest.fixture(scope="module")
def real(
    tmp_path_factory: pytest.TempPathFactory, shared_data_dir: Path
) -> Iterator[Callable[[], httpx.Client]]:
    """Clients of a server with a real engine, in which the bundled network serves real-esrgan."""
    [bundled] = [n for n in Store(tmp_path_factory.mktemp("none")).networks() if n.bundled]
    weights = tmp_path_factory.mktemp("real")
    Store(weights).register(bundled.path, name="copy-x4", serves="real-esrgan", replace=False)
    settings = Settings(data_dir=shared_data_dir, weights_dir=weights, device="cpu", tile=64)
    with serving(settings, Engine(settings)) as live:
        yield lambda: httpx.Client(base_url=live.url, timeout=300)


@pytest.fixture
def servers(
    request: pytest.FixtureRequest,
    box: Live,
    small: Live,
    locked: Live,
    pictures: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Servers]:
    box.engine.reset()

    @contextmanager
    def provided(*names: str) -> Iterator[tuple[dict[str, Stub], Live]]:
        monkeypatch.setattr(registry, "Clock", lambda: FastClock().clock)
        with all_running() as stubs, house(stubs, tmp_path, *names) as live:
            yield stubs, live

    real = lambda: request.getfixturevalue("real")()  # noqa: E731
    yield Servers(box, small, locked, pictures, real, provided)
    box.engine.held = False


REAL = {1, 29, 31, 69}
CASES = [
    pytest.param(*each, id=f"{each[0]}", marks=[pytest.mark.slow] if each[0] in REAL else [])
    for each in sorted(LINES, key=lambda each: each[0])
]


@pytest.mark.parametrize(("number", "title", "check"), CASES)
def test_line(
    servers: Servers, capsys: pytest.CaptureFixture[str], number: int, title: str, check: Check
) -> None:
    try:
        check(servers)
    except BaseException:
        _print(capsys, f"conformance {number:2}  FAILED  {title}")
        raise
    _print(capsys, f"conformance {number:2}  ok  {title}")


def _print(capsys: pytest.CaptureFixture[str], text: str) -> None:
    with capsys.disabled():
        print(f"\n{text}", end="")


def test_the_list_is_whole() -> None:
    assert sorted(number for number, _, _ in LINES) == list(range(1, 71))
