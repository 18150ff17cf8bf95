"""The engine in the caller's own process: for the command line, which waits for its one Job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from upscale.engine.device import DeviceProfile
from upscale.engine.memory import keep_freed_memory
from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef, Plan, PlanLimits, Request, make_plan
from upscale.engine.receipt import Progress, Receipt
from upscale.imaging.probe import Probe
from upscale.models.contract import Contract
from upscale.settings import Settings
from upscale.weights.hashes import hash_file

if TYPE_CHECKING:
    from upscale.engine.session import Session
    from upscale.weights.store import Network


class LocalEngine:
    """The same work as a device worker's, without the process. Entering it imports torch."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._limits = PlanLimits.of(settings)
        self._open: Session | None = None

    def __enter__(self) -> LocalEngine:
        keep_freed_memory()
        from upscale.engine.session import Session

        self._open = Session(self._settings)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open = None

    @property
    def _session(self) -> Session:
        if self._open is None:
            raise RuntimeError("LocalEngine is used inside its with block only")
        return self._open

    def device(self) -> DeviceProfile:
        """The device that runs things here."""
        return self._session.device

    def contract(self, network: Network) -> Contract:
        """What the engine must know of `network`; measured now if it is not known."""
        return self._session.facts(NetworkRef.of(network)).contract

    def examine(self, file: Path, *, sanity: bool) -> Contract:
        """The Contract of a file not installed yet, measured now and remembered for when it is.

        With `sanity`, a network that does not keep grey raises CheckpointError.
        """
        ref = NetworkRef(file.stem, str(file), hash_file(file))
        return self._session.facts(ref, sanity=sanity).contract

    def plan(self, probe: Probe, network: Network, request: Request) -> Plan:
        """The Plan of a request; see `engine.plan.make_plan` for what it raises."""
        ref = NetworkRef.of(network)
        facts = self._session.facts(ref)
        return make_plan(probe, facts, ref, request, self._session.device, self._limits)

    def run(
        self,
        job: JobOrder,
        progress: Callable[[Progress], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Receipt:
        """Run a Job to its end; see `engine.job.run_job` for what it raises."""
        return self._session.run(job, progress=progress, cancelled=cancelled)

    def doctor(self, network: Network) -> dict[str, Any]:
        """Contract and proofs of a network on this device, as plain data, and the choice made."""
        facts = self._session.facts(NetworkRef.of(network))
        key = self._session.device.key
        best = facts.best(key, ("bf16", "fp16", "fp32"))
        return {
            "network": network.name,
            "contract": facts.contract.to_json(),
            "proofs": [vars(proof) for proof in facts.proofs.get(key, ())],
            "precision": best.precision if best else "fp32",
        }
