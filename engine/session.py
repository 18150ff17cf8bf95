"""Networks of this process and the Jobs that run on them: the inside of a device worker.

Loads networks on demand, keeps the last few, measures each once and remembers it on disk. One
thread calls it. The command line uses it directly (`engine.local`), the server through a worker.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import torch

from upscale import logs
from upscale.engine.device import DeviceProfile, detect
from upscale.engine.job import OnProgress, run_job
from upscale.engine.memory import release_freed_memory
from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef
from upscale.engine.receipt import Receipt
from upscale.models.contract import Precision
from upscale.models.facts import Facts, FactsCache
from upscale.models.inspection import inspect
from upscale.models.loading import Loaded, load_checkpoint
from upscale.models.precision import prove
from upscale.models.runner import Runner, is_seedable
from upscale.settings import Settings

log = logs.get("engine")

# Networks kept in memory, most recently used first to stay.
_NETWORKS_KEPT = 3

# Runners kept of each: a precision, a wider one, another seed.
_RUNNERS_KEPT = 3

_Weights = tuple[str, float]
_Key = tuple[_Weights, str, str, int]


class Session:
    """See the module. `settings` choose the device and the cache folder."""

    def __init__(self, settings: Settings) -> None:
        self.device: DeviceProfile = detect(settings)
        self._cache = FactsCache(settings.cache_folder / "networks")
        self._loaded: OrderedDict[_Weights, Loaded] = OrderedDict()
        self._runners: OrderedDict[_Key, Runner] = OrderedDict()
        if not self.device.is_cuda:
            torch.set_num_threads(self.device.cores)

    def facts(self, network: NetworkRef, *, sanity: bool = False) -> Facts:
        """Contract and proofs of a network, measured now if they are not known yet.

        With `sanity`, as on import, nothing known is believed and a network that does not keep
        grey is refused. Raises CheckpointError when the file cannot be used.
        """
        known = self._cache.load(network.key)
        if known is not None and self.device.key in known.proofs and not sanity:
            return known
        log.info("measuring network", extra=logs.fields(network=network.name))
        loaded = self._load(network)
        contract = (
            known.contract
            if known is not None and not sanity
            else inspect(loaded, name=Path(network.path).name, sanity=sanity)
        )
        proofs = dict(known.proofs) if known is not None else {}
        proofs[self.device.key] = prove(loaded, contract, torch.device(self.device.device))
        facts = Facts(contract, proofs)
        self._cache.save(network.key, facts)
        release_freed_memory()
        return facts

    def run(
        self,
        order: JobOrder,
        *,
        progress: OnProgress | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Receipt:
        """Run a Job; see `engine.job.run_job` for what it raises."""
        network, seed = order.plan.network, order.plan.seed

        def runners(precision: Precision, method: str) -> Runner:
            return self._runner(network, precision, method, seed)

        try:
            return run_job(order, runners, self.device, progress=progress, cancelled=cancelled)
        finally:
            release_freed_memory()

    def _runner(self, network: NetworkRef, precision: Precision, method: str, seed: int) -> Runner:
        loaded = self._load(network)
        weights = (network.key, network.blend)
        key = (weights, precision, method, seed if is_seedable(loaded) else 0)
        if key not in self._runners:
            self._runners[key] = Runner(
                loaded,
                self.device.device,
                precision,
                "autocast" if method == "autocast" else "cast",
                seed,
            )
            while len(self._runners) > _RUNNERS_KEPT:
                self._runners.popitem(last=False)
        self._runners.move_to_end(key)
        return self._runners[key]

    def _load(self, network: NetworkRef) -> Loaded:
        weights = (network.key, network.blend)
        if weights not in self._loaded:
            self._loaded[weights] = load_checkpoint(
                Path(network.path),
                blend_path=Path(network.blend_path) if network.blend_path else None,
                blend=network.blend,
            )
            while len(self._loaded) > _NETWORKS_KEPT:
                gone, _ = self._loaded.popitem(last=False)
                for key in [key for key in self._runners if key[0] == gone]:
                    del self._runners[key]
        self._loaded.move_to_end(weights)
        return self._loaded[weights]
