"""From the name of a model to a network of this machine and a factor, as the server chooses."""

from __future__ import annotations

from decimal import Decimal

from upscale.cli.weights_pull import offered
from upscale.errors import InvalidParameter, ModelDisabled
from upscale.models.catalogue import load_catalogue
from upscale.server import choosing
from upscale.settings import Settings
from upscale.weights.store import Network, Store


def choose_network(
    settings: Settings, name: str, *, scale: str | None = None, denoise: float | None = None
) -> tuple[Network, Decimal | None]:
    """The network called `name`, or the one that serves the catalogue model of that name best; and
    the factor, None for the network's own.

    `denoise` is the strength, 0 to 1, for networks that come as a pair of files. At a terminal, a
    known file that is missing is offered to be pulled. Raises ModelNotFound, ModelDisabled for a
    model that nothing here can serve, InvalidParameter.
    """
    try:
        return _choose(settings, name, scale, denoise)
    except ModelDisabled as error:
        if not error.pull or not offered(settings, error.pull):
            raise
    return _choose(settings, name, scale, denoise)


def _choose(
    settings: Settings, name: str, scale: str | None, denoise: float | None
) -> tuple[Network, Decimal | None]:
    networks = Store(settings.weights_folder).networks()
    named = choosing.find_named(name, load_catalogue(), networks)
    factor = named.scale.default if scale is None else named.scale.parse(scale)
    if named.scale.kind == "fixed":
        factor = None
    network = choosing.choose_network(named, networks, factor=factor, denoise=denoise)
    if denoise is not None and network.blend_path is None:
        raise InvalidParameter("--denoise", denoise, f"nothing, {network.name} has no such choice")
    return network, factor
