"""An edit by a remote provider: decided, priced, run, and answered as a local one is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upscale.errors import InvalidRequest
from upscale.imaging.probe import Probe
from upscale.server import audit
from upscale.server.background import accepted_reply
from upscale.server.edit import Edit, Upload, check_patience
from upscale.server.finishing import Wanted, check_room, finished
from upscale.server.job import Accepted
from upscale.server.limits import check_inline
from upscale.server.recording import Recording
from upscale.server.records.keys import Key
from upscale.server.remote_plan import RemotePlan, RemoteWish
from upscale.server.remote_run import about, executed_by, told_at_the_end, told_of
from upscale.server.replies import estimate
from upscale.server.services import Services, base_url
from upscale.server.spool import RequestFolder
from upscale.server.threads import whole

# Ours: of no provider's concern, whatever it has by these names.
_OWN = frozenset({"background_color", "strip_metadata", "target_width", "target_height"})

# Bytes a pixel that the files made to be sent may take: a PNG, and a JPEG beside a large one.
_MOST_SENT = 6

# What is left of a caller's patience when the provider is given up, to tell him so.
_PART_OF_PATIENCE = 0.95


async def dry_run(
    request: Request,
    ours: Services,
    edit: Edit,
    upload: Upload,
    folder: RequestFolder,
    key: Key | None,
) -> Response:
    """What a run would cost, where that is known, and by which routes it would go."""
    sent: list[tuple[str, int]] = []
    try:
        plan = await _decide(request, ours, edit, upload, folder, key, sent)
    finally:
        for host, size in sent:
            audit.sent(request.state.request_id, key, host, size)
    folder.check(plan.most_bytes)
    price = plan.price
    body = estimate(
        edit.model,
        plan.route.provider.id,
        None if price is None else price.micros,
        () if price is None else price.components,
    )
    if price is not None:
        known = {"source": price.source, "read": price.read or None}
        body |= {"approximate": price.approximate, "price": known}
    return JSONResponse(body | {"plan": plan.shown()})


async def run_edit(
    request: Request,
    ours: Services,
    edit: Edit,
    upload: Upload,
    folder: RequestFolder,
    record: Recording,
    wanted: Wanted,
) -> Response:
    """Have it done."""
    sent: list[tuple[str, int]] = []
    try:
        plan = await _decide(request, ours, edit, upload, folder, record.key, sent)
    finally:
        record.tell(**told_of(sent))
    if not wanted.later:
        check_patience(plan.expected_seconds, 0.0, wanted.patience)
    await check_room(ours, wanted)
    ours.access.count_pixels(record.key, _pixels(plan))
    await record.change(
        model=edit.model,
        executed_model=plan.executed_model,
        provider=plan.route.provider.id,
        quote_micros=None if plan.price is None else plan.price.micros,
        expected_seconds=plan.expected_seconds,
        user=wanted.user,
    )
    await record.reserve(plan.most_micros)
    if wanted.later:
        work = Accepted(
            model=edit.model,
            n=wanted.n,
            inline=wanted.inline,
            base_url=base_url(request, ours.settings),
            remote=plan.wish,
        )
        row = await ours.background.accept(record, work, upload.path)
        return await accepted_reply(ours, row)
    feed = ours.recorder.feeds.open(record.id)

    async def keep(fields: dict[str, Any], must: bool) -> None:
        if must:
            await record.change(durable=True, early=True, **fields)
        else:  # also where somebody has cancelled it meanwhile
            await whole(lambda: ours.recorder.log.change(record.id, **fields))

    with ours.remote.at_work(), folder.ahead(plan.most_bytes):
        record.begin()
        run = ours.remote.run(
            record.id,
            plan,
            folder.path,
            seconds=min(ours.settings.provider_seconds, _PART_OF_PATIENCE * wanted.patience),
            keep=keep,
            progress=feed.report,
        )
        try:
            images = await run.results()
        finally:
            record.tell(**run.facts)
        executed = executed_by(images)
        request.state.provider, request.state.model = executed.provider, executed.model
        returned = images[0].returned
        return await finished(
            request,
            ours,
            record,
            folder,
            wanted,
            files=[image.path for image in images],
            size=(returned.width, returned.height),
            format=edit.parameters.output_format,
            about=about(plan, run, images),
            facts=told_at_the_end(run, images),
        )


async def _decide(
    request: Request,
    ours: Services,
    edit: Edit,
    upload: Upload,
    folder: RequestFolder,
    key: Key | None,
    sent: list[tuple[str, int]],
) -> RemotePlan:
    wanted = edit.parameters
    named = edit.named
    wish = RemoteWish(
        model=edit.model,
        provider=None if named.provider is None else named.provider.id,
        factor=_factor(edit, upload.probe),
        fields={name: value for name, value in edit.fields.items() if name not in _OWN},
        n=wanted.n,
        output_format=wanted.output_format,
        quality=wanted.quality,
        background=wanted.background,
        strip_metadata=wanted.strip_metadata,
        allow_resample=wanted.allow_resample,
        priced=key is not None and key.spending_limit_micros is not None,
    )
    with folder.ahead(_MOST_SENT * upload.probe.pixels):
        plan = await ours.remote.decide(wish, upload.path, upload.probe, folder.path, sent)
    folder.take(plan.sendable.png_bytes + plan.sendable.jpeg_bytes)
    if plan.size is not None:
        check_inline(plan.size, wanted, ours.settings)
    request.state.provider, request.state.model = plan.route.provider.id, plan.executed_model
    return plan


def _factor(edit: Edit, probe: Probe) -> Decimal | None:
    """The factor for this picture; None where the model decides."""
    rule, target = edit.named.scale, edit.parameters.target
    if rule.kind == "fixed":
        if target.wishes:
            raise InvalidRequest(
                f"'{edit.model}' decides the size of its result itself; leave "
                f"{' and '.join(target.wishes)} out.",
                field=next(iter(target.wishes)),
            )
        return None
    if target.wishes:
        return target.factor(probe.width, probe.height, rule, edit.asked)
    return rule.default if edit.asked is None else edit.asked


def _pixels(plan: RemotePlan) -> int:
    """Of all results; where the model decides, as many as were sent."""
    width, height = plan.size or (plan.probe.width, plan.probe.height)
    return width * height * plan.wish.n
