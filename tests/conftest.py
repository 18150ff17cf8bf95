"""What all tests share: nothing of the user's own data is read or written."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Timings are never asserted, by hypothesis neither.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# A shell that runs the tests in the background has Ctrl-C ignored, by them and all that they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared_data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder for the whole run, so that each network is measured once."""
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="session", autouse=True)
def _own_environment(shared_data_dir: Path) -> Iterator[None]:
    """Settings of the machine do not reach the tests, nor the commands that they start."""
    kept = {k: v for k, v in os.environ.items() if k.startswith("UPSCALE_")}
    for name in kept:
        if name != "UPSCALE_TEST_DATA":
            del os.environ[name]
    os.environ["UPSCALE_DATA_DIR"] = str(shared_data_dir)
    yield
    del os.environ["UPSCALE_DATA_DIR"]
    os.environ.update(kept)
