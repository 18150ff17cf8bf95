"""The OpenAI Python SDK against the server, as its users write it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.server.live import Live, png


@pytest.fixture
def client(live: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{live.url}/openai/v1", api_key="none", max_retries=0) as client:
        yield client


def edit(client: openai.OpenAI, image: Any, **more: Any) -> Any:
    extra = {"scale_factor": 4, **more.pop("extra_body", {})}
    return client.images.edit(model="real-esrgan", image=image, prompt="", extra_body=extra, **more)


def test_an_open_file_a_path_bytes_and_a_list(client: openai.OpenAI, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    with path.open("rb") as file:
        for image in (file, path, png(), BytesIO(png()), [path], ("x.bin", png(), "image/avif")):
            reply = edit(client, image)
            assert reply.size == "48x32"
            assert reply.metadata["provider"] == "local"
            assert reply._request_id.startswith("req_")


def test_a_stream_without_a_length(client: openai.OpenAI) -> None:
    class Stream(BytesIO):
        def seekable(self) -> bool:
            return False

    assert edit(client, Stream(png())).size == "48x32"


def test_a_file_without_a_name(client: openai.OpenAI) -> None:
    assert edit(client, (None, png())).size == "48x32"


def test_a_url_in_place_of_the_file(client: openai.OpenAI) -> None:
    first = edit(client, png())
    url = first.data[0].url
    again = edit(client, openai.omit, extra_body={"image": url, "scale_factor": 2})
    assert again.size == "96x64"
    beside = edit(client, b"", extra_body={"image_url": url, "scale_factor": 2})
    assert beside.size == "96x64"


def test_json_by_the_generic_post(client: openai.OpenAI) -> None:
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    body = {"model": "real-esrgan", "image": uri, "scale_factor": 2}
    reply: Any = client.post("/images/edits", body=body, cast_to=object)
    assert reply["size"] == "24x16"


def test_base64_and_a_dry_run(client: openai.OpenAI) -> None:
    reply = edit(client, png(), response_format="b64_json", output_format="webp", n=2)
    assert base64.b64decode(reply.data[1].b64_json)[8:12] == b"WEBP"
    dry = edit(client, png(), extra_query={"dryRun": True})
    assert dry.total_cost_micros == 0
    assert dry.data is None
    assert dry.plan["size"] == "48x32"


def test_headers_by_the_raw_response(client: openai.OpenAI) -> None:
    raw = client.images.with_raw_response.edit(model="real-esrgan", image=png(), prompt="x")
    assert raw.headers["X-Lumenfall-Provider"] == "local"


def test_errors_become_the_classes_of_the_sdk(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as wrong:
        edit(client, png(), extra_body={"scale_factor": 99})
    assert (wrong.value.code, wrong.value.param) == ("INVALID_REQUEST", "scale_factor")
    assert wrong.value.request_id is not None
    with pytest.raises(openai.NotFoundError) as unknown:
        client.images.edit(model="nothing", image=png(), prompt="x")
    assert unknown.value.code == "MODEL_NOT_FOUND"
    with pytest.raises(openai.BadRequestError, match="looks like multipart"):
        edit(client, png(), extra_headers={"Content-Type": "application/json"})
    with pytest.raises(openai.BadRequestError, match="toFile"):
        edit(client, [])


def test_a_body_over_the_limit_is_an_answer_not_a_broken_connection(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as large:
        edit(client, png() + bytes(40 << 20))
    assert large.value.status_code == 413


def test_models(client: openai.OpenAI) -> None:
    assert {"real-esrgan", "bundled-x4"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("fal/aura-sr").owned_by == "fal"
