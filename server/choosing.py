"""From the name of a model to the network that runs it here, or to the error that says what is
missing. Which remote route serves it otherwise is for `providers.routes` to say.

Pure functions of the catalogue and the installed networks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from upscale.errors import InvalidParameter, ModelDisabled, ModelNotFound
from upscale.models.catalogue import (
    NETWORK_RULE,
    Catalogue,
    CatalogueModel,
    Provider,
    ScaleRule,
)
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.store import Network

LOCAL = "local"
_LOCAL = re.compile(r"[\W_]*local(\W|$)")
_FILES = (".safetensors", ".pth", ".pt", ".ckpt", ".onnx")


@dataclass(frozen=True)
class Named:
    """What a name means: a model of the catalogue or a network; `provider` where one is forced,
    `local` where no remote route may serve it.
    """

    model: CatalogueModel | None = None
    network: Network | None = None
    provider: Provider | None = None
    local: bool = False

    @property
    def id(self) -> str:
        """The name in replies."""
        if self.model is not None:
            return self.model.id
        return self.network.name if self.network is not None else ""

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that a key may call it by; `id` is the first."""
        return (self.id, *(self.model.aliases if self.model is not None else ()))

    @property
    def scale(self) -> ScaleRule:
        """Which factors it takes."""
        return self.model.scale if self.model is not None else NETWORK_RULE


def find_named(name: str, catalogue: Catalogue, networks: Sequence[Network]) -> Named:
    """What `name` (`id`, `local/id`, `provider/id`) means.

    Raises ModelNotFound, ModelDisabled for a known file that is not installed.
    """
    prefix, slash, rest = name.partition("/")
    provider = catalogue.provider(prefix) if slash else None
    local = bool(slash) and prefix.lower() == LOCAL
    wanted = rest if provider is not None or local else name
    model = catalogue.model(wanted)
    network = next((n for n in networks if n.name == wanted.lower()), None)
    if model is None and (network is None or provider is not None):
        extra: list[str] = []
        if provider is None:
            known = load_manifest().find(wanted[:200])
            if known is not None:
                raise _not_installed(known)
            extra = [n.name for n in networks]
            extra += [k.id for k in load_manifest().files if not k.is_part]
        here = local or _is_meant_here(wanted.lower(), [*extra, *catalogue.names])
        raise ModelNotFound(name[:100], catalogue.suggest(wanted, extra), here=here)
    return Named(model, network if model is None else None, provider, local or model is None)


def runs_here(named: Named, networks: Sequence[Network]) -> bool:
    """Whether an installed network serves it, and no provider is forced."""
    if named.model is None:
        return True
    return named.provider is None and named.model.choose(networks) is not None


def choose_network(
    named: Named, networks: Sequence[Network], *, factor: Decimal | None, denoise: float | None
) -> Network:
    """The network that runs it; with `denoise`, mixed accordingly where the model has that field.

    Raises ModelDisabled where nothing here can serve it, InvalidParameter for a strength of
    denoising without the files for it.
    """
    if named.provider is not None:
        raise ModelDisabled(_no_provider(named, named.provider))
    if named.network is not None:
        return _mixed(named.network, denoise)
    assert named.model is not None
    plain = named.model.choose(networks, factor=factor)
    if plain is None:
        raise not_served(named.model)
    if denoise is None or not any(p.effect == "blend" for p in named.model.parameters):
        return plain
    pair = named.model.choose(networks, factor=factor, blend=True)
    if pair is None:
        first, second = next(iter(load_manifest().blends.items()))
        raise InvalidParameter(
            "denoise",
            denoise,
            f"nothing here: it needs two networks (upscale weights pull {first} {second})",
        )
    return _mixed(pair, denoise)


def _is_meant_here(name: str, known: Sequence[str]) -> bool:
    """Whether an unknown name was meant for this machine, however it is spelled: as `local`, by the
    name of a file, or by one that is known here.
    """
    prefix, slash, _ = name.partition("/")
    return (
        _LOCAL.match(name) is not None
        or name.endswith(_FILES)
        or (bool(slash) and (_is_near(prefix.strip(), LOCAL) or prefix.strip() in known))
        or (bool(slash) and name.rpartition("/")[2] in known)
        or _is_slip(name, known)
    )


def _is_slip(name: str, known: Sequence[str]) -> bool:
    """Whether a name is one letter away from a known one: left out, too many, another or swapped.

    What was meant for a model that is known here does not go to an unknown one by a slip.
    """
    return any(_is_near(name, each) for each in known)


def _is_near(one: str, other: str) -> bool:
    if abs(len(one) - len(other)) > 1:
        return False
    start = _in_common(one, other)
    a, b = one[start:], other[start:]
    end = _in_common(a[::-1], b[::-1])
    a, b = a[: len(a) - end], b[: len(b) - end]
    return max(len(a), len(b)) <= 1 or (len(a) == 2 and a == b[::-1])


def _in_common(one: str, other: str) -> int:
    """Letters that both begin with."""
    pairs = zip(one, other, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _mixed(network: Network, denoise: float | None) -> Network:
    if denoise is None or network.blend_path is None:
        return network
    return replace(network, blend=denoise)


def known_for(model: CatalogueModel) -> list[KnownFile]:
    """The known files that can be pulled for a model of the catalogue, best first."""
    best = {preference.id: rank for rank, preference in enumerate(model.networks)}
    known = [k for k in load_manifest().files if model.id in k.serves and not k.is_part]
    return sorted(
        (k for k in known if k.url is not None),
        key=lambda k: (k.needs_consent, k.scale != model.scale.default, best.get(k.id, len(best))),
    )


def pull_for(model: CatalogueModel) -> KnownFile | None:
    """The known file to pull for a model of the catalogue: the best that asks for no consent."""
    return next((known for known in known_for(model) if not known.needs_consent), None)


def pull_command(known: KnownFile) -> str:
    """The command that installs a known file."""
    return f"upscale weights pull {known.id}" + (" --accept-license" if known.needs_consent else "")


def how_to_install(model: CatalogueModel) -> str:
    """The command that makes a model of the catalogue servable here."""
    known = pull_for(model)
    own = f"upscale weights import FILE --as {model.id}"
    return own if known is None else pull_command(known)


def not_served(model: CatalogueModel, keys: Sequence[str] = (), barred: str = "") -> ModelDisabled:
    """Why a model of the catalogue cannot run here, and what would change that: a network, or one
    of the `keys` of providers; `barred` is what bars the others.
    """
    known = pull_for(model)
    text = f"No installed network serves the model '{model.id}'. Install "
    if known is not None:
        text += f"one: {pull_command(known)} ({known.described}), or "
    text += f"a file of your own: upscale weights import FILE --as {model.id}."
    if keys:
        text += f" Or give the server a provider's key: {' or '.join(keys)}."
    text += " The bundled network 'bundled-x4' needs no installation."
    if barred:
        text += f" Remote: {barred}."
    return ModelDisabled(text, pull=known.id if known else "")


def _not_installed(known: KnownFile) -> ModelDisabled:
    if known.is_part:
        return ModelDisabled(f"'{known.id}' is a part of '{known.family}', no network by itself.")
    if known.url is None:
        where = f"from {known.page} " if known.page else ""
        return ModelDisabled(
            f"'{known.id}' is known and not installed, and no program can pull it: get the file "
            f"{where}and run: upscale weights import FILE"
        )
    return ModelDisabled(
        f"'{known.id}' is known and not installed. Install it: {pull_command(known)} "
        f"({known.described}).",
        pull=known.id,
    )


def _no_provider(named: Named, provider: Provider) -> str:
    install = how_to_install(named.model) if named.model else ""
    return (
        f"'{provider.id}/{named.id}' asks for {provider.name}, to which only a server with "
        f"{provider.key} sends pictures. Use '{named.id}' with an installed network instead "
        f"({install})."
    )
