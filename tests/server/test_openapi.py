"""The served description: it has every route, its examples run, its page needs nothing else."""

from __future__ import annotations

import re
import shlex
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.server.fake import FakeEngine
from tests.server.live import Live, serving, wait_for
from upscale.errors import QueueFull, ServerFault, UpscaleError
from upscale.server import openapi
from upscale.server.app import create_app
from upscale.server.openapi.edits import PICTURE
from upscale.server.openapi.native import ONE_REQUEST, REQUESTS
from upscale.server.openapi.operations import ERRORS
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.schema import BESIDES, FIELDS
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
        else:
            path = route.path.replace(":path}", "}")
            found |= {(path, method.lower()) for method in route.methods}
    return found


def described() -> dict[str, Any]:
    return openapi.document()["paths"]  # type: ignore[no-any-return]


def operations() -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation, by path and method."""
    return {(path, name): told for path, all in described().items() for name, told in all.items()}


def reply_of(path: str, method: str, status: int) -> dict[str, Any]:
    """What is told of a reply; references are followed."""
    told: dict[str, Any] = operations()[path, method]["responses"][str(status)]
    if "$ref" in told:
        found: dict[str, Any] = openapi.document()["components"]["responses"]
        return found[told["$ref"].rpartition("/")[2]]  # type: ignore[no-any-return]
    return told


def test_every_route_and_method_is_described_and_no_other(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    app = create_app(settings, FakeEngine(settings))
    assert routes(app) == set(operations())


def test_operations_have_names_of_their_own() -> None:
    names = [operation["operationId"] for operation in operations().values()]
    assert len({*names}) == len(names)


def examples(node: Any, place: str = "") -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Everything that has a schema and examples of it: where it stands, both."""
    if isinstance(node, dict):
        shown = [each["value"] for each in node.get("examples", {}).values()]
        if "schema" in node:
            shown += [node["example"]] if "example" in node else []
            shown += [node["schema"]["default"]] if "default" in node["schema"] else []
            yield from ((place, node["schema"], example) for example in shown)
        elif "default" in node and "type" in node:
            yield place, node, node["default"]
        for name, value in node.items():
            if name not in ("example", "examples"):
                yield from examples(value, f"{place}/{name}")
    elif isinstance(node, list):
        for value in node:
            yield from examples(value, place)


def test_every_example_fits_its_own_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema_rs", reason="jsonschema_rs is not installed")
    document = openapi.document()
    found = [*examples(document)]
    assert len(found) > 60
    for place, schema, example in found:
        whole = {**schema, "components": document["components"]}
        validator = jsonschema.Draft202012Validator(whole, validate_formats=True)
        assert [error.message for error in validator.iter_errors(example)] == [], place


def fits(schema: str, value: Any) -> bool:
    """Whether a body is one that the description of `schema` lets through."""
    jsonschema = pytest.importorskip("jsonschema_rs", reason="jsonschema_rs is not installed")
    whole = {
        "$ref": f"#/components/schemas/{schema}",
        "components": openapi.document()["components"],
    }
    return bool(jsonschema.Draft202012Validator(whole, validate_formats=True).is_valid(value))


@pytest.mark.parametrize(
    "image",
    [
        {"image": PICTURE},
        {"image": {"url": PICTURE}},
        {"image": {"image_url": PICTURE}},
        {"image": [PICTURE]},
        {"image[]": [PICTURE]},
        {"image_url": PICTURE},
        {"images": [PICTURE]},
        {"images": [{"image_url": PICTURE}]},
        {"images": [{"url": PICTURE}]},
    ],
)
def test_every_way_to_name_an_image_is_described_and_taken(
    live: Live, image: dict[str, Any]
) -> None:
    body = {"model": "bundled-x4", **image}
    assert fits("Edit", body)
    assert live.client.post(openapi.EDITS, json=body).status_code == 200


@pytest.mark.parametrize("image", [{}, {"picture": PICTURE}, {"image": 3}, {"images": []}])
def test_what_names_no_image_is_neither(live: Live, image: dict[str, Any]) -> None:
    body = {"model": "bundled-x4", **image}
    assert not fits("Edit", body)
    assert live.client.post(openapi.EDITS, json=body).status_code == 400


@pytest.mark.parametrize("name", ["image", "image[]", "image_url", "image[url]"])
def test_forms_take_an_image_under_every_name(live: Live, name: str) -> None:
    body = {"model": "bundled-x4", name: PICTURE}
    for encoded in ({"data": body}, {"files": {key: (None, text) for key, text in body.items()}}):
        assert live.client.post(openapi.EDITS, **encoded).status_code == 200  # type: ignore[arg-type]
    assert name in openapi.document()["components"]["schemas"]["EditForm"]["properties"]
    assert name in openapi.document()["components"]["schemas"]["EditFields"]["properties"]


def test_every_spelling_in_the_query_is_understood(live: Live) -> None:
    for (path, method), operation in operations().items():
        for parameter in operation.get("parameters", ()):
            if parameter["in"] != "query" or "anyOf" not in parameter["schema"]:
                continue
            target = path.replace("{name}", "bundled-x4")
            *_, spellings = parameter["schema"]["anyOf"]
            for text in spellings["enum"]:
                body = (
                    {"json": {"model": "bundled-x4", "image": PICTURE}} if method == "post" else {}
                )
                query = {parameter["name"]: text}
                reply = live.client.request(method.upper(), target, params=query, **body)
                assert reply.status_code == 200, (path, query)
                if method != "head":
                    said_yes = not {"estimated", "$schema", "summary"}.isdisjoint(reply.json())
                    no = spellings["enum"].index(text) in range(6, 12)
                    assert said_yes is not no, (path, query)


def test_the_headers_of_every_reply_are_described(live: Live) -> None:
    """Those of the library aside; what is described is there."""
    path = "/media/{name}"
    link = live.edit({"model": "bundled-x4"}).json()["data"][0]["url"]
    asked = {
        200: {},
        206: {"Range": "bytes=0-3"},
        304: {"If-None-Match": "*"},
        412: {"If-Match": '"another"'},
        416: {"Range": "bytes=9999999-"},
    }
    replies = [(path, "get", live.client.get(link, headers=h), s) for s, h in asked.items()]
    replies += [
        (path, "head", live.client.head(link, headers=asked[s]), s) for s in (200, 304, 412)
    ]
    for method in ("get", "head"):
        for other in ("/openai/v1/models", "/health", "/docs", "/openapi.json"):
            replies.append((other, method, live.client.request(method.upper(), other), 200))
        gone = live.client.request(method.upper(), "/media/gone.png")
        replies.append((path, method, gone, 404))
        replies.append((path, method, live.client.put(link), 405))
    replies.append((openapi.EDITS, "post", live.edit({"model": "bundled-x4"}), 200))
    replies.append((openapi.EDITS, "post", live.edit({"n": "0"}), 400))
    replies.append((openapi.EDITS, "post", live.edit({"model": "nope"}), 404))
    replies.append((openapi.EDITS, "post", live.client.get(openapi.EDITS), 405))
    later = live.edit({"background": "true", "model": "bundled-x4"})
    replies.append((openapi.EDITS, "post", later, 202))
    place = later.headers["location"]
    done(live, place)
    asked_for = (("/v1/balance", "/v1/balance"), ("/v1/keys", "/v1/keys"), (REQUESTS, REQUESTS))
    for where, at in (*asked_for, (ONE_REQUEST, place)):
        for method in ("get", "head"):
            replies.append((where, method, live.client.request(method.upper(), at), 200))
    events = f"{place}/events"
    replies.append((f"{ONE_REQUEST}/events", "get", live.client.get(events), 200))
    seen = live.client.get(events, headers={"Last-Event-ID": "end"})
    replies.append((f"{ONE_REQUEST}/events", "get", seen, 204))
    for last, status in (("", 200), ("end", 204)):
        head = live.client.head(events, headers={"Last-Event-ID": last})
        replies.append((f"{ONE_REQUEST}/events", "head", head, status))
    replies.append((ONE_REQUEST, "delete", live.client.delete(place), 200))
    for _ in range(2):
        gone = live.client.delete(f"{place}/payloads")
        replies.append((f"{ONE_REQUEST}/payloads", "delete", gone, 200))
    replies.append((ONE_REQUEST, "delete", live.client.delete(f"{REQUESTS}/nope"), 404))
    plain = {"date", "server", "content-type", "content-length", "content-security-policy"}
    plain |= {"transfer-encoding"}
    for where, method, reply, status in replies:
        assert reply.status_code == status, (where, method, reply.text)
        told = {name.lower() for name in reply_of(where, method, status)["headers"]}
        assert told - {*reply.headers} == set(), (where, method, status)
        assert {*reply.headers} - told - plain == set(), (where, method, status)


def done(live: Live, place: str) -> dict[str, Any]:
    """The request object of a background job, once it has ended."""
    wait_for(lambda: live.client.get(place).json()["duration_ms"] is not None)
    return live.client.get(place).json()  # type: ignore[no-any-return]


@pytest.fixture
def locked(tmp_path: Path, weights_dir: Path) -> Iterator[Live]:
    """A server with a key that may spend a cent, and ask once a minute."""
    settings = Settings(data_dir=tmp_path, weights_dir=weights_dir, price_per_image=Decimal("0.02"))
    with serving(settings) as live:
        ring = KeyRing(Database.of(settings))
        _, token = ring.create("poor", spending_limit_micros=10_000)
        _, hasty = ring.create("hasty", requests_per_minute=1)
        live.client.headers["Authorization"] = f"Bearer {token}"
        live.client.headers["x-hasty"] = f"Bearer {hasty}"
        yield live


def test_who_is_not_let_in_and_who_has_no_money_is_described(locked: Live) -> None:
    def check(path: str, method: str, reply: httpx.Response, status: int) -> None:
        told = {name.lower() for name in reply_of(path, method, status)["headers"]}
        assert reply.status_code == status, (path, reply.text)
        assert told - {*reply.headers} == set(), (path, method, status)
        assert "authorization" not in told

    nobody = {"Authorization": "Bearer upk_nope"}
    for (path, method), operation in operations().items():
        target = re.sub(r"\{\w+\}", "nope", path)
        reply = locked.client.request(method.upper(), target, headers=nobody)
        if operation.get("security") == []:
            assert reply.status_code in (200, 404), (path, method)
        else:
            check(path, method, reply, 401)
    assert locked.client.get("/v1/balance").json()["available"]["amount"] == 0.01
    assert fits("Balance", locked.client.get("/v1/balance").json())
    assert fits("Keys", locked.client.get("/v1/keys").json())
    check(openapi.EDITS, "post", locked.edit(), 402)
    hasty = {"Authorization": locked.client.headers["x-hasty"]}
    assert locked.edit({"scale_factor": "99"}, headers=hasty).status_code == 400
    check(openapi.EDITS, "post", locked.edit(headers=hasty), 429)


def test_what_fails_is_described_for_every_route(live: Live) -> None:
    for (path, method), operation in operations().items():
        assert {"400", "405", "500", "503"} <= {*operation["responses"]}, (path, method)
    busy = QueueFull("The queue is full.", retry_after=6)
    for failure, status in ((busy, 429), (ServerFault("It failed."), 500), (RuntimeError(), 500)):
        live.engine.failure = failure
        reply = live.edit({"model": "bundled-x4"})
        told = {name.lower() for name in reply_of(openapi.EDITS, "post", status)["headers"]}
        assert reply.status_code == status
        assert told <= {*reply.headers}
        assert ("retry-after" in reply.headers) == ("retry-after" in told)


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
    ran = 0
    for kind, told in content.items():
        for name, example in told["examples"].items():
            value = example["value"]
            if kind == "application/json":
                reply = live.client.post(openapi.EDITS, json=value)
            elif kind == "multipart/form-data":
                reply = send(live, {key: str(text) for key, text in value.items()})
            else:
                reply = live.client.post(openapi.EDITS, data=value)
            assert reply.request.headers["content-type"].startswith(kind)
            wanted = 202 if value.get("background") else 200
            assert reply.status_code == wanted, (kind, name, reply.text)
            ran += 1
    assert ran >= 6


def send(
    live: Live, fields: dict[str, str], query: str = "", headers: dict[str, str] | None = None
) -> httpx.Response:
    files = {k: (ROOT / v[1:]).read_bytes() for k, v in fields.items() if v.startswith("@")}
    data = {k: v for k, v in fields.items() if k not in files}
    return live.client.post(openapi.EDITS + query, data=data, files=files, headers=headers)


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
    assert (program, set(rest[::2]) - {"-H"}) == ("curl", {"-F"})
    assert url.startswith("http://127.0.0.1:8000" + openapi.EDITS)
    options = list(zip(rest[::2], rest[1::2], strict=True))
    fields = dict(value.split("=", 1) for option, value in options if option == "-F")
    headers = dict(value.split(": ", 1) for option, value in options if option == "-H")
    _, question, query = url.partition("?")
    wanted = 202 if "Prefer" in headers else 200
    assert send(live, fields, question + query, headers).status_code == wanted


def test_examples_of_replies_have_the_members_of_real_ones(live: Live) -> None:
    def members(value: Any) -> Any:
        open_ended = ("receipt", "plan")
        if isinstance(value, dict):
            return {k: None if k in open_ended else members(v) for k, v in value.items()}
        return [members(v) for v in value[:1]] if isinstance(value, list) else None

    def shown(path: str, method: str = "get") -> dict[str, Any]:
        content = operations()[path, method]["responses"]["200"]["content"]["application/json"]
        return {name: example["value"] for name, example in content["examples"].items()}

    edit = shown(openapi.EDITS, "post")
    real = live.edit({"model": "bundled-x4"}).json()
    assert members(real) == members(edit["a result"])
    assert edit["a result"]["metadata"]["receipt"].keys() <= real["metadata"]["receipt"].keys()
    dry = live.edit({"model": "bundled-x4"}, params={"dryRun": "true"}).json()
    assert members(dry) == members(edit["a dry run"])
    assert edit["a dry run"]["plan"].keys() <= dry["plan"].keys()
    one = shown("/openai/v1/models/{name}")
    for name, id in (("a model", "real-esrgan"), ("a network", "bundled-x4")):
        assert members(one[name]) == members(live.client.get(f"/openai/v1/models/{id}").json())
    later = live.edit({"background": "true", "model": "bundled-x4"})
    assert members(later.json()) == members(operations_202()["accepted"])
    told = shown("/v1/requests/{request_id}")
    assert members(done(live, later.headers["location"])) == members(told["completed"])
    page = live.client.get("/v1/requests?limit=1&summary=true").json()
    assert members(page) == members(shown("/v1/requests")["with sums"])
    assert shown("/v1/balance")["no limit"] == live.client.get("/v1/balance").json()
    purged = live.client.delete(f"{later.headers['location']}/payloads").json()
    assert members(purged) == members(
        shown("/v1/requests/{request_id}/payloads", "delete")["first"]
    )
    schema = live.client.get("/v1/models/google-upscaler?schema=true").json()
    assert one["a schema"].keys() <= schema.keys()
    assert members(shown("/health")["at work"]) == members(live.client.get("/health").json())


def operations_202() -> dict[str, Any]:
    """The examples of an accepted job."""
    examples = reply_of(openapi.EDITS, "post", 202)["content"]["application/json"]["examples"]
    return {name: example["value"] for name, example in examples.items()}


def test_a_request_fits_its_schema_in_every_state(live: Live) -> None:
    live.engine.held = True
    later = live.edit({"background": "true", "response_format": "b64_json"})
    place = later.headers["location"]
    assert fits("Request", later.json())
    assert live.engine.begun.wait(30)
    assert fits("Request", at_work := live.client.get(place).json())
    assert at_work["status"] == "processing"
    check = live.client.delete(f"{place}/payloads")
    assert (check.status_code, fits("Error", check.json())) == (400, True)
    live.engine.held = False
    body = done(live, place)
    assert fits("Request", body)
    assert body["response"]["data"][0]["b64_json"]
    events = live.client.get(f"{place}/events").text
    assert events.startswith("id: end\nevent: state\n")
    live.engine.failure = ServerFault("It failed.")
    assert fits("Request", done(live, live.edit({"background": "1"}).headers["location"]))
    live.engine.reset()
    live.engine.held = True
    cancelled = live.edit({"background": "yes"}).headers["location"]
    ended = live.client.delete(cancelled).json()
    live.engine.held = False
    assert fits("Request", ended)
    assert ended["status"] == "cancelled"
    assert fits("Requests", live.client.get("/v1/requests?limit=3").json())
    assert fits("Requests", live.client.get("/v1/requests?limit=3&summary").json())
    assert fits("Purged", live.client.delete(f"{place}/payloads").json())
    assert fits("Request", live.client.get(place).json())


def test_a_caller_whose_request_is_cancelled_gets_499(live: Live) -> None:
    live.engine.held = True
    replies: list[httpx.Response] = []
    waiting = threading.Thread(target=lambda: replies.append(live.edit()))
    waiting.start()
    assert live.engine.begun.wait(30)
    [newest] = live.client.get("/v1/requests?limit=1").json()["data"]
    assert fits("Request", live.client.delete(f"/v1/requests/{newest['id']}").json())
    waiting.join(30)
    assert done(live, f"/v1/requests/{newest['id']}")["status"] == "cancelled"
    told = {name.lower() for name in reply_of(openapi.EDITS, "post", 499)["headers"]}
    assert replies[0].status_code == 499
    assert told <= {*replies[0].headers}


def test_bodies_of_replies_fit_their_schemas(live: Live) -> None:
    for path in ("/openai/v1/models", "/v1/models"):
        assert fits("Models", live.client.get(path).json())
    assert fits("ModelSchema", live.client.get("/v1/models/real-esrgan?schema=1").json())
    assert fits("Health", live.client.get("/health").json())
    assert fits("Description", live.client.get("/openapi.json").json())
    for format in ("url", "b64_json"):
        body = live.edit({"model": "bundled-x4", "response_format": format, "n": "2"}).json()
        assert fits("Result", body)
    assert fits("DryRun", live.edit({"model": "bundled-x4"}, params={"dryRun": "1"}).json())
    assert fits("Error", live.edit({"model": "nope"}).json())
    assert not fits("Result", {"created": 1})


def test_every_documented_status_has_an_error() -> None:
    components = openapi.document()["components"]["responses"]
    assert {f"Error{error.status}" for error in ERRORS} <= {*components}
    for name, response in components.items():
        shown = response["content"]["application/json"]["examples"]
        assert shown, name
        for example in shown.values():
            told = set(example["value"]["error"]) - {"reason", "attempts"}
            assert told == {"message", "type", "code", "param"}
    used = {status for told in operations().values() for status in told["responses"]}
    assert {f"Error{status}" for status in used if int(status) >= 400} == {*components}
    assert {error.code for error in ERRORS} >= {"MODEL_DISABLED", "RATE_LIMITED"}
    assert all(isinstance(error, UpscaleError) for error in ERRORS)


def test_the_hash_in_the_description_is_that_of_the_shipped_network(live: Live) -> None:
    told = described()["/openai/v1/models/{name}"]["get"]["responses"]["200"]
    example = told["content"]["application/json"]["examples"]["a network"]["value"]
    assert example["sha256"] == live.client.get("/v1/models/bundled-x4").json()["sha256"]


def test_the_page_shows_it_all_and_loads_nothing(live: Live) -> None:
    page = live.client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in described():
        assert path in page.text
    for field in (*FIELDS, *BESIDES):
        assert f"<code>{field}</code>" in page.text
    assert not re.search(
        r"<script|<link|<img|src=|https?://(?!127\.0\.0\.1|json-schema)", page.text
    )


def test_the_guide_lists_the_fields_of_the_description() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    table = text.split("## Fields", 1)[1].split("\n- ", 1)[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.M) == [*FIELDS, *BESIDES]
