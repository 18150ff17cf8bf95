"""Servers in front of stub providers, for the tests that need them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.providers.rig import OWN
from tests.providers.stubs.base import Stub
from tests.providers.tools import settings_for
from tests.server.live import Live, serving


@contextmanager
def house(
    stubs: dict[str, Stub], folder: Path, *names: str, weights: Path | None = None, **more: Any
) -> Iterator[Live]:
    """A server with the keys of these providers; without `weights` only the bundled network."""
    plain = settings_for(**{name: stubs[name].url for name in names})
    given: dict[str, Any] = {
        "data_dir": folder / "data",
        "weights_dir": weights or folder / "weights",
        **OWN,
        **more,
    }
    with serving(plain.model_copy(update=given)) as live:
        yield live
