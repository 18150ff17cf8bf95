"""One validated request: its model, what it asks for, its picture, and where it is to run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from starlette.requests import Request

from upscale.errors import InvalidRequest, ModelDisabled
from upscale.imaging.limits import check_input
from upscale.imaging.probe import Probe
from upscale.server.access import check_model
from upscale.server.choosing import Named, choose_network, find_named, runs_here
from upscale.server.forms import Form, ImagePart, Structure
from upscale.server.parameters import Parameters, read_model, read_parameters
from upscale.server.records.keys import Key
from upscale.server.services import Services, base_url
from upscale.server.source import obtain, pick_image
from upscale.server.spool import RequestFolder
from upscale.weights.store import Network


@dataclass(frozen=True)
class Edit:
    """One validated request. `asked` is the factor that came with it, checked by the model's rule;
    `networks` are those installed, `network` the one that runs it as far as can be told, None where
    a remote provider does. `fields` are the scalars that came, by name.
    """

    named: Named
    networks: list[Network]
    network: Network | None
    asked: Decimal | None
    parameters: Parameters
    image: ImagePart
    fields: dict[str, Any]

    @property
    def model(self) -> str:
        """The model's name in replies."""
        return self.named.id


@dataclass(frozen=True)
class Upload:
    """The picture of a request as a file here, and what its header says."""

    path: Path
    probe: Probe


async def read_edit(form: Form, ours: Services, key: Key | None) -> Edit:
    """Check fields and model against the catalogue, what is installed, and what the key may use.

    Raises ModelNotFound first, then what is wrong with a field, then ModelDisabled.
    """
    networks = await asyncio.to_thread(ours.store.networks)
    named = find_named(read_model(form), ours.catalogue, networks)
    check_model(key, named.names)
    parameters = read_parameters(form)
    rule = named.scale
    asked = None
    if parameters.scale_factor is not None:
        asked = rule.parse(parameters.scale_factor)
    image = pick_image(form)
    network = None
    if runs_here(named, networks) or named.local:
        factor = rule.default if asked is None else asked
        network = choose_network(named, networks, factor=factor, denoise=parameters.denoise)
    else:
        _check_remote(ours, named, key)
    return Edit(named, networks, network, asked, parameters, image, _scalars(form))


async def fetch_upload(
    request: Request, ours: Services, edit: Edit, folder: RequestFolder
) -> Upload:
    """The picture, judged by its header. Raises what obtaining and probing raise, TooLarge."""
    path = await obtain(
        edit.image,
        folder,
        media=ours.media,
        fetcher=ours.fetcher,
        own_url=base_url(request, ours.settings),
    )
    probe = await ours.pool.probe(path)
    check_input(probe, ours.settings.max_input_pixels)
    return Upload(path, probe)


def check_patience(expected: float | None, queued: float, seconds: float) -> None:
    """Raise InvalidRequest for what cannot be there before the caller has stopped waiting; all in
    seconds, `expected` None where nobody knows.
    """
    wait = queued + (expected or 0.0)
    if wait > seconds:
        raise InvalidRequest(
            f"This takes about {wait:.0f} s ({queued:.0f} s of them in the queue), and the caller "
            f"waits {seconds:.0f} s. Send background=true (or the header 'Prefer: respond-async') "
            "and ask for the result later, or raise the client's timeout.",
            field="background",
        )


def _check_remote(ours: Services, named: Named, key: Key | None) -> None:
    """Raise ModelDisabled where no provider may serve it."""
    assert named.model is not None
    provider = None if named.provider is None else named.provider.id
    ours.remote.check(named.model, provider)
    if key is not None and key.local_only:
        raise ModelDisabled(
            f"'{named.id}' would be sent to a remote provider, and the pictures of this key stay "
            "in the house. Use a model that runs here, such as 'bundled-x4'."
        )


def _scalars(form: Form) -> dict[str, Any]:
    """The first value of each field, but for lists and objects."""
    firsts = {name: values[0] for name, values in form.fields.items() if values}
    return {name: value for name, value in firsts.items() if not isinstance(value, Structure)}
