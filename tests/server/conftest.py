"""Servers that the tests of this room share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.live import Live, serving
from upscale.settings import Settings
from upscale.weights.store import Store


@pytest.fixture(scope="session")
def weights_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a pair that serves real-esrgan and a network that serves nothing."""
    source, folder = tmp_path_factory.mktemp("files"), tmp_path_factory.mktemp("weights")
    store = Store(folder)
    for name, serves in (
        ("realesr-general-x4v3", "real-esrgan"),
        ("realesr-general-wdn-x4v3", None),
        ("tiny-x2", None),
        ("crisp-x2", "recraft-crisp-upscale"),
        ("google-x4", "google-upscaler"),
        ("topaz-x4", "topaz-image-upscale"),
        ("clarity-x4", "clarity-upscaler"),
    ):
        file = source / f"{name}.safetensors"
        file.write_bytes(name.encode())
        store.register(file, name=None, serves=serves, replace=False)
    return folder


@pytest.fixture(scope="session")
def _shared(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> Iterator[Live]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("server"),
        weights_dir=weights_dir,
        max_body_bytes=24 << 20,
        local_hosts="images.test",
    )
    with serving(settings) as live:
        yield live


@pytest.fixture
def live(_shared: Live) -> Live:
    """The shared server, its engine as new."""
    _shared.engine.reset()
    return _shared


@pytest.fixture(scope="session")
def _small(tmp_path_factory: pytest.TempPathFactory, weights_dir: Path) -> Iterator[Live]:
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("small"),
        weights_dir=weights_dir,
        max_body_bytes=100_000,
        max_input_pixels=1000,
        max_output_pixels=20_000,
        max_whole_pixels=5_000,
        media_ttl_seconds=1,
        local_only=True,
    )
    with serving(settings) as live:
        yield live


@pytest.fixture
def small(_small: Live) -> Live:
    """A server with tiny limits, media that lives a second, and no outgoing connections."""
    _small.engine.reset()
    return _small
