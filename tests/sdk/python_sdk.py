"""What users of the OpenAI Python SDK write, against a running server:
`python_sdk.py URL PNG STEP…`.

Needs nothing but the SDK, of any version from 1.109 on, so that it runs in environments of its own.
The picture has 12 x 8 pixels. Ends with an AssertionError where something is not as documented.
"""

from __future__ import annotations

import asyncio
import base64
import sys
import urllib.request
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import openai


class Stream(BytesIO):
    """A stream whose length nobody knows."""

    def seekable(self) -> bool:
        """It cannot be rewound either."""
        return False


def all_forms(client: openai.OpenAI, path: Path) -> None:
    """Files, lists, bytes, streams, URLs, JSON; base64 and dry runs."""
    data = path.read_bytes()
    named = BytesIO(data)
    named.name = "wrong.jpg"
    with path.open("rb") as file:
        images: list[Any] = [file, path, data, BytesIO(data), named, [path], Stream(data)]
        images += [("x.bin", data, "image/avif"), (None, data), [("a.png", data)]]
        for image in images:
            reply = edit(client, image)
            assert (reply.size, reply.metadata["provider"]) == ("48x32", "local"), image
            assert reply._request_id.startswith("req_")
    url = reply.data[0].url
    with urllib.request.urlopen(url) as answer:
        assert answer.headers["Content-Type"] == "image/png"

    for wish in (
        {"image": openai.omit, "extra_body": {"image": url, "scale_factor": 2}},
        {"image": openai.omit, "extra_body": {"image": [url], "scale_factor": 2}},
        {"image": b"", "extra_body": {"image_url": url, "scale_factor": 2}},
        {"image": openai.omit, "prompt": openai.omit, "extra_body": {"image": url, "n": 1}},
    ):
        assert edit(client, **wish).size in ("96x64", "192x128"), wish  # type: ignore[arg-type]
    beside = edit(client, data, extra_body={"image": url, "scale_factor": 2})
    assert beside.size == "24x16"  # the file is preferred

    uri = "data:image/png;base64," + base64.b64encode(data).decode()
    assert edit(client, openai.omit, extra_body={"image": uri}).size == "48x32"
    body = {"model": "real-esrgan", "image": uri, "scale_factor": 2}
    posted: Any = client.post("/images/edits", body=body, cast_to=object)
    assert posted["size"] == "24x16"

    coded = edit(client, data, response_format="b64_json", output_format="webp", n=2)
    assert base64.b64decode(coded.data[1].b64_json)[8:12] == b"WEBP"
    for flag in (True, "true", 1):
        dry = edit(client, data, extra_query={"dryRun": flag})
        assert (dry.total_cost_micros, dry.data, dry.estimated) == (0, None, True)
    assert edit(client, data, extra_query={"dryRun": False}).data
    raw = client.images.with_raw_response.edit(model="real-esrgan", image=data, prompt="x")
    assert raw.headers["X-Lumenfall-Provider"] == "local"
    # A JPEG's quality, a size wish that upscaling ignores, an unknown field.
    extra = {"output_compression": 80, "colour": "blue"}
    many = edit(client, data, output_format="jpeg", size="1024x1024", extra_body=extra)
    assert many.data[0].url.endswith(".jpg")


def models(client: openai.OpenAI, path: Path) -> None:
    """The list, and a model whose name has a slash."""
    assert {"real-esrgan", "bundled-x4"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("fal/aura-sr").object == "model"
    fails(openai.NotFoundError, "MODEL_NOT_FOUND", client.models.retrieve, "nothing")


def errors(client: openai.OpenAI, path: Path) -> None:
    """Each status is the SDK's own class, with code, param and request id."""
    data = path.read_bytes()
    wrong = fails(
        openai.BadRequestError,
        "INVALID_REQUEST",
        lambda: edit(client, data, extra_body={"scale_factor": 99}),
    )
    assert (wrong.param, wrong.type) == ("scale_factor", "invalid_request_error")
    assert wrong.request_id is not None
    assert "scale_factor" in wrong.message
    for image, told in ((data[:20], "image"), ([], "toFile"), (b"text", "image")):
        broken = fails(openai.BadRequestError, "INVALID_REQUEST", edit, client, image)
        assert told in broken.message, broken.message
    fails(openai.NotFoundError, "MODEL_NOT_FOUND", lambda: edit(client, data, model="nothing"))
    fails(openai.NotFoundError, "MODEL_DISABLED", lambda: edit(client, data, model="aura-sr"))
    json = {"Content-Type": "application/json"}
    trap = fails(
        openai.BadRequestError,
        "INVALID_REQUEST",
        lambda: edit(client, data, extra_headers=json),
    )
    assert "looks like multipart" in trap.message
    large = fails(openai.APIStatusError, "INVALID_REQUEST", edit, client, data + bytes(40 << 20))
    assert large.status_code == 413
    fails(openai.BadRequestError, "INVALID_REQUEST", lambda: edit(client, data, stream=True))
    for refused in ("https://example.com/a.png", ["https://example.com/a.png"], None):
        try:
            edit(client, refused)
        except (RuntimeError, TypeError, openai.OpenAIError):
            continue
        raise AssertionError(f"the SDK sent {refused!r}; the guide says that it does not")


def chain(client: openai.OpenAI, path: Path) -> None:
    """One reply's link is the next request's image."""
    first = edit(client, path)
    second = edit(client, openai.omit, extra_body={"image": first.data[0].url, "scale_factor": 2})
    assert second.size == "96x64"


def at_once(client: openai.OpenAI, path: Path) -> None:
    """The asynchronous client, several at a time."""

    async def run() -> None:
        key, base = client.api_key, str(client.base_url)
        async with openai.AsyncOpenAI(base_url=base, api_key=key) as waiting:
            wishes = [{"scale_factor": factor} for factor in (1, 2, 3, 4)]
            calls = (
                waiting.images.edit(model="real-esrgan", image=path, prompt="", extra_body=wish)
                for wish in wishes
            )
            sizes = [reply.size for reply in await asyncio.gather(*calls)]
            assert sizes == ["12x8", "24x16", "36x24", "48x32"]  # type: ignore[comparison-overlap]

    asyncio.run(run())


def failing(client: openai.OpenAI, path: Path) -> None:
    """The server was told to fail; the SDK may try thrice, and says what came."""
    patient = client.with_options(max_retries=2)
    fails(openai.InternalServerError, "INTERNAL_ERROR", edit, patient, path)


def busy(client: openai.OpenAI, path: Path) -> None:
    """The server was told to be busy; the SDK waits as it is told, and tries again."""
    patient = client.with_options(max_retries=1)
    fails(openai.RateLimitError, "RATE_LIMITED", edit, patient, path)


def edit(client: openai.OpenAI, image: Any, **more: Any) -> Any:
    """An edit with real-esrgan by 4, changed by what is given."""
    extra = {"scale_factor": 4, **more.pop("extra_body", {})}
    model = more.pop("model", "real-esrgan")
    prompt = more.pop("prompt", "")
    return client.images.edit(model=model, image=image, prompt=prompt, extra_body=extra, **more)


def fails(kind: type[Any], code: str, call: Callable[..., Any], *args: Any) -> Any:
    """The error of exactly that class and code which the call ends with."""
    caught: Any = None
    try:
        call(*args)
    except kind as error:
        caught = error
    assert type(caught) is kind, f"no {kind.__name__} from {call}"
    assert caught.code == code, caught.code
    return caught


STEPS = (all_forms, models, errors, chain, at_once, failing, busy)

if __name__ == "__main__":
    url, picture, *steps = sys.argv[1:]
    named = {each.__name__: each for each in STEPS}
    with openai.OpenAI(base_url=f"{url}/openai/v1", api_key="none", max_retries=0) as ours:
        for step in steps:
            named[step](ours, Path(picture))
    print(f"ok {openai.VERSION}")
