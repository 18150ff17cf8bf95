"""Results in a bucket, against moto's server on loopback."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.server.live import Live, check_error, serving
from upscale.errors import InvalidRequest, MediaFull, OutputFault, ServerFault
from upscale.server.main import serve
from upscale.server.media import MediaStore
from upscale.server.storage.choose import choose_storage
from upscale.settings import Settings

boto3 = pytest.importorskip("boto3", reason="the extra `s3` is not installed")
moto_server = pytest.importorskip("moto.server", reason="moto is not installed")

from upscale.server.storage.s3 import S3Storage  # noqa: E402

BUCKET = "results"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    kept = {name: os.environ.get(name) for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    os.environ.update(dict.fromkeys(kept, "testing"))
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
    for name, value in kept.items():
        os.environ.pop(name)
        if value is not None:
            os.environ[name] = value


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Any]:
    """A new bucket, as the client library sees it."""
    service = boto3.resource("s3", endpoint_url=endpoint, region_name="us-east-1")
    found = service.create_bucket(Bucket=BUCKET)
    yield found
    found.objects.all().delete()
    found.delete()


@pytest.fixture
def settings(endpoint: str, bucket: Any, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, s3_bucket=BUCKET, s3_endpoint=endpoint)


def keys(bucket: Any) -> list[str]:
    return [each.key for each in bucket.objects.all()]


def edit(live: Live, **more: Any) -> Any:
    reply = live.edit({"model": "bundled-x4", **more})
    assert reply.status_code == 200, reply.text
    return reply.json()


def test_a_link_behaves_as_one_on_disk(settings: Settings, bucket: Any) -> None:
    with serving(settings) as live:
        url = edit(live)["data"][0]["url"]
        assert url.startswith(f"{live.url}/media/")
        assert keys(bucket) == ["upscale/" + url.rsplit("/", 1)[1]]
        assert not (settings.data_dir / "media").exists()
        whole = live.client.get(url)
        assert (whole.status_code, whole.headers["content-type"]) == (200, "image/png")
        assert whole.content == bucket.Object(keys(bucket)[0]).get()["Body"].read()
        part = live.client.get(url, headers={"range": "bytes=4-9"})
        assert (part.status_code, part.content) == (206, whole.content[4:10])
        head = live.client.head(url)
        assert head.headers["content-length"] == str(len(whole.content))
        known = live.client.get(url, headers={"if-none-match": whole.headers["etag"]})
        assert known.status_code == 304
        check_error(live.client.get(f"/media/{'0' * 27}.png"), 404)


def test_a_link_given_back_is_read_from_the_bucket(settings: Settings) -> None:
    with serving(settings) as live:
        url = edit(live)["data"][0]["url"]
        fields = {"model": "bundled-x4", "image": url}
        again = live.client.post("/openai/v1/images/edits", data=fields)
        assert again.json()["size"] == "192x128"


def test_what_has_expired_is_404_and_goes(settings: Settings, bucket: Any) -> None:
    storage = S3Storage(settings)
    result = settings.data_dir / "result"
    result.write_bytes(b"x")
    store = MediaStore(storage, ttl=1)
    name = store.adopt(result, "png")
    assert not result.exists()
    bucket.put_object(Key="upscale/notes.txt", Body=b"not ours")
    bucket.put_object(Key="other/x", Body=b"nor this")
    deadline = time.monotonic() + 5
    while store.copy(name, settings.data_dir / f"copy-{time.monotonic_ns()}"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    store.sweep()
    assert sorted(keys(bucket)) == ["other/x", "upscale/notes.txt"]


def test_uploads_that_a_crash_left_are_given_up(settings: Settings, bucket: Any) -> None:
    storage = S3Storage(settings)
    bucket.Object("upscale/large.png").initiate_multipart_upload()
    storage.tidy(1e10)
    assert len(list(bucket.multipart_uploads.all())) == 1
    storage.tidy(3600)  # moto says that all were begun in 2010
    assert not list(bucket.multipart_uploads.all())


def test_the_quota_holds_for_a_bucket_too(settings: Settings, bucket: Any) -> None:
    store = MediaStore(S3Storage(settings), ttl=60, quota=100, fresh=0)
    for _ in range(3):
        (settings.data_dir / "result").write_bytes(bytes(40))
        store.adopt(settings.data_dir / "result", "png")
    assert len(keys(bucket)) == 2
    (settings.data_dir / "result").write_bytes(bytes(101))
    with pytest.raises(MediaFull):
        store.adopt(settings.data_dir / "result", "png")


def test_a_bucket_that_is_not_there_keeps_the_server_from_starting(settings: Settings) -> None:
    with pytest.raises(OutputFault, match="bucket"):
        serve(settings.model_copy(update={"s3_bucket": "missing", "port": 0}), print)


def test_a_service_that_is_gone_is_an_error_of_ours(settings: Settings) -> None:
    away = settings.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    storage = S3Storage(away)
    with pytest.raises(ServerFault, match="storage"):
        storage.find("x")
    result = settings.data_dir / "result"
    result.write_bytes(b"x")
    with pytest.raises(OutputFault):
        storage.keep(result, "x", "image/png")


def test_local_only_takes_a_service_of_the_house_alone(settings: Settings) -> None:
    house = {"local_only": True, "s3_endpoint": "http://minio.house:9000"}
    with pytest.raises(InvalidRequest, match="UPSCALE_LOCAL_HOSTS"):
        choose_storage(settings.model_copy(update=house))
    with pytest.raises(InvalidRequest, match="AWS"):
        choose_storage(settings.model_copy(update={"local_only": True, "s3_endpoint": ""}))
    choose_storage(settings.model_copy(update={"local_only": True}))
    choose_storage(settings.model_copy(update={**house, "local_hosts": "minio.house"}))


def test_without_the_extra_the_error_names_it(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    monkeypatch.delitem(sys.modules, "upscale.server.storage.s3")
    with pytest.raises(InvalidRequest, match=r"upscale\[s3\]"):
        choose_storage(settings)
    choose_storage(settings.model_copy(update={"s3_bucket": ""}))
