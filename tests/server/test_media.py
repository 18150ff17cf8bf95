"""Media links: types, HEAD, ranges, privacy, expiry."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.server.live import Live, check_error, check_headers
from upscale.server.media import MediaStore, linked_name


def test_a_link_answers_get_head_and_range(live: Live) -> None:
    url = live.edit().json()["data"][0]["url"]
    assert url.startswith(f"{live.url}/media/")
    whole = live.client.get(url)
    assert whole.headers["content-type"] == "image/png"
    check_headers(whole)
    head = live.client.head(url)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == str(len(whole.content))
    part = live.client.get(url, headers={"range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, whole.content[4:10])
    check_headers(part)
    beyond = live.client.get(url, headers={"range": "bytes=9999999-"})
    check_error(beyond, 416)
    assert beyond.headers["content-range"] == f"bytes */{len(whole.content)}"
    check_error(live.client.get(url, headers={"range": "nonsense"}), 400)


def test_folder_and_files_are_the_users_alone(live: Live) -> None:
    live.edit()
    folder = live.settings.data_dir / "media"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}


def test_an_expired_link_is_404_and_its_file_goes(small: Live) -> None:
    url = small.edit().json()["data"][0]["url"]
    path = small.settings.data_dir / "media" / url.rsplit("/", 1)[1]
    os.utime(path, (0, time.time() - 2))
    check_error(small.client.get(url), 404)
    deadline = time.monotonic() + 5
    while path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not path.exists()


@pytest.mark.parametrize("name", ["..%2F..%2Fetc%2Fpasswd", "x.png", "%00", "0" * 27 + ".exe"])
def test_other_names_are_404(live: Live, name: str) -> None:
    check_error(live.client.get(f"/media/{name}"), 404)


def test_names_differ_and_expired_ones_are_removed_at_the_start(tmp_path: Path) -> None:
    store = MediaStore(tmp_path / "media", ttl=60)
    store.open()
    names = []
    for index in range(3):
        result = tmp_path / f"{index}"
        result.write_bytes(b"x")
        names.append(store.adopt(result, "jpeg"))
    assert len(set(names)) == 3
    os.utime(tmp_path / "media" / names[0], (0, time.time() - 61))
    store.open()
    assert store.find(names[0]) is None
    assert not (tmp_path / "media" / names[0]).exists()
    assert store.find(names[1]) is not None


def test_links_are_recognised_by_their_end() -> None:
    name = "0" * 27 + ".png"
    assert linked_name(f"http://a:1/media/{name}") == name
    assert linked_name(f"https://a/upscale/media/{name}?x#y") == name
    assert linked_name(f"http://a/{name}") is None
    assert linked_name("http://a/media/b.png") is None
