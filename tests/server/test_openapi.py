"""The served description: it has every route, its examples run, its page needs nothing else."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tests.server.fake import FakeEngine
from tests.server.live import Live
from upscale.errors import UpscaleError
from upscale.server import openapi
from upscale.server.app import create_app
from upscale.server.schema import COMMON
from upscale.settings import Settings

ROOT = Path(__file__).parents[2]


def routes(app: FastAPI) -> set[tuple[str, str]]:
    """Path and method of every route, those of included routers too."""
    found: set[tuple[str, str]] = set()
    waiting: list[Any] = list(app.routes)
    while waiting:
        route = waiting.pop()
        included = getattr(route, "original_router", None)
        if included is not None:
            waiting += included.routes
        elif isinstance(route, APIRoute) and route.path not in ("/docs", "/openapi.json"):
            path = route.path.replace(":path}", "}")
            found |= {(path, method.lower()) for method in route.methods - {"HEAD"}}
    return found


def described() -> dict[str, Any]:
    return openapi.document()["paths"]  # type: ignore[no-any-return]


def test_every_route_is_described_and_no_other(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    app = create_app(settings, FakeEngine(settings))
    assert routes(app) == {(path, m) for path, methods in described().items() for m in methods}


def test_references_lead_somewhere(live: Live) -> None:
    document = live.client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if "$ref" in node:
                place = document
                for step in node["$ref"].removeprefix("#/").split("/"):
                    place = place[step]
            for value in node.values():
                walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(document)


def test_the_examples_of_bodies_run(live: Live) -> None:
    content = described()[openapi.EDITS]["post"]["requestBody"]["content"]
    for name, example in content["application/json"]["examples"].items():
        reply = live.client.post(openapi.EDITS, json=example["value"])
        assert reply.status_code == 200, (name, reply.text)
    for name, example in content["multipart/form-data"]["examples"].items():
        assert send(live, example["value"]).status_code == 200, name


def send(live: Live, fields: dict[str, str], query: str = "") -> httpx.Response:
    files = {k: (ROOT / v[1:]).read_bytes() for k, v in fields.items() if v.startswith("@")}
    data = {k: v for k, v in fields.items() if k not in files}
    return live.client.post(openapi.EDITS + query, data=data, files=files)


def curl_lines() -> list[str]:
    """The curl commands of the description and of the guides."""
    found = [sample["source"] for sample in described()[openapi.EDITS]["post"]["x-codeSamples"]]
    for page in ("api.md", "from-the-gateway.md"):
        text = (ROOT / "docs" / page).read_text(encoding="utf-8").replace("\\\n", " ")
        found += re.findall(r"^\$ (curl .*)$", text, re.M)
    return found


@pytest.mark.parametrize("command", curl_lines())
def test_the_curl_lines_run(live: Live, command: str) -> None:
    program, url, *rest = shlex.split(command)
    assert (program, set(rest[::2])) == ("curl", {"-F"})
    assert url.startswith("http://127.0.0.1:8000" + openapi.EDITS)
    fields = dict(field.split("=", 1) for field in rest[1::2])
    _, question, query = url.partition("?")
    assert send(live, fields, question + query).status_code == 200


def test_examples_of_replies_have_the_members_of_real_ones(live: Live) -> None:
    def members(value: Any) -> Any:
        open_ended = ("receipt", "plan")
        if isinstance(value, dict):
            return {k: None if k in open_ended else members(v) for k, v in value.items()}
        return [members(v) for v in value[:1]] if isinstance(value, list) else None

    examples = described()[openapi.EDITS]["post"]["responses"]["200"]["content"]
    shown = examples["application/json"]["examples"]
    real = live.edit({"model": "bundled-x4"}).json()
    assert members(real) == members(shown["a result"]["value"])
    dry = live.edit({"model": "bundled-x4"}, params={"dryRun": "true"}).json()
    assert members(dry) == members(shown["a dry run"]["value"])
    assert shown["a dry run"]["value"]["plan"].keys() <= dry["plan"].keys()
    listed = described()["/openai/v1/models/{name}"]["get"]["responses"]["200"]["content"]
    assert (
        listed["application/json"]["example"].keys()
        <= live.client.get("/openai/v1/models/real-esrgan").json().keys()
    )


def test_every_documented_status_has_an_error(live: Live) -> None:
    for methods in described().values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if int(status) < 400:
                    continue
                examples = response["content"]["application/json"]["examples"]
                assert examples, status
                for example in examples.values():
                    assert set(example["value"]["error"]) == {"message", "type", "code", "param"}
    assert {error.code for error in openapi.ERRORS} >= {"MODEL_DISABLED", "RATE_LIMITED"}
    assert all(isinstance(error, UpscaleError) for error in openapi.ERRORS)


def test_the_page_shows_it_all_and_loads_nothing(live: Live) -> None:
    page = live.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in described():
        assert path in page.text
    for field in COMMON:
        assert f"<code>{field}</code>" in page.text
    assert not re.search(
        r"<script|<link|<img|src=|https?://(?!127\.0\.0\.1|json-schema)", page.text
    )


def test_the_guide_lists_the_fields_of_the_description() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = text.split("## Fields", 1)[1].split("\n- ", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [*COMMON, "denoise"]
