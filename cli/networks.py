"""From the name of a model to a network of this machine."""

from __future__ import annotations

from dataclasses import replace

from upscale.errors import InvalidParameter, ModelNotFound
from upscale.settings import Settings
from upscale.weights.store import Network, Store


def find_network(settings: Settings, name: str, *, denoise: float | None = None) -> Network:
    """The network called `name`, or the one that serves the catalogue model of that name.

    Raises ModelNotFound, ModelDisabled for a model that nothing here can serve, InvalidParameter
    for a strength of denoising where the network has no second file to mix in.
    """
    store = Store(settings.weights_folder)
    network = store.find(name)
    if network is None:
        network = next((n for n in store.networks() if name in n.serves), None)
    if network is None:
        raise ModelNotFound(name)
    if denoise is None:
        return network
    if network.blend_path is None:
        raise InvalidParameter("--denoise", denoise, f"nothing, {network.name} has no such choice")
    return replace(network, blend=denoise)
