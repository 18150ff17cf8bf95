"""All ways in which an image may arrive, and the mistakes that have a known cure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.server.live import EDITS, Live, check_error, picture, png

PNG = ("a.png", png(), "image/png")
DATA_URI = "data:image/png;base64," + base64.b64encode(png()).decode()


def post_text(live: Live, **fields: Any) -> httpx.Response:
    """A multipart body of text parts only."""
    parts = [("model", (None, "real-esrgan"))]
    for name, values in fields.items():
        for value in values if isinstance(values, list) else [values]:
            parts.append((name, (None, value)))
    return live.client.post(EDITS, files=parts)


def post_json(live: Live, **body: Any) -> httpx.Response:
    return live.client.post(EDITS, json={"model": "real-esrgan", **body})


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]"])
def test_names_of_the_file_part(live: Live, name: str) -> None:
    assert live.edit(files=[(name, PNG)]).status_code == 200


@pytest.mark.parametrize("name", ["image", "image[]", "image[0]", "image[url]", "image_url"])
def test_names_of_a_text_part(live: Live, name: str) -> None:
    assert post_text(live, **{name: DATA_URI}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"image": DATA_URI},
        {"image": [DATA_URI]},
        {"image": {"url": DATA_URI}},
        {"image_url": DATA_URI},
        {"image_url": {"url": DATA_URI}},
        {"images": [{"image_url": DATA_URI}]},
        {"images": [{"image_url": {"url": DATA_URI}}]},
        {"image": DATA_URI.replace("+", "-").replace("/", "_").rstrip("=")},
        {"image": DATA_URI, "n": None, "extra": {"a": [1]}},
    ],
)
def test_shapes_of_json(live: Live, body: dict[str, Any]) -> None:
    reply = post_json(live, **body)
    # A safe alphabet changes the header's slash too, which nobody looks at.
    assert reply.status_code == 200, reply.text


def test_urlencoded_forms_are_read(live: Live) -> None:
    body = urlencode({"model": "real-esrgan", "image": DATA_URI, "scale_factor": "2"})
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert live.client.post(EDITS, content=body, headers=headers).json()["size"] == "24x16"


def test_two_files_are_refused(live: Live) -> None:
    reply = live.edit(files=[("image[]", PNG), ("image[]", PNG)])
    assert "one image per request" in check_error(reply, 400, param="image")


def test_a_file_is_preferred_to_a_url(live: Live) -> None:
    parts = [("image", PNG), ("image", (None, "http://127.0.0.1:1/no.png"))]
    assert live.edit(files=parts).status_code == 200


def test_an_empty_file_counts_as_absent_beside_another_source(live: Live) -> None:
    parts = [("image", ("upload", b"", "image/png")), ("image_url", (None, DATA_URI))]
    assert live.edit(files=parts).status_code == 200


def test_a_file_without_a_name_is_still_a_picture(live: Live) -> None:
    assert post_text(live, image=png()).status_code == 200
    assert post_text(live, image=picture("png", (300, 300))).status_code == 200


def test_no_image_and_an_empty_one_are_named(live: Live) -> None:
    assert "toFile" in check_error(post_text(live, prompt="x"), 400, param="image")
    empty = live.edit(files={"image": ("a.png", b"", "image/png")})
    assert "empty" in check_error(empty, 400, param="image")


def test_text_called_png_and_truncated_headers_are_refused(live: Live) -> None:
    for content in (b"hello", png()[:20], picture("jpeg")[:10]):
        check_error(live.edit(files={"image": ("a.png", content)}), 400, param="image")
    assert not live.engine.jobs


def test_the_type_that_a_part_claims_is_not_believed(live: Live) -> None:
    assert live.edit(files={"image": ("a.jpg", png(), "image/jpeg")}).status_code == 200


def test_fields_may_follow_the_file(live: Live) -> None:
    parts = [("image", PNG), ("model", (None, "tiny-x2")), ("scale_factor", (None, "3"))]
    assert live.client.post(EDITS, files=parts).json()["size"] == "36x24"


def test_a_chunked_body_without_a_length_is_read(live: Live) -> None:
    request = live.client.build_request(
        "POST", EDITS, data={"model": "tiny-x2"}, files={"image": PNG}
    )
    body = request.read()

    def pieces() -> Iterator[bytes]:
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    kind = {"content-type": request.headers["content-type"]}
    reply = live.client.post(EDITS, content=pieces(), headers=kind)
    assert "transfer-encoding" in reply.request.headers
    assert reply.status_code == 200


def test_a_data_uri_of_many_megabytes_is_read(live: Live) -> None:
    # A PNG may carry anything after its end.
    large = png() + bytes(8 << 20)
    uri = "data:image/png;base64," + base64.b64encode(large).decode()
    assert post_text(live, image=uri).status_code == 200
    assert live.engine.jobs[0].plan.probe.bytes == len(large)
    assert post_json(live, image=uri).status_code == 200


@pytest.mark.parametrize("count", [1, 500])
def test_an_array_of_bytes_gets_its_cure(live: Live, count: int) -> None:
    parts: list[Any] = [(f"image[{i}]", (None, str(i % 256))) for i in range(count)]
    parts.append(("model", (None, "real-esrgan")))
    assert "toFile" in check_error(live.client.post(EDITS, files=parts), 400, param="image")


@pytest.mark.parametrize("value", [[137, 80, 78, 71], {"type": "Buffer", "data": [137, 80]}])
def test_bytes_in_json_get_the_same_cure(live: Live, value: Any) -> None:
    assert "toFile" in check_error(post_json(live, image=value), 400, param="image")


@pytest.mark.parametrize(
    "text",
    [
        "picture.png",
        "ftp://host/a.png",
        "file:///etc/passwd",
        "iVBORw0KGgoAAAANSUhEUg",
        "data:image/png,abc",
        "data:image/png;base64,###",
        "http://",
        "http://user:word@example.com/a.png",
        "http://[::1",
    ],
)
def test_text_that_is_no_image_is_explained(live: Live, text: str) -> None:
    check_error(post_text(live, image=text), 400, param="image")


def test_two_long_texts_are_two_images(live: Live) -> None:
    uris = [DATA_URI + "A" * 100_000 + last for last in "AB"]
    for body in ({"image": uris}, {"image": uris[0], "image_url": uris[1]}):
        assert "2 images" in check_error(post_json(live, **body), 400, param="image")


def test_two_different_urls_are_refused(live: Live) -> None:
    reply = post_json(live, image=["http://a.test/1.png", "http://a.test/2.png"])
    check_error(reply, 400, param="image")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9/a.png",
        "http://localhost/a.png",
        "http://[::1]/a.png",
        "http://2130706433/a.png",
        "http://10.0.0.1/a.png",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:127.0.0.1]/a.png",
    ],
)
def test_private_addresses_are_refused(live: Live, url: str) -> None:
    assert "private" in check_error(post_text(live, image=url), 400, param="image")


def test_local_only_fetches_nothing(small: Live) -> None:
    message = check_error(post_text(small, image="http://example.com/a.png"), 400, param="image")
    assert "UPSCALE_LOCAL_ONLY" in message


def test_a_media_link_of_ours_is_read_without_the_network(live: Live) -> None:
    url = live.edit().json()["data"][0]["url"]
    again = post_text(live, image=url)
    assert again.json()["size"] == "192x128"
    gone = url.rsplit("/", 1)[0] + "/" + "0" * 27 + ".png"
    assert "expired" in check_error(post_text(live, image=gone), 400, param="image")


def test_bodies_that_are_not_what_their_header_says(live: Live) -> None:
    def post(kind: str, content: bytes, **headers: str) -> httpx.Response:
        return live.client.post(EDITS, content=content, headers={"content-type": kind, **headers})

    multipart = b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nx\r\n--b--\r\n'
    message = check_error(post("application/json", multipart), 400)
    assert "looks like multipart" in message
    assert "boundary" in check_error(post("multipart/form-data", multipart), 400)
    check_error(post("multipart/form-data; boundary=c", multipart), 400)
    check_error(post("multipart/form-data; boundary=b", multipart[:-8]), 400)
    check_error(post("multipart/form-data; boundary=" + "b" * 300, multipart), 400)
    check_error(post("application/json", b"{"), 400)
    check_error(post("application/json", b"[]"), 400)
    check_error(post("application/json", b"\xff"), 400)
    check_error(post("application/json", b"[" * 100_000), 400)
    check_error(post("text/plain", b"hello"), 415)
    check_error(post("image/png", png()), 415)
    check_error(live.client.post(EDITS), 415)
    gzipped = post("application/json", b"{}", **{"content-encoding": "gzip"})
    check_error(gzipped, 415)


def test_scalars_of_the_wrong_kind_in_json(live: Live) -> None:
    check_error(post_json(live, image=DATA_URI, scale_factor=True), 400, param="scale_factor")
    check_error(post_json(live, image=DATA_URI, scale_factor=[4]), 400, param="scale_factor")
    for model in (7, 0, False, ["real-esrgan"], {"id": "real-esrgan"}):
        check_error(post_json(live, image=DATA_URI, model=model), 400, param="model")
    # Nothing that was said counts as nothing said.
    for wrong in (0, False, [], {}):
        for name in ("output_format", "response_format", "background_color", "n"):
            check_error(post_json(live, image=DATA_URI, **{name: wrong}), 400, param=name)
    assert "a whole number" in check_error(post_json(live, image=DATA_URI, n=0), 400, param="n")
    assert post_json(live, image=DATA_URI, stream=0, strip_metadata=0, denoise=None).is_success
    check_error(post_json(live, image=DATA_URI, stream=True), 400, param="stream")
    check_error(post_json(live, image=12), 400, param="image")
    nan = json.dumps({"model": "real-esrgan", "image": DATA_URI, "scale_factor": float("nan")})
    reply = live.client.post(EDITS, content=nan, headers={"content-type": "application/json"})
    check_error(reply, 400, param="scale_factor")


def test_a_body_over_the_limit_is_refused_at_once(small: Live) -> None:
    reply = small.edit(files={"image": ("a.png", png() + bytes(300_000))})
    message = check_error(reply, 413)
    assert "100,000 bytes" in message

    def endless() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
        for _ in range(200):
            yield bytes(1000)

    kind = {"content-type": "multipart/form-data; boundary=b"}
    check_error(small.client.post(EDITS, content=endless(), headers=kind), 413)


def test_json_that_no_number_or_text_can_hold_is_refused(live: Live) -> None:
    def post(content: str) -> httpx.Response:
        headers = {"content-type": "application/json"}
        return live.client.post(EDITS, content=content, headers=headers)

    for field in ("scale_factor", "anything"):
        body = f'{{"model": "real-esrgan", "{field}": 1e99999999999999999999}}'
        assert "JSON" in check_error(post(body), 400)
    lone = r'"\ud800"'
    check_error(post(f'{{"model": {lone}}}'), 404, "MODEL_NOT_FOUND", "model")
    uri = json.dumps(DATA_URI)
    for name in ("scale_factor", "output_format", "response_format", "n", "seed", "denoise"):
        body = f'{{"model": "real-esrgan", "image": {uri}, "{name}": {lone}}}'
        assert "ud800" in check_error(post(body), 400, param=name)
    check_error(post(f'{{"model": "real-esrgan", "image": {lone}}}'), 400, param="image")
    check_error(
        post(f'{{"model": "real-esrgan", "image": "http://{lone[1:-1]}/"}}'), 400, param="image"
    )
