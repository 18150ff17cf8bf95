"""`POST /openai/v1/images/edits`: one upscale, from the request's body to the reply.

Everything that can be refused is refused before any work: fields and model, then the picture's
header and the limits, then the plan, the price and the time it takes.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.plan import Request as PlanRequest
from upscale.engine.receipt import Progress
from upscale.engine.scaling import scaled
from upscale.errors import InvalidRequest, TooLarge
from upscale.imaging.limits import check_input, check_output
from upscale.imaging.probe import Probe
from upscale.models.quote import PriceRule, Quote, make_quote
from upscale.server.access import caller, check_model
from upscale.server.background import accepted_reply
from upscale.server.body import read_form
from upscale.server.choosing import Named, choose_network, find_named
from upscale.server.forms import Form, ImagePart
from upscale.server.job import Accepted
from upscale.server.parameters import (
    Parameters,
    is_dry_run,
    read_model,
    read_parameters,
    read_user,
)
from upscale.server.recording import Recording
from upscale.server.records.keys import Key
from upscale.server.repeats import replayed
from upscale.server.replies import dry_run_reply, inlined, metadata, result
from upscale.server.running import while_connected
from upscale.server.services import Services, base_url, services
from upscale.server.source import obtain, pick_image
from upscale.server.spool import RequestFolder
from upscale.server.wishes import idempotency_key, patience, wants_background
from upscale.server.work import Turn, blaming_the_model, expected, most_bytes, run
from upscale.settings import Settings
from upscale.weights.store import Network

router = APIRouter()


@router.post("/openai/v1/images/edits", response_model=None)
async def edit_image(request: Request) -> Response:
    """Upscale one image."""
    ours, key = services(request), caller(request)
    ours.access.count_request(key)
    if is_dry_run(request.query_params):
        with ours.spool.request_folder() as folder:
            form = await _read(request, ours, folder)
            return await while_connected(
                request, ours.running, _dry_run(request, ours, form, folder, key)
            )
    repeat = idempotency_key(request)
    async with ours.recorder.recording(request, key) as record:
        if repeat is None:
            await record.arrive()
        with ours.spool.request_folder() as folder:
            form = await _read(request, ours, folder)
            if repeat is not None:
                again = replayed(ours, record, repeat, form, folder)
                reply = await while_connected(request, ours.running, again)
                if reply is not None:
                    return reply
            work = _run(request, ours, form, folder, record, keep=repeat is not None)
            return await while_connected(request, ours.running, work)


@dataclass(frozen=True)
class Edit:
    """One validated request. `asked` is the factor that came with it, checked by the model's rule;
    `networks` are those installed, `network` the one that runs it as far as can be told.
    """

    named: Named
    networks: list[Network]
    network: Network
    asked: Decimal | None
    parameters: Parameters
    image: ImagePart

    @property
    def model(self) -> str:
        """The model's name in replies."""
        return self.named.id


@dataclass(frozen=True)
class Decision:
    """An Edit with all that was decided before the work: where the picture lies, the Plan (its
    time corrected by `factor`), the wish that it was made for, and the price.
    """

    edit: Edit
    source: Path
    wish: PlanRequest
    plan: Plan
    factor: float
    quote: Quote


def make_edit(form: Form, ours: Services, networks: list[Network], key: Key | None) -> Edit:
    """Check fields and model against the catalogue, what is installed, and what the key may use.

    Raises ModelNotFound first, then what is wrong with a field, then ModelDisabled.
    """
    named = find_named(read_model(form), ours.catalogue, networks)
    check_model(key, named.names)
    parameters = read_parameters(form)
    rule = named.scale
    asked = None
    if parameters.scale_factor is not None:
        asked = rule.parse(parameters.scale_factor)
    image = pick_image(form)
    factor = rule.default if asked is None else asked
    network = choose_network(named, networks, factor=factor, denoise=parameters.denoise)
    return Edit(named, networks, network, asked, parameters, image)


async def _read(request: Request, ours: Services, folder: RequestFolder) -> Form:
    settings = ours.settings
    return await read_form(request, folder, settings.max_body_bytes, settings.upload_idle_seconds)


async def _dry_run(
    request: Request, ours: Services, form: Form, folder: RequestFolder, key: Key | None
) -> Response:
    decision = await _decide(request, ours, form, folder, key)
    folder.check(most_bytes(decision.plan))
    return dry_run_reply(decision.edit.model, decision.plan, decision.quote)


async def _run(
    request: Request,
    ours: Services,
    form: Form,
    folder: RequestFolder,
    record: Recording,
    *,
    keep: bool,
) -> Response:
    """Do it, or see to it that it is done. `keep`: the result outlives its reply."""
    decision = await _decide(request, ours, form, folder, record.key)
    edit, plan = decision.edit, decision.plan
    wanted = edit.parameters
    inline = wanted.response_format == "b64_json"
    later = wants_background(request, form)
    if not later:
        _check_patience(ours, plan, patience(request, ours.settings.foreground_seconds))
    if not inline or later or keep:
        await asyncio.to_thread(ours.media.check)
    ours.access.count_pixels(record.key, plan.width * plan.height)
    cost = decision.quote.micros
    await record.change(
        model=edit.model,
        executed_model=f"local/{plan.network.name}",
        provider="local",
        quote_micros=cost,
        expected_seconds=plan.expected_seconds,
        user=read_user(form),
    )
    await record.reserve(cost)
    if later:
        work = Accepted(
            model=edit.model,
            network=plan.network.name,
            blend=plan.network.blend,
            wish=decision.wish,
            n=wanted.n,
            inline=inline,
            base_url=base_url(request, ours.settings),
        )
        row = await ours.background.accept(record, work, decision.source)
        return await accepted_reply(ours, row)
    target = folder.path / "result"
    order = JobOrder(record.id, decision.source, target, plan)
    turn = Turn(record.share, record.priority)
    feed = ours.recorder.feeds.open(record.id)

    def advance(progress: Progress) -> None:
        record.begin()
        feed.advance(progress, plan)

    with folder.ahead(most_bytes(plan)):
        receipt = await run(ours.engine, ours.speeds, order, turn, decision.factor, advance)
        about = metadata(edit.model, plan, cost, receipt)
        names: list[str] = []
        url = None
        if inline:
            file = target.open("rb")
            folder.lend(file, target.stat().st_size)
        if keep or not inline:
            names = [await asyncio.to_thread(ours.media.adopt, target, plan.output.format)]
            url = None if inline else f"{base_url(request, ours.settings)}/media/{names[0]}"
        body = result(plan, wanted.n, url, about)
        reply = inlined(body, file) if inline else JSONResponse(body)
        await record.complete(
            cost_micros=cost,
            reply=json.dumps(body),
            media=names,
            response_size_bytes=int(reply.headers["content-length"]),
        )
    return reply


async def _decide(
    request: Request, ours: Services, form: Form, folder: RequestFolder, key: Key | None
) -> Decision:
    networks = await asyncio.to_thread(ours.store.networks)
    edit = make_edit(form, ours, networks, key)
    request.state.provider, request.state.model = "local", f"local/{edit.network.name}"
    with blaming_the_model(edit.network.path):
        source = await obtain(
            edit.image,
            folder,
            media=ours.media,
            fetcher=ours.fetcher,
            own_url=base_url(request, ours.settings),
        )
        probe = await ours.pool.probe(source)
        check_input(probe, ours.settings.max_input_pixels)
        network, factor = await _scaling(ours, edit, probe)
        wanted = edit.parameters
        _check_output(probe, factor, wanted, ours.settings)
        wish = PlanRequest(
            scale_factor=factor,
            output_format=wanted.output_format,
            quality=wanted.quality,
            background=wanted.background,
            strip_metadata=wanted.strip_metadata,
            seed=wanted.seed,
        )
        planned = await expected(await ours.engine.plan(probe, network, wish), ours.speeds)
    plan = planned.plan
    request.state.model = f"local/{plan.network.name}"
    quote = make_quote(plan.width, plan.height, wanted.n, _local_price(ours.settings))
    return Decision(edit, source, wish, plan, planned.factor, quote)


def _check_patience(ours: Services, plan: Plan, seconds: float) -> None:
    """Raise InvalidRequest for what cannot be there before the caller has stopped waiting."""
    queued = ours.engine.backlog
    wait = queued + plan.expected_seconds
    if wait > seconds:
        raise InvalidRequest(
            f"This takes about {wait:.0f} s ({queued:.0f} s of them in the queue), and the caller "
            f"waits {seconds:.0f} s. Send background=true (or the header 'Prefer: respond-async') "
            "and ask for the result later, or raise the client's timeout.",
            field="background",
        )


def _local_price(settings: Settings) -> PriceRule:
    return PriceRule(settings.price_per_image, settings.price_per_megapixel)


async def _scaling(ours: Services, edit: Edit, probe: Probe) -> tuple[Network, Decimal]:
    """The factor for this picture, and the network that is best at it."""
    rule, target = edit.named.scale, edit.parameters.target
    if rule.kind == "fixed" or (edit.asked is None and rule.default is None and not target.wishes):
        native = Decimal((await ours.engine.contract(edit.network)).scale)
        target.check(probe.width, probe.height, native, "the model's own factor")
        return edit.network, native
    if not target.wishes:
        factor = rule.default if edit.asked is None else edit.asked
        assert factor is not None
        return edit.network, factor
    factor = target.factor(probe.width, probe.height, rule, edit.asked)
    denoise = edit.parameters.denoise
    return choose_network(edit.named, edit.networks, factor=factor, denoise=denoise), factor


def _check_output(probe: Probe, factor: Decimal, wanted: Parameters, settings: Settings) -> None:
    """Raise TooLarge for a result over the limits, without waiting for the device."""
    width, height = scaled(probe.width, factor), scaled(probe.height, factor)
    check_output(
        wanted.output_format,
        width,
        height,
        max_pixels=settings.max_output_pixels,
        max_side=settings.max_output_side,
        max_whole_pixels=settings.max_whole_pixels,
    )
    if wanted.response_format == "b64_json" and width * height > settings.max_whole_pixels:
        raise TooLarge(
            f"The result ({width} x {height})",
            got=width * height,
            limit=settings.max_whole_pixels,
            unit="pixels in b64_json",
            advice="Ask for response_format=url and download the file.",
            field="response_format",
        )
