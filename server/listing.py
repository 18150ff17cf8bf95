"""`GET /openai/v1/models`, `GET /openai/v1/models/{id}`, `GET /health` and the media links."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from upscale import __version__
from upscale.errors import ModelNotFound
from upscale.models.catalogue import CatalogueModel
from upscale.server.choosing import find_named
from upscale.server.services import Services, services
from upscale.weights.store import Network

router = APIRouter()

_READ = ["GET", "HEAD"]


@router.api_route("/openai/v1/models", methods=_READ, response_model=None)
async def list_models(request: Request) -> Response:
    """Models of the catalogue, then installed networks."""
    ours = services(request)
    networks = await asyncio.to_thread(ours.store.networks)
    data = [_model(model, networks) for model in ours.catalogue.models]
    data += [_network(ours, network) for network in networks]
    return JSONResponse({"object": "list", "data": data})


@router.api_route("/openai/v1/models/{name:path}", methods=_READ, response_model=None)
async def get_model(request: Request, name: str) -> Response:
    """One model, by id, alias, or `provider/id`."""
    ours = services(request)
    networks = await asyncio.to_thread(ours.store.networks)
    named = find_named(name, ours.catalogue, networks)
    if named.model is not None:
        return JSONResponse(_model(named.model, networks))
    if named.network is None:
        raise ModelNotFound(name)
    return JSONResponse(_network(ours, named.network))


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
    return services(request).media.response(name)


def _model(model: CatalogueModel, networks: list[Network]) -> dict[str, Any]:
    return {
        "id": model.id,
        "object": "model",
        "created": model.created,
        "owned_by": model.owner,
        "available": model.choose(networks) is not None,
    }


def _network(ours: Services, network: Network) -> dict[str, Any]:
    return {
        "id": network.name,
        "object": "model",
        "created": _changed(network.path),
        "owned_by": network.author or "local",
        "available": True,
    }


def _changed(file: Path) -> int:
    """When a file was written, in Unix seconds; 0 where it was removed since it was listed."""
    try:
        return int(file.stat().st_mtime)
    except OSError:
        return 0
