"""What holds a server up: uploads that stand still, bodies made to cost much, odd addresses."""

from __future__ import annotations

import socket
import time
from decimal import Decimal, InvalidOperation
from pathlib import Path

import httpx
import pytest

from tests.server.live import EDITS, Live, check_error, picture, png, serving
from upscale.models.catalogue import plain_number
from upscale.server.json_reader import JsonReader
from upscale.settings import Settings


def test_an_upload_that_stands_still_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, upload_idle_seconds=0.3)
    with serving(settings) as live:
        port = httpx.URL(live.url).port or 0
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
            head = (
                f"POST {EDITS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 90000\r\n"
                "Content-Type: multipart/form-data; boundary=b\r\n\r\n--b\r\n"
            )
            connection.sendall(head.encode())
            reply = ""
            while "stalled" not in reply and (more := connection.recv(4096)):
                reply += more.decode()
        assert reply.startswith("HTTP/1.1 400")
        assert "stalled" in reply
        deadline = time.monotonic() + 10
        [own] = (tmp_path / "spool").iterdir()
        while any(path.is_dir() for path in own.iterdir()) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not any(path.is_dir() for path in own.iterdir())


def test_json_of_many_strings_costs_in_proportion(tmp_path: Path) -> None:
    def cost(strings: int) -> float:
        reader = JsonReader(tmp_path)
        body = b'{"a":[' + b'"",' * strings + b'""]}'
        begun = time.process_time()
        for start in range(0, len(body), 65536):
            reader.feed(body[start : start + 65536])
        reader.finish()
        return time.process_time() - begun

    cost(1000)
    # Ten times as many: a hundred times as long where each looked at all before it.
    assert cost(200_000) < 40 * max(cost(20_000), 0.005)


def test_a_member_that_comes_twice_with_two_values_is_refused(live: Live) -> None:
    body = b'{"model": "nope", "model": "real-esrgan", "image": "http://a/"}'
    headers = {"content-type": "application/json"}
    message = check_error(live.client.post(EDITS, content=body, headers=headers), 400)
    assert "twice" in message


@pytest.mark.parametrize("port", ["65536", "99999"])
def test_a_port_that_is_none_is_a_400(live: Live, port: str) -> None:
    response = live.edit({"image": f"http://1.1.1.1:{port}/"}, files={"x": ("", b"")})
    check_error(response, 400, param="image")


@pytest.mark.parametrize("format", ["gif", "bmp", "tiff", "avif", "png", "jpeg", "webp"])
def test_a_part_without_a_file_name_is_a_picture_by_its_bytes(live: Live, format: str) -> None:
    response = live.edit(files={"image": (None, picture(format))})
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("query", ["?dryRun", "?dryRun=", "?DRYRUN=true", "?dry_run=1"])
def test_a_dry_run_is_understood_however_it_is_written(live: Live, query: str) -> None:
    files = {"image": ("a.png", png(), "image/png")}
    response = live.client.post(EDITS + query, data={"model": "real-esrgan"}, files=files)
    assert response.json()["estimated"] is True
    assert not live.engine.jobs


def test_head_of_a_result_knows_no_ranges(live: Live) -> None:
    url = live.edit().json()["data"][0]["url"]
    whole = live.client.head(url)
    part = live.client.head(url, headers={"range": "bytes=0-3"})
    assert (part.status_code, part.headers["content-length"]) == (
        200,
        whole.headers["content-length"],
    )


def test_names_of_results_are_in_no_log_line(live: Live, caplog: pytest.LogCaptureFixture) -> None:
    url = live.edit().json()["data"][0]["url"]
    name = url.rpartition("/")[2]
    with caplog.at_level("INFO", logger="upscale"):
        for path in (f"/media/{name}", f"/media%2F{name}", f"//media/{name}", f"/x/media/{name}"):
            live.client.get(httpx.URL(live.url).copy_with(raw_path=path.encode()))
    assert name not in "".join(str(vars(record)) for record in caplog.records)


def test_numbers_are_those_that_programs_write() -> None:
    assert plain_number("2.50") == Decimal("2.5")
    for odd in ("1_0", "٣", "1" * 40):
        assert plain_number(odd).is_nan()
    with pytest.raises(InvalidOperation):
        plain_number("four")
