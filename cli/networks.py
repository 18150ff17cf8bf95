"""From the name of a model to a network of this machine and a factor."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from upscale.errors import InvalidParameter, ModelDisabled, ModelNotFound
from upscale.models.catalogue import NETWORK_RULE, CatalogueModel, load_catalogue
from upscale.settings import Settings
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.store import Network, Store


def choose_network(
    settings: Settings, name: str, *, scale: str | None = None, denoise: float | None = None
) -> tuple[Network, Decimal | None]:
    """The network called `name`, or the one that serves the catalogue model of that name best; and
    the factor, None for the network's own.

    `denoise` is the strength, 0 to 1, for networks that come as a pair of files. Raises
    ModelNotFound, ModelDisabled for a model that nothing here can serve, InvalidParameter.
    """
    networks = Store(settings.weights_folder).networks()
    network = next((n for n in networks if n.name == name.lower()), None)
    factor = NETWORK_RULE.parse(scale) if scale is not None else None
    if network is None:
        model = load_catalogue().model(name)
        if model is None:
            names = [n.name for n in networks]
            raise ModelNotFound(name, load_catalogue().suggest(name, names))
        if factor is not None:
            model.scale.check(factor)
        factor = _factor(model, factor)
        network = model.choose(networks, factor=factor, blend=denoise is not None)
        if network is None:
            raise ModelDisabled(_way_out(model, factor, denoise))
    if denoise is None:
        return network, factor
    if network.blend_path is None:
        raise InvalidParameter("--denoise", denoise, f"nothing, {network.name} has no such choice")
    return replace(network, blend=denoise), factor


def _factor(model: CatalogueModel, factor: Decimal | None) -> Decimal | None:
    if model.scale.kind == "fixed":
        return None
    return model.scale.default if factor is None else factor


def known_files(model: CatalogueModel, factor: Decimal | None = None) -> list[KnownFile]:
    """Public files that would serve the model, best first for the factor."""
    fits = [p for p in model.networks if not (p.up_to and factor and factor > p.up_to)]
    ordered = [*fits, *(p for p in model.networks if p not in fits)]
    known = [load_manifest().by_id(preference.id) for preference in ordered]
    return [k for k in known if k is not None]


def _way_out(model: CatalogueModel, factor: Decimal | None, denoise: float | None) -> str:
    """What would let this machine serve the model."""
    files = known_files(model, factor)
    text = f"No installed network serves '{model.id}'"
    if denoise is not None:
        pair = {name for both in load_manifest().blends.items() for name in both}
        files = [k for k in files if k.id in pair]
        text += " with a strength of denoising"
    if not files:
        return f"{text}. Install one: upscale weights import FILE --as {model.id}"
    names = " and ".join(k.described for k in (files if denoise is not None else files[:1]))
    return f"{text}. Fetch {names}, then: upscale weights import FILE"
