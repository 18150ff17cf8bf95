"""The storage that the settings ask for."""

from __future__ import annotations

from upscale.server.storage.disk import DiskStorage
from upscale.server.storage.stored import Storage
from upscale.settings import Settings


def choose_storage(settings: Settings) -> Storage:
    """The bucket where one is named, else the data folder. Raises InvalidRequest."""
    if not settings.s3_bucket:
        return DiskStorage(settings.data_dir / "media")
    from upscale.server.storage.s3 import S3Storage  # the client library is an extra

    return S3Storage(settings)
