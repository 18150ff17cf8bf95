"""The stubs, once for all tests of providers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.providers.rig import all_running, fresh
from tests.providers.stubs.base import Stub


@pytest.fixture(scope="session")
def _servers() -> Iterator[dict[str, Stub]]:
    with all_running() as stubs:
        yield stubs


@pytest.fixture
def stubs(_servers: dict[str, Stub]) -> dict[str, Stub]:
    """All stub providers, as if they had just been started."""
    for stub in _servers.values():
        fresh(stub)
    return _servers
