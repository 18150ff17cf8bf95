"""`POST /openai/v1/images/edits`: one upscale, from the request's body to the reply.

Everything that can be refused is refused before any work: fields and model, then the picture's
header and the limits, then the plan, the price and the time it takes.
"""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from upscale.errors import ModelNotFound
from upscale.server import local_edit, remote_edit
from upscale.server.access import caller
from upscale.server.body import read_form
from upscale.server.edit import Edit, Upload, fetch_upload, read_edit
from upscale.server.finishing import Wanted
from upscale.server.forms import Form
from upscale.server.forwarding import aim_of, forward_edit
from upscale.server.parameters import is_dry_run, read_user
from upscale.server.recording import Recording
from upscale.server.records.keys import Key
from upscale.server.repeats import replayed
from upscale.server.running import while_connected
from upscale.server.services import Services, services
from upscale.server.spool import RequestFolder
from upscale.server.wishes import idempotency_key, patience, wants_background
from upscale.server.work import blaming_the_model

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


async def _read(request: Request, ours: Services, folder: RequestFolder) -> Form:
    settings = ours.settings
    copy = None if ours.passthrough is None else _as_it_came(folder)
    return await read_form(
        request, folder, settings.max_body_bytes, settings.upload_idle_seconds, copy
    )


def _as_it_came(folder: RequestFolder) -> Path:
    """The body itself, kept where a model that is unknown here may be known elsewhere."""
    return folder.path / "body"


async def _dry_run(
    request: Request, ours: Services, form: Form, folder: RequestFolder, key: Key | None
) -> Response:
    try:
        edit = await read_edit(form, ours, key)
    except ModelNotFound as unknown:
        aim = None if unknown.here else await aim_of(ours, key)
        if aim is None:
            raise
        body = _as_it_came(folder)
        return await forward_edit(request, ours, folder, aim, body, form, key, None)
    upload = await _upload(request, ours, edit, folder)
    if edit.network is None:
        return await remote_edit.dry_run(request, ours, edit, upload, folder, key)
    return await local_edit.dry_run(request, ours, edit, edit.network, upload, folder)


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
    try:
        edit = await read_edit(form, ours, record.key)
    except ModelNotFound as unknown:
        aim = None if unknown.here else await aim_of(ours, record.key)
        if aim is None:
            raise
        body = _as_it_came(folder)
        return await forward_edit(request, ours, folder, aim, body, form, record.key, record)
    upload = await _upload(request, ours, edit, folder)
    wanted = Wanted(
        n=edit.parameters.n,
        inline=edit.parameters.response_format == "b64_json",
        later=wants_background(request, form),
        keep=keep,
        patience=patience(request, ours.settings.foreground_seconds),
        user=read_user(form),
    )
    if edit.network is None:
        return await remote_edit.run_edit(request, ours, edit, upload, folder, record, wanted)
    return await local_edit.run_edit(
        request, ours, edit, edit.network, upload, folder, record, wanted
    )


async def _upload(request: Request, ours: Services, edit: Edit, folder: RequestFolder) -> Upload:
    if edit.network is None:
        return await fetch_upload(request, ours, edit, folder)
    request.state.provider, request.state.model = "local", f"local/{edit.network.name}"
    with blaming_the_model(edit.network.path):
        return await fetch_upload(request, ours, edit, folder)
