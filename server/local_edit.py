"""An edit by a network of this machine: decided, priced, run."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.plan import Request as PlanRequest
from upscale.engine.receipt import Progress
from upscale.engine.scaling import scaled
from upscale.imaging.probe import Probe
from upscale.models.quote import PriceRule, Quote, make_quote
from upscale.server.background import accepted_reply
from upscale.server.choosing import choose_network
from upscale.server.edit import Edit, Upload, check_patience
from upscale.server.finishing import Wanted, check_room, finished
from upscale.server.job import Accepted
from upscale.server.limits import check_inline, check_size
from upscale.server.recording import Recording
from upscale.server.replies import Executed, estimate, metadata, shown_plan
from upscale.server.services import Services, base_url
from upscale.server.spool import RequestFolder
from upscale.server.work import Turn, blaming_the_model, expected, most_bytes, run
from upscale.settings import Settings
from upscale.weights.store import Network


@dataclass(frozen=True)
class Decision:
    """All that was decided before the work: the Plan (its time corrected by `factor`), the wish
    that it was made for, and the price.
    """

    wish: PlanRequest
    plan: Plan
    factor: float
    quote: Quote


async def dry_run(
    request: Request,
    ours: Services,
    edit: Edit,
    network: Network,
    upload: Upload,
    folder: RequestFolder,
) -> Response:
    """What a run would cost, and the plan of it."""
    decision = await _decide(request, ours, edit, network, upload)
    folder.check(most_bytes(decision.plan))
    body = estimate(edit.model, "local", decision.quote.micros, decision.quote.components)
    return JSONResponse(body | {"plan": shown_plan(decision.plan)})


async def run_edit(
    request: Request,
    ours: Services,
    edit: Edit,
    network: Network,
    upload: Upload,
    folder: RequestFolder,
    record: Recording,
    wanted: Wanted,
) -> Response:
    """Do it, or see to it that it is done."""
    decision = await _decide(request, ours, edit, network, upload)
    plan = decision.plan
    if not wanted.later:
        check_patience(plan.expected_seconds, ours.engine.backlog, wanted.patience)
    await check_room(ours, wanted)
    ours.access.count_pixels(record.key, plan.width * plan.height)
    cost = decision.quote.micros
    await record.change(
        model=edit.model,
        executed_model=f"local/{plan.network.name}",
        provider="local",
        quote_micros=cost,
        expected_seconds=plan.expected_seconds,
        user=wanted.user,
    )
    await record.reserve(cost)
    if wanted.later:
        work = Accepted(
            model=edit.model,
            network=plan.network.name,
            blend=plan.network.blend,
            wish=decision.wish,
            n=wanted.n,
            inline=wanted.inline,
            base_url=base_url(request, ours.settings),
        )
        row = await ours.background.accept(record, work, upload.path)
        return await accepted_reply(ours, row)
    target = folder.path / "result"
    order = JobOrder(record.id, upload.path, target, plan)
    turn = Turn(record.share, record.priority)
    feed = ours.recorder.feeds.open(record.id)

    def advance(progress: Progress) -> None:
        record.begin()
        feed.advance(progress, plan)

    with folder.ahead(most_bytes(plan)):
        receipt = await run(ours.engine, ours.speeds, order, turn, decision.factor, advance)
        executed = Executed.here(plan.network.name)
        about = metadata(edit.model, executed, cost, receipt.to_json())
        return await finished(
            request,
            ours,
            record,
            folder,
            wanted,
            files=[target],
            size=(plan.width, plan.height),
            format=plan.output.format,
            about=about,
            facts={"cost_micros": cost},
        )


async def _decide(
    request: Request, ours: Services, edit: Edit, network: Network, upload: Upload
) -> Decision:
    with blaming_the_model(network.path):
        network, factor = await _scaling(ours, edit, network, upload.probe)
        wanted = edit.parameters
        size = scaled(upload.probe.width, factor), scaled(upload.probe.height, factor)
        check_size(wanted.output_format, size, ours.settings)  # without waiting for the device
        check_inline(size, wanted, ours.settings)
        wish = PlanRequest(
            scale_factor=factor,
            output_format=wanted.output_format,
            quality=wanted.quality,
            background=wanted.background,
            strip_metadata=wanted.strip_metadata,
            seed=wanted.seed,
        )
        planned = await expected(await ours.engine.plan(upload.probe, network, wish), ours.speeds)
    plan = planned.plan
    request.state.model = f"local/{plan.network.name}"
    quote = make_quote(plan.width, plan.height, wanted.n, _local_price(ours.settings))
    return Decision(wish, plan, planned.factor, quote)


def _local_price(settings: Settings) -> PriceRule:
    return PriceRule(settings.price_per_image, settings.price_per_megapixel)


async def _scaling(
    ours: Services, edit: Edit, network: Network, probe: Probe
) -> tuple[Network, Decimal]:
    """The factor for this picture, and the network that is best at it."""
    rule, target = edit.named.scale, edit.parameters.target
    if rule.kind == "fixed" or (edit.asked is None and rule.default is None and not target.wishes):
        native = Decimal((await ours.engine.contract(network)).scale)
        target.check(probe.width, probe.height, native, "the model's own factor")
        return network, native
    if not target.wishes:
        factor = rule.default if edit.asked is None else edit.asked
        assert factor is not None
        return network, factor
    factor = target.factor(probe.width, probe.height, rule, edit.asked)
    denoise = edit.parameters.denoise
    return choose_network(edit.named, edit.networks, factor=factor, denoise=denoise), factor
