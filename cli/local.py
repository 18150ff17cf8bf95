"""A batch through the engine in this process, one picture after the other."""

from __future__ import annotations

import secrets
from contextlib import ExitStack
from decimal import Decimal

from upscale.cli.batch import Batch, Claim, Work
from upscale.cli.console import Interrupts, complain, printable, say
from upscale.cli.lazy import LazyEngine
from upscale.cli.networks import choose_network
from upscale.cli.options import deciding
from upscale.cli.plans import described
from upscale.cli.progress import Show, result_line, shown
from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef, Plan, Request
from upscale.errors import JobCancelled
from upscale.imaging.probing import probe
from upscale.settings import Settings


class Local:
    """Raises ModelNotFound, ModelDisabled and InvalidParameter, before any work."""

    def __init__(self, batch: Batch, settings: Settings, interrupts: Interrupts) -> None:
        self._batch, self._settings, self._interrupts = batch, settings, interrupts
        self._options = options = batch.options
        self._network, self._scale = choose_network(
            settings, options.model, scale=options.scale, denoise=options.denoise
        )

    def run(self) -> None:
        """Upscale, or plan, what the batch holds."""
        batch = self._batch
        with ExitStack() as stack:
            engine = LazyEngine(self._settings, self._network, stack)
            scale = self._scale or Decimal(engine.scale())
            stack.enter_context(batch.opened(scale, self._deciding(scale)))
            show = stack.enter_context(shown())
            for number, work in enumerate(batch.works, 1):
                position = f"{number}/{len(batch.works)} " if len(batch.works) > 1 else ""
                self._interrupts.check()
                with batch.reporting(work):
                    try:
                        self._one(engine, work, scale, show, position)
                    except JobCancelled:
                        self._interrupts.check()
                        raise
                    finally:
                        show.stop()

    def _deciding(self, scale: Decimal) -> dict[str, object]:
        ref = NetworkRef.of(self._network)
        blend = {"blend": ref.blend} if ref.blend != 1.0 else {}
        return deciding(
            self._options,
            network={"network": ref.key, **blend},
            scale=scale,
            format=self._batch.format,
            background=self._batch.background,
            settings=self._settings,
        )

    def _one(
        self, engine: LazyEngine, work: Work, scale: Decimal, show: Show, position: str
    ) -> None:
        batch, path = self._batch, work.item.path
        with batch.claimed(work) as claim:
            if claim is None:
                return
            request = Request(
                scale_factor=scale,
                output_format=batch.format,
                quality=self._options.quality,
                background=batch.background,
                strip_metadata=self._options.strip_metadata,
                seed=self._options.seed,
                precision=self._options.precision,
                tile=self._options.tile,
            )
            header = probe(path)
            plan = engine.open().plan(header, self._network, request)
            if self._options.dry_run:
                say(described(path, work.target, plan))
                batch.done += 1
                return
            show.start(printable(path.name), position)
            self._upscale(engine, claim, plan, show)

    def _upscale(self, engine: LazyEngine, claim: Claim, plan: Plan, show: Show) -> None:
        path, target = claim.work.item.path, claim.work.target
        # It grows under the name that it ends with: the batch puts it in place, and knows the name
        # should a kill leave it behind.
        order = JobOrder(
            id=secrets.token_hex(8),
            source=path,
            target=claim.scratch,
            plan=plan,
            scratch=claim.scratch.name,
        )
        with self._interrupts.gently():
            receipt = engine.open().run(
                order, progress=show.update, cancelled=self._interrupts.wanted
            )
            size, seconds = receipt.size, receipt.seconds["total"]
            self._batch.finish(
                claim,
                size=(size["width"], size["height"]),
                seconds=seconds,
                receipt=receipt.to_json(),
            )
        show.stop()
        width, height = size["width"], size["height"]
        say(result_line(path, target, width, height, seconds, receipt.precision))
        for note in receipt.notes:
            complain(f"{printable(path)}: {note}")
