"""`GET /openai/v1/models` and `/{id}` (both under `/v1` too), `GET /health` and the media links.

Every model says whether it can run here, on what, and what would have to be installed.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upscale import __version__
from upscale.errors import ModelNotFound
from upscale.models.catalogue import NETWORK_RULE, CatalogueModel, ScaleRule
from upscale.models.quote import number
from upscale.server.access import caller, check_model, may_use
from upscale.server.choosing import find_named, known_for, not_served, pull_command
from upscale.server.parameters import is_true
from upscale.server.records.keys import Key
from upscale.server.schema import model_schema
from upscale.server.services import Services, services
from upscale.weights.known import KnownFile
from upscale.weights.store import Network

# The models are for those who are admitted, the rest for everybody.
models, router = APIRouter(), APIRouter()

_READ = ["GET", "HEAD"]


@models.api_route("/openai/v1/models", methods=_READ, response_model=None)
@models.api_route("/v1/models", methods=_READ, response_model=None)
async def list_models(request: Request) -> Response:
    """Models of the catalogue, then installed networks: those that the key may use."""
    ours = services(request)
    networks = await asyncio.to_thread(ours.store.networks)
    key = caller(request)
    data = [
        _model(ours, model, networks, key)
        for model in ours.catalogue.models
        if may_use(key, (model.id, *model.aliases))
    ]
    data += [_network(network) for network in networks if may_use(key, (network.name,))]
    return JSONResponse({"object": "list", "data": data})


@models.api_route("/openai/v1/models/{name:path}", methods=_READ, response_model=None)
@models.api_route("/v1/models/{name:path}", methods=_READ, response_model=None)
async def get_model(request: Request, name: str) -> Response:
    """One model, by id, alias, or `provider/id`; with `schema=true` the JSON Schema of what a
    request for it may hold.
    """
    ours = services(request)
    wants_schema = is_true(request.query_params, "schema")
    networks = await asyncio.to_thread(ours.store.networks)
    named = find_named(name, ours.catalogue, networks)
    check_model(caller(request), named.names)
    if wants_schema:
        return JSONResponse(model_schema(named))
    if named.model is not None:
        return JSONResponse(_model(ours, named.model, networks, caller(request)))
    if named.network is None:
        raise ModelNotFound(name)
    return JSONResponse(_network(named.network))


@router.api_route("/health", methods=_READ, response_model=None)
async def health(request: Request) -> Response:
    """Whether the server can work; `waiting` counts accepted and unfinished Jobs."""
    engine = services(request).engine
    return JSONResponse(
        {
            "status": "ok" if engine.alive else "degraded",
            "version": __version__,
            "worker": engine.alive,
            "waiting": engine.waiting,
        }
    )


@router.api_route("/media/{name}", methods=_READ, response_model=None)
async def media(request: Request, name: str) -> Response:
    """The file of a media link."""
    return await services(request).media.response(name, request.method, request.headers)


def _model(
    ours: Services, model: CatalogueModel, networks: list[Network], key: Key | None
) -> dict[str, Any]:
    inside = key is not None and key.local_only
    routes = [] if inside else ours.remote.usable(model)
    keys = [] if inside else ours.remote.missing_keys(model)
    chosen = model.choose(networks)
    available = chosen is not None or bool(routes)
    return {
        **_card(model.id, model.created, model.owner, model.scale),
        "name": model.name,
        "aliases": list(model.aliases),
        "available": available,
        "network": None if chosen is None else chosen.name,
        "installed": [n.name for n in networks if model.id in n.serves],
        "installable": [_known(known) for known in known_for(model)],
        "import_command": f"upscale weights import FILE --as {model.id}",
        "reason": None if available else not_served(model, keys).message,
        "remote": [
            {
                "provider": route.provider.id,
                "endpoint": route.endpoint,
                "key": route.provider.key,
                "available": route in routes,
            }
            for route in model.routes
        ],
    }


def _network(network: Network) -> dict[str, Any]:
    return {
        **_card(network.name, _changed(network.path), network.author or "local", NETWORK_RULE),
        "name": network.name,
        "available": True,
        "network": network.name,
        "serves": list(network.serves),
        "bundled": network.bundled,
        "licence": network.licence or None,
        "sha256": network.sha256,
        "reason": None,
    }


def _card(name: str, created: int, owner: str, scale: ScaleRule) -> dict[str, Any]:
    """The four fields that every client knows, and the factors."""
    return {
        "id": name,
        "object": "model",
        "created": created,
        "owned_by": owner,
        "scale_factor": {
            "rule": scale.kind,
            "allowed": scale.allowed,
            "default": None if scale.default is None else number(scale.default),
        },
    }


def _known(known: KnownFile) -> dict[str, Any]:
    return {
        "id": known.id,
        "command": pull_command(known),
        "bytes": known.bytes,
        "licence": known.licence,
        "author": known.author,
    }


def _changed(file: Path) -> int:
    """When a file was written, in Unix seconds; 0 where it was removed since it was listed."""
    try:
        return int(file.stat().st_mtime)
    except OSError:
        return 0
