"""Media links: types, HEAD, ranges, privacy, expiry."""

from __future__ import annotations

import errno
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.server.live import EDITS, Live, check_error, check_headers, png, serving
from upscale.errors import MediaFull
from upscale.imaging.limits import FORMATS
from upscale.server.media import MediaStore, linked_name
from upscale.server.storage.disk import DiskStorage
from upscale.settings import Settings


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
    for ignored in ("nonsense", "bytes=0-1,4-5"):
        assert live.client.get(url, headers={"range": ignored}).content == whole.content


def test_a_link_is_not_sent_again_to_those_who_have_it(live: Live) -> None:
    url = live.edit({"output_format": "webp"}).json()["data"][0]["url"]
    whole = live.client.get(url)
    tag = whole.headers["etag"]
    known = live.client.get(url, headers={"if-none-match": tag})
    assert (known.status_code, known.content, known.headers["etag"]) == (304, b"", tag)
    assert "max-age" in known.headers["cache-control"]
    same = live.client.get(url, headers={"range": "bytes=4-", "if-range": tag})
    assert (same.status_code, same.content) == (206, whole.content[4:])
    other = live.client.get(url, headers={"range": "bytes=4-", "if-range": '"other"'})
    assert (other.status_code, other.content) == (200, whole.content)
    head = live.client.head(url, headers={"range": "bytes=4-9"})
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(whole.content)))


def test_conditions_on_several_lines_and_against_the_file(live: Live) -> None:
    url = live.edit().json()["data"][0]["url"]
    tag = live.client.head(url).headers["etag"]
    lines = [("If-None-Match", '"a"'), ("If-None-Match", tag)]
    assert live.client.get(url, headers=lines).status_code == 304
    check_error(live.client.get(url, headers={"If-Match": '"a"'}), 412)
    head = live.client.head(url, headers={"If-Match": '"a"'})
    assert (head.status_code, head.headers["etag"]) == (412, tag)


@pytest.mark.parametrize("format", ["png", "jpeg", "gif", "webp", "avif", "tiff"])
def test_type_extension_and_name_are_those_of_the_format(live: Live, format: str) -> None:
    url = live.edit({"output_format": format}).json()["data"][0]["url"]
    facts = FORMATS[format]
    assert url.endswith(facts.extension)
    reply = live.client.get(url)
    assert reply.headers["content-type"] == facts.mime
    pattern = rf'inline; filename="upscaled-\d{{8}}-\d{{6}}\{facts.extension}"'
    assert re.fullmatch(pattern, reply.headers["content-disposition"])
    assert reply.headers["x-content-type-options"] == "nosniff"


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


def store_in(
    folder: Path, *, ttl: int = 60, quota: int = 0, fresh: float = 0, jobs_ttl: int = 0
) -> MediaStore:
    store = MediaStore(DiskStorage(folder / "media"), ttl, quota, fresh, jobs_ttl=jobs_ttl)
    store.open()
    return store


def adopt(
    store: MediaStore, folder: Path, size: int = 1, *, age: float = 0, of_job: bool = False
) -> str:
    """A new result of `size` bytes; its name."""
    (folder / "result").write_bytes(bytes(size))
    name = store.adopt(folder / "result", "jpeg", of_job=of_job)
    when = time.time() - age
    os.utime(folder / "media" / name, (when, when))
    return name


def there(folder: Path) -> set[str]:
    return {path.name for path in (folder / "media").iterdir()}


def test_names_differ_and_expired_ones_are_removed_at_the_start(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    names = [adopt(store, tmp_path, age=age) for age in (61, 0, 0)]
    assert len(set(names)) == 3
    assert not store.copy(names[0], tmp_path / "copy")
    store_in(tmp_path)
    assert there(tmp_path) == set(names[1:])
    assert store.copy(names[1], tmp_path / "copy")
    assert (tmp_path / "copy").stat().st_mode & 0o777 == 0o600


def test_results_of_jobs_live_longer_and_within_the_same_quota(tmp_path: Path) -> None:
    store = store_in(tmp_path, ttl=10, quota=100, jobs_ttl=100)
    for age in (20, 99, 101):
        adopt(store, tmp_path, age=age)
    names = [adopt(store, tmp_path, 40, age=age, of_job=True) for age in (101, 99, 20)]
    store.sweep()
    assert there(tmp_path) == set(names[1:])
    assert linked_name(f"http://a/media/{names[1]}") == names[1]
    assert store.copy(names[1], tmp_path / "copy")
    adopt(store, tmp_path, 40)
    assert names[1] not in there(tmp_path)
    # What the operator lets links live is the least.
    assert store_in(tmp_path, ttl=100, jobs_ttl=10).discard(names[2])


def test_what_a_crash_left_goes_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    for name in (".arriving-old.png", ".arriving-new.png", "notes.txt"):
        (tmp_path / "media" / name).touch()
    for name in (".arriving-old.png", "notes.txt"):
        os.utime(tmp_path / "media" / name, (0, 0))
    store.sweep()
    assert there(tmp_path) == {".arriving-new.png", "notes.txt"}


def test_a_result_from_another_file_system_arrives_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.replace

    def replace(self: Path, target: Path) -> Path:
        if self.parent != target.parent:
            raise OSError(errno.EXDEV, "other file system")
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    name = adopt(store_in(tmp_path), tmp_path, 1000)
    assert there(tmp_path) == {name}
    facts = (tmp_path / "media" / name).stat()
    assert (facts.st_size, facts.st_mode & 0o777) == (1000, 0o600)
    assert not (tmp_path / "result").exists()


def test_the_oldest_give_way_and_no_more_than_needed(tmp_path: Path) -> None:
    store = store_in(tmp_path, quota=100)
    old, middle, young = (adopt(store, tmp_path, 30, age=age) for age in (30, 20, 10))
    new = adopt(store, tmp_path, 40)
    assert there(tmp_path) == {middle, young, new}
    assert old not in there(tmp_path)


def test_what_is_served_or_was_just_made_gives_way_to_nothing(tmp_path: Path) -> None:
    store = store_in(tmp_path, quota=100, fresh=5)
    served, free, fresh = (adopt(store, tmp_path, 30, age=age) for age in (30, 20, 0))
    with store.serving(served):
        new = adopt(store, tmp_path, 40)
        assert there(tmp_path) == {served, fresh, new}
        with pytest.raises(MediaFull, match="minute"):
            adopt(store, tmp_path, 40)
        assert there(tmp_path) == {served, fresh, new}
    assert free not in there(tmp_path)
    later = adopt(store, tmp_path, 30)
    assert there(tmp_path) == {fresh, new, later}


def test_a_result_larger_than_the_quota_is_refused_and_none_gives_way(tmp_path: Path) -> None:
    store = store_in(tmp_path, quota=100)
    name = adopt(store, tmp_path, 30, age=20)
    with pytest.raises(MediaFull, match="b64_json"):
        adopt(store, tmp_path, 101)
    assert there(tmp_path) == {name}


def test_results_that_arrive_at_once_keep_within_the_quota(tmp_path: Path) -> None:
    store = store_in(tmp_path, quota=100, fresh=60)

    def one(index: int) -> bool:
        result = tmp_path / f"result-{index}"
        result.write_bytes(bytes(30))
        try:
            store.adopt(result, "png")
        except MediaFull:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(one, range(20))) == 3
    assert len(there(tmp_path)) == 3


def test_a_caller_is_told_that_there_is_no_room(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, media_quota_bytes=1)) as full:
        reply = full.edit({"model": "bundled-x4"})
        assert "UPSCALE_MEDIA_QUOTA_BYTES" in check_error(reply, 507, "INTERNAL_ERROR")
        assert reply.headers["x-should-retry"] == "false"
        assert full.edit({"model": "bundled-x4", "response_format": "b64_json"}).is_success


def test_no_work_is_done_for_a_result_that_could_not_be_kept(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path, media_quota_bytes=1000)) as live:
        (tmp_path / "media" / ("0" * 27 + ".png")).write_bytes(bytes(1000))
        check_error(live.edit({"model": "bundled-x4"}), 507, "INTERNAL_ERROR")
        assert live.engine.jobs == []


def test_a_link_that_is_given_back_counts_in_the_spool(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, max_spool_bytes=2_000_000, max_body_bytes=100_000)
    with serving(settings) as live:
        name = "0" * 27 + ".png"
        (tmp_path / "media" / name).write_bytes(png() + bytes(2_000_000))
        fields = {"model": "bundled-x4", "image": f"{live.url}/media/{name}"}
        reply = live.client.post(EDITS, data=fields)
        assert "UPSCALE_MAX_SPOOL_BYTES" in check_error(reply, 413)


def test_what_a_slow_caller_is_reading_stays(tmp_path: Path) -> None:
    size, name = 16 << 20, "0" * 27 + ".png"
    with serving(Settings(data_dir=tmp_path, media_quota_bytes=size + 10)) as live:
        path = tmp_path / "media" / name
        path.write_bytes(bytes(size))
        os.utime(path, (0, time.time() - 600))
        with live.client.stream("GET", f"/media/{name}") as reading:
            pieces = reading.iter_raw(1 << 16)
            got = len(next(pieces))
            check_error(live.edit({"model": "bundled-x4"}), 507, "INTERNAL_ERROR")
            assert path.exists()
            assert got + sum(map(len, pieces)) == size
        deadline = time.monotonic() + 5
        while live.edit({"model": "bundled-x4"}).status_code == 507:
            assert time.monotonic() < deadline
        assert not path.exists()


def test_links_are_recognised_by_their_end() -> None:
    name = "0" * 27 + ".png"
    assert linked_name(f"http://a:1/media/{name}") == name
    assert linked_name(f"https://a/upscale/media/{name}?x#y") == name
    assert linked_name(f"http://a/{name}") is None
    assert linked_name("http://a/media/b.png") is None
