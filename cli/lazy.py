"""The engine of a command that may turn out not to need it: opening it takes seconds."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from upscale.engine.local import LocalEngine
from upscale.engine.plan import NetworkRef
from upscale.models.facts import FactsCache
from upscale.settings import Settings

if TYPE_CHECKING:
    from upscale.weights.store import Network


class LazyEngine:
    """The engine, opened (which takes seconds) when it is first needed and closed with `stack`."""

    def __init__(self, settings: Settings, network: Network, stack: ExitStack) -> None:
        self._settings, self._network, self._stack = settings, network, stack
        self._engine: LocalEngine | None = None

    def open(self) -> LocalEngine:
        """The engine, which loads torch the first time."""
        if self._engine is None:
            self._engine = self._stack.enter_context(LocalEngine(self._settings))
        return self._engine

    def scale(self) -> int:
        """The network's own scale, by what is known of it already where that is enough."""
        cache = FactsCache(self._settings.cache_folder / "networks")
        known = cache.load(NetworkRef.of(self._network).key)
        return (known.contract if known else self.open().contract(self._network)).scale
