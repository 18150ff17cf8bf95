"""`POST /openai/v1/images/edits`: one upscale, from the request's body to the reply.

Everything that can be refused is refused before any work: fields and model, then the picture's
header and the limits, then the plan.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from upscale import logs
from upscale.engine.order import JobOrder
from upscale.engine.plan import Plan
from upscale.engine.plan import Request as PlanRequest
from upscale.engine.scaling import scaled
from upscale.errors import CheckpointError, JobCancelled, TooLarge
from upscale.imaging.limits import check_input, check_output
from upscale.imaging.probe import Probe
from upscale.models.quote import PriceRule, make_quote
from upscale.server.body import read_form
from upscale.server.choosing import Named, choose_network, find_named
from upscale.server.forms import Form, ImagePart
from upscale.server.parameters import Parameters, is_dry_run, read_model, read_parameters
from upscale.server.replies import base64_reply, dry_run_reply, metadata, url_reply
from upscale.server.services import Services, base_url, services
from upscale.server.source import obtain, pick_image
from upscale.server.spool import RequestFolder
from upscale.settings import Settings
from upscale.weights.store import Network

log = logs.get("server")
router = APIRouter()

# Profiles, EXIF and XMP of a result, and the frame of its format.
_METADATA_BYTES = 1 << 20


@router.post("/openai/v1/images/edits", response_model=None)
async def edit_image(request: Request) -> Response:
    """Upscale one image."""
    ours = services(request)
    dry_run = is_dry_run(request.query_params)
    with ours.spool.request_folder() as folder:
        form = await read_form(
            request, folder, ours.settings.max_body_bytes, ours.settings.upload_idle_seconds
        )
        return await _while_connected(request, _answer(request, ours, form, folder, dry_run))


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


def make_edit(form: Form, ours: Services, networks: list[Network]) -> Edit:
    """Check fields and model against the catalogue and what is installed.

    Raises ModelNotFound first, then what is wrong with a field, then ModelDisabled.
    """
    named = find_named(read_model(form), ours.catalogue, networks)
    parameters = read_parameters(form)
    rule = named.scale
    asked = None
    if parameters.scale_factor is not None:
        asked = rule.parse(parameters.scale_factor)
    image = pick_image(form)
    factor = rule.default if asked is None else asked
    network = choose_network(named, networks, factor=factor, denoise=parameters.denoise)
    return Edit(named, networks, network, asked, parameters, image)


async def _answer(
    request: Request, ours: Services, form: Form, folder: RequestFolder, dry_run: bool
) -> Response:
    edit = make_edit(form, ours, await asyncio.to_thread(ours.store.networks))
    request.state.provider, request.state.model = "local", f"local/{edit.network.name}"
    with _blaming_the_model(edit.network):
        source, plan = await _plan(request, ours, edit, folder)
    request.state.model = f"local/{plan.network.name}"
    wanted = edit.parameters
    quote = make_quote(plan.width, plan.height, wanted.n, _local_price(ours.settings))
    most = _most_bytes(plan)
    if dry_run:
        folder.check(most)
        return dry_run_reply(edit.model, plan, quote)
    target = folder.path / "result"
    order = JobOrder(request.state.request_id, source, target, plan)
    if wanted.response_format == "url":
        await asyncio.to_thread(ours.media.check)
    with folder.ahead(most):
        with _blaming_the_model(edit.network):
            receipt = await ours.engine.run(order)
        log.info(
            "edit done",
            extra=logs.fields(
                request=request.state.request_id,
                network=plan.network.name,
                size=f"{plan.width}x{plan.height}",
                seconds=receipt.seconds.get("total"),
            ),
        )
        about = metadata(edit.model, plan, quote, receipt)
        if wanted.response_format == "b64_json":
            file = target.open("rb")
            folder.lend(file, target.stat().st_size)
            return base64_reply(file, wanted.n, plan, about)
        name = await asyncio.to_thread(ours.media.adopt, target, plan.output.format)
    return url_reply(f"{base_url(request, ours.settings)}/media/{name}", wanted.n, plan, about)


def _local_price(settings: Settings) -> PriceRule:
    return PriceRule(settings.price_per_image, settings.price_per_megapixel)


def _most_bytes(plan: Plan) -> int:
    """More than any format makes of the result, in bytes: its pixels as they are, and metadata."""
    output = plan.output
    return output.width * output.height * output.channels * output.depth // 8 + _METADATA_BYTES


@contextlib.contextmanager
def _blaming_the_model(network: Network) -> Iterator[None]:
    """Says of a CheckpointError which field is to blame, and not where the file lies."""
    try:
        yield
    except CheckpointError as error:
        error.field = "model"
        error.message = error.message.replace(os.path.join(network.path.parent, ""), "")
        raise


async def _plan(
    request: Request, ours: Services, edit: Edit, folder: RequestFolder
) -> tuple[Path, Plan]:
    """The image on this disk, and what will be done with it."""
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
    _check_output(probe, factor, edit.parameters, ours.settings)
    wish = PlanRequest(
        scale_factor=factor,
        output_format=edit.parameters.output_format,
        quality=edit.parameters.quality,
        background=edit.parameters.background,
        strip_metadata=edit.parameters.strip_metadata,
        seed=edit.parameters.seed,
    )
    return source, await ours.engine.plan(probe, network, wish)


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


async def _while_connected(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The result of `work`, which is cancelled when the caller goes away."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            log.info("caller gone", extra=logs.fields(request=request.state.request_id))
            raise JobCancelled("The caller closed the connection.")
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
            # Ended before the request's folder is removed.
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await each


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
