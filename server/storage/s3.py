"""Results in a bucket of an S3-compatible service, by boto3 (the extra `s3`).

Callers get no links to the bucket: results go through us, so that a link behaves the same wherever
its bytes lie (docs/decisions/012-results-in-a-bucket.md).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from upscale.errors import InvalidRequest, OutputFault, ServerFault
from upscale.providers.addresses import is_loopback
from upscale.server.spool import private_file, storing
from upscale.server.storage.stored import Reader, Stored
from upscale.settings import Settings, host_names

try:
    import boto3
    import botocore.session
    from botocore.client import Config
    from botocore.exceptions import BotoCoreError, ClientError
except ImportError as fault:
    raise InvalidRequest(
        "UPSCALE_S3_BUCKET needs the extra `s3`: pip install 'upscale[s3]'.", field="s3_bucket"
    ) from fault

# Ways to credentials that lead over the network.
_ELSEWHERE = (
    "assume-role",
    "assume-role-with-web-identity",
    "sso",
    "login",
    "container-role",
    "iam-role",
)
_CONNECT_SECONDS = 5
_READ_SECONDS = 30


class S3Storage:
    """Keys are the prefix and the name. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self._bucket, self._prefix = settings.s3_bucket, settings.s3_prefix
        session = botocore.session.get_session()
        if settings.local_only:
            _check_house(settings)
            providers = session.get_component("credential_provider")
            for name in _ELSEWHERE:
                providers.remove(name)
        self._client: Any = boto3.session.Session(botocore_session=session).client(
            "s3",
            endpoint_url=settings.s3_endpoint or None,
            region_name=settings.s3_region,
            config=Config(
                connect_timeout=_CONNECT_SECONDS,
                read_timeout=_READ_SECONDS,
                retries={"max_attempts": 3, "mode": "standard"},
                # Services of the house have no names for single buckets.
                s3={"addressing_style": "path" if settings.s3_endpoint else "auto"},
                proxies={} if settings.local_only else None,
                max_pool_connections=32,
            ),
        )

    def open(self) -> None:
        """See that the bucket is there and may be used."""
        with _storing("results in the bucket"):
            self._client.head_bucket(Bucket=self._bucket)

    def keep(self, result: Path, name: str, mime: str) -> None:
        """Upload it; large ones in parts, which appear only when all have arrived."""
        with _storing("the result"):
            extra = {"ContentType": mime}
            self._client.upload_file(
                str(result), self._bucket, self._prefix + name, ExtraArgs=extra
            )
        result.unlink()

    def find(self, name: str) -> Stored | None:
        """By a HEAD of the object."""
        with _reading():
            try:
                head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + name)
            except ClientError as fault:
                if _is_missing(fault):
                    return None
                raise
        return Stored(name, head["ContentLength"], head["LastModified"].timestamp())

    def entries(self) -> list[Stored]:
        """All keys with the prefix, a thousand to a request."""
        with _reading():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            return [
                Stored(
                    each["Key"].removeprefix(self._prefix),
                    each["Size"],
                    each["LastModified"].timestamp(),
                )
                for page in pages
                for each in page.get("Contents", ())
            ]

    def read(self, name: str, start: int, stop: int) -> Reader | None:
        """The body of a GET of that range."""
        with _reading():
            try:
                reply = self._client.get_object(
                    Bucket=self._bucket,
                    Key=self._prefix + name,
                    **({"Range": f"bytes={start}-{stop - 1}"} if stop > start else {}),
                )
            except ClientError as fault:
                if _is_missing(fault):
                    return None
                raise
        return _Body(reply["Body"])

    def copy(self, name: str, target: Path) -> bool:
        """Download it."""
        stored = self.find(name)
        reader = stored and self.read(name, 0, stored.size)
        if not reader:
            return False
        try:
            with storing("the image"), private_file(target) as file:
                while piece := reader.read(1 << 20):
                    file.write(piece)
        finally:
            reader.close()
        return True

    def remove(self, name: str) -> None:
        """Deleting what is not there is no error in S3."""
        with _reading():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + name)

    def tidy(self, older_than: float) -> None:
        """Uploads in parts that were never finished: they cost, and no listing shows them."""
        over = time.time() - older_than
        with _reading():
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._prefix
            )
            for page in pages:
                for each in page.get("Uploads", ()):
                    if each["Initiated"].timestamp() < over:
                        self._client.abort_multipart_upload(
                            Bucket=self._bucket, Key=each["Key"], UploadId=each["UploadId"]
                        )


class _Body:
    """boto3's body, its failures turned into ours."""

    def __init__(self, body: Any) -> None:
        self._body = body

    def read(self, size: int, /) -> bytes:
        with _reading():
            return bytes(self._body.read(size))

    def close(self) -> None:
        self._body.close()


def _check_house(settings: Settings) -> None:
    host = (urlsplit(settings.s3_endpoint).hostname or "").lower()
    if not is_loopback(host) and host not in host_names(settings.local_hosts):
        raise InvalidRequest(
            f"UPSCALE_LOCAL_ONLY=1 allows no results in a bucket at {host or 'AWS'}. Name the host "
            "in UPSCALE_LOCAL_HOSTS, or leave UPSCALE_S3_BUCKET empty.",
            field="s3_endpoint",
        )


@contextlib.contextmanager
def _storing(what: str) -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError, boto3.exceptions.Boto3Error) as fault:
        raise OutputFault(f"Cannot store {what}: the storage answers with an error.") from fault


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    try:
        yield
    except (BotoCoreError, ClientError) as fault:
        raise ServerFault("The storage of results does not answer as it should.") from fault


def _is_missing(fault: ClientError) -> bool:
    return str(fault.response.get("Error", {}).get("Code")) in ("404", "NoSuchKey", "NotFound")
