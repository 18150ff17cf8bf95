"""The catalogue (`catalogue.toml`): what callers can name, and by which rules.

Data and the pure functions on it. Needs no torch; knows which known files serve a model, not
whether they are installed: the installed networks are given.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

from upscale.errors import InvalidParameter

if TYPE_CHECKING:
    from upscale.weights.store import Network

# Longer numbers than any client means; they would only cost time.
_MAX_DIGITS = 32

# Factors of networks that no catalogue entry limits.
_MINIMUM, _MAXIMUM = Decimal(1), Decimal(16)


@dataclass(frozen=True)
class ScaleRule:
    """Which factors a model takes, and the one it takes where none is given.

    `default` None: the native scale of the network that runs. A fixed rule accepts any positive
    factor and means none of them.
    """

    kind: Literal["free", "choices", "fixed"]
    minimum: Decimal = _MINIMUM
    maximum: Decimal = _MAXIMUM
    choices: tuple[Decimal, ...] = ()
    default: Decimal | None = None

    @property
    def allowed(self) -> str:
        """The rule in words, for an error."""
        if self.kind == "choices":
            return " or ".join(str(choice) for choice in self.choices)
        if self.kind == "fixed":
            return "a positive number, which is ignored: the model decides"
        return f"a number from {self.minimum} to {self.maximum}"

    def parse(self, text: object) -> Decimal:
        """A factor from a request (text or number). Raises InvalidParameter."""
        shown = str(text).strip()
        try:
            factor = plain_number(shown)
        except InvalidOperation:
            factor = Decimal("NaN")
        if isinstance(text, bool) or not factor.is_finite():
            raise InvalidParameter("scale_factor", text, self.allowed)
        self.check(factor)
        return factor

    def check(self, factor: Decimal) -> None:
        """Raise InvalidParameter, saying what is allowed, for a factor that is not taken."""
        if self.kind == "choices":
            good = factor in self.choices
        elif self.kind == "fixed":
            good = factor > 0
        else:
            good = self.minimum <= factor <= self.maximum
        if not good:
            raise InvalidParameter("scale_factor", factor, self.allowed)


def plain_number(text: str) -> Decimal:
    """A number as programs write it; NaN for what Python alone takes for one, as 1_0 or other
    scripts' digits, and for endless ones. Raises InvalidOperation for no number at all.
    """
    plain = len(text) <= _MAX_DIGITS and text.isascii() and "_" not in text
    return Decimal(text) if plain else Decimal("NaN")


NETWORK_RULE = ScaleRule("free")
"""The rule of a network that is named directly: 1 to 16, its native scale by default."""


@dataclass(frozen=True)
class Parameter:
    """A field of one model. `effect` is what a local network makes of it; None: nothing."""

    name: str
    type: Literal["number", "integer", "boolean", "string"]
    minimum: Decimal | None = None
    maximum: Decimal | None = None
    choices: tuple[str, ...] = ()
    effect: Literal["blend"] | None = None


@dataclass(frozen=True)
class Provider:
    """A remote provider; `key` is the environment variable that enables it."""

    id: str
    name: str
    key: str


@dataclass(frozen=True)
class RouteScale:
    """How a route takes the factor: as a number in `field`; as one of `choices` (factor, what is
    sent for it); as the result's `size` in pixels; or not at all (`fixed`).
    """

    kind: Literal["number", "choices", "size", "fixed"] = "fixed"
    field: str = ""
    minimum: Decimal = _MINIMUM
    maximum: Decimal = _MAXIMUM
    choices: tuple[tuple[Decimal, str | int], ...] = ()

    def bars(self, factor: Decimal | None) -> str | None:
        """Why a factor cannot be expressed; None where it can."""
        if self.kind == "fixed":
            return None
        if factor is None:
            return "it needs a factor"
        if self.kind == "choices":
            known = [choice for choice, _ in self.choices]
            shown = " or ".join(str(choice) for choice in known)
            return None if factor in known else f"the factor {factor} is not {shown}"
        if not self.minimum <= factor <= self.maximum:
            return f"the factor {factor} is not from {self.minimum} to {self.maximum}"
        return None


@dataclass(frozen=True)
class RouteField:
    """A caller's field as a route takes it: under the name `to`; `values` says what is sent for a
    value ('': nothing); `implies` what goes along where it is true.
    """

    name: str
    to: str
    type: Literal["number", "integer", "boolean", "string"] = "string"
    values: tuple[tuple[str, str], ...] = ()
    implies: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class RouteLimits:
    """What a route takes: bytes and pixels of the input, its sides; pixels and sides of the
    result. None: nothing is documented.
    """

    types: tuple[str, ...] = ("image/png", "image/jpeg")
    input_bytes: int | None = None
    input_pixels: int | None = None
    min_side: int | None = None
    max_side: int | None = None
    output_pixels: int | None = None
    output_side: int | None = None


@dataclass(frozen=True)
class PriceTier:
    """The price in USD of results up to so many megapixels; `approximate`: it may be less."""

    up_to: Decimal
    usd: Decimal
    approximate: bool = False


@dataclass(frozen=True)
class RoutePrice:
    """What is published, in USD: for an image, a million pixels or a second; by size; or what a run
    typically comes to. `read` is when, `source` where. Nothing published: no RoutePrice at all.
    """

    read: str
    source: str
    per_image: Decimal | None = None
    per_megapixel: Decimal | None = None
    per_second: Decimal | None = None
    typical: Decimal | None = None
    tiers: tuple[PriceTier, ...] = ()


@dataclass(frozen=True)
class RouteVariant:
    """What is different where the caller's `field` has none of the `usual` values: an unlisted one
    may well be dearer. `others` are values that are known besides, for their spelling.
    """

    field: str
    usual: tuple[str, ...]
    others: tuple[str, ...] = ()
    endpoint: str = ""
    output_pixels: int | None = None

    def spelled(self, value: object) -> str:
        """A value as it is known, whatever its case and the blanks around it."""
        text = str(value).strip()
        known = (each for each in (*self.usual, *self.others) if each.lower() == text.lower())
        return next(known, text)


@dataclass(frozen=True)
class RemoteRoute:
    """A provider's endpoint that serves a model; `defaults` are always sent, fields that nobody
    knows only where it is `passthrough`. `official`: it is named without a version.
    """

    provider: Provider
    endpoint: str
    scale: RouteScale = RouteScale()
    fields: tuple[RouteField, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)
    limits: RouteLimits = RouteLimits()
    price: RoutePrice | None = None
    variants: tuple[RouteVariant, ...] = ()
    passthrough: bool = False
    official: bool = False


@dataclass(frozen=True)
class Preference:
    """A known file that serves a model, for factors up to `up_to` (None: for all)."""

    id: str
    up_to: Decimal | None = None


@dataclass(frozen=True)
class CatalogueModel:
    """A model: `owner` made it, `created` is in unix seconds, `networks` serve it, best first."""

    id: str
    name: str
    owner: str
    created: int
    scale: ScaleRule
    aliases: tuple[str, ...] = ()
    networks: tuple[Preference, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    routes: tuple[RemoteRoute, ...] = ()

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name."""
        return next((p for p in self.parameters if p.name == name), None)

    def choose(
        self, networks: Iterable[Network], *, factor: Decimal | None = None, blend: bool = False
    ) -> Network | None:
        """The best of the installed `networks` for this model, None where none serves it.

        `factor` None means the default one; `blend` wants a network that can be mixed.
        """
        factor = factor if factor is not None else self.scale.default
        serving = [n for n in networks if self.id in n.serves and (n.blend_path or not blend)]
        return min(serving, key=lambda n: (self._rank(n, factor), n.name), default=None)

    def _rank(self, network: Network, factor: Decimal | None) -> int:
        """Position in the order of preference; past its factor a network comes after the rest."""
        from upscale.weights.store import known_id

        last = len(self.networks)
        for rank, preference in enumerate(self.networks):
            if preference.id == known_id(network):
                fits = preference.up_to is None or factor is None or factor <= preference.up_to
                return rank if fits else last + 1 + rank
        return last


@dataclass(frozen=True)
class Catalogue:
    """All models and providers."""

    models: tuple[CatalogueModel, ...]
    providers: tuple[Provider, ...]

    def model(self, name: str) -> CatalogueModel | None:
        """The model of that id or alias, in any case."""
        wanted = name.lower()
        return next((m for m in self.models if wanted == m.id or wanted in m.aliases), None)

    def provider(self, id: str) -> Provider | None:
        """The provider of that id, in any case."""
        return next((p for p in self.providers if p.id == id.lower()), None)

    @property
    def names(self) -> list[str]:
        """Of all models, aliases included."""
        return [name for model in self.models for name in (model.id, *model.aliases)]

    def suggest(self, name: str, extra_names: Sequence[str] = ()) -> str | None:
        """The known name closest to an unknown one, None where nothing is close."""
        names = [*extra_names, *self.names]
        close = get_close_matches(name.lower()[:100], names, n=1, cutoff=0.6)
        if not close:
            return None
        model = self.model(close[0])
        return model.id if model else close[0]


@lru_cache(maxsize=1)
def load_catalogue() -> Catalogue:
    """The catalogue that comes with the package."""
    file = resources.files("upscale.models").joinpath("catalogue.toml")
    data = tomllib.loads(file.read_text(encoding="utf-8"))
    providers = {entry["id"]: Provider(**entry) for entry in data["provider"]}
    return Catalogue(
        models=tuple(_model(entry, providers) for entry in data["model"]),
        providers=tuple(providers.values()),
    )


def _model(entry: dict[str, Any], providers: dict[str, Provider]) -> CatalogueModel:
    return CatalogueModel(
        id=entry["id"],
        name=entry["name"],
        owner=entry["owner"],
        created=entry["created"],
        scale=_scale(entry["scale"]),
        aliases=tuple(entry.get("aliases", ())),
        networks=tuple(Preference(**_decimals(n, "up_to")) for n in entry["networks"]),
        parameters=tuple(_parameter(p) for p in entry.get("parameter", ())),
        routes=tuple(_route(r, providers) for r in entry.get("route", ())),
    )


def _route(entry: dict[str, Any], providers: dict[str, Provider]) -> RemoteRoute:
    limits = dict(entry.get("limits", {}))
    limits |= {"types": tuple(limits["types"])} if "types" in limits else {}
    return RemoteRoute(
        provider=providers[entry["provider"]],
        endpoint=entry["endpoint"],
        scale=_route_scale(entry.get("scale", {})),
        fields=tuple(_route_field(f) for f in entry.get("fields", ())),
        defaults=entry.get("defaults", {}),
        limits=RouteLimits(**limits),
        price=_route_price(entry["price"]) if "price" in entry else None,
        variants=tuple(_variant(v) for v in entry.get("variant", ())),
        passthrough=entry.get("passthrough", False),
        official=entry.get("official", False),
    )


def _route_scale(entry: dict[str, Any]) -> RouteScale:
    choices = tuple((Decimal(k), v) for k, v in entry.get("choices", {}).items())
    return RouteScale(**{**_decimals(entry, "minimum", "maximum"), "choices": choices})


def _route_field(entry: dict[str, Any]) -> RouteField:
    tables = {k: tuple(entry.get(k, {}).items()) for k in ("values", "implies")}
    return RouteField(**{"to": entry["name"], **entry, **tables})


def _variant(entry: dict[str, Any]) -> RouteVariant:
    lists = {k: tuple(entry.get(k, ())) for k in ("usual", "others")}
    return RouteVariant(**{**entry, **lists})


def _route_price(entry: dict[str, Any]) -> RoutePrice:
    tiers = tuple(PriceTier(**_decimals(t, "up_to", "usd")) for t in entry.get("tiers", ()))
    amounts = ("per_image", "per_megapixel", "per_second", "typical")
    return RoutePrice(**{**_decimals(entry, *amounts), "tiers": tiers})


def _scale(entry: dict[str, Any]) -> ScaleRule:
    choices = tuple(Decimal(choice) for choice in entry.get("choices", ()))
    return ScaleRule(**{**_decimals(entry, "minimum", "maximum", "default"), "choices": choices})


def _parameter(entry: dict[str, Any]) -> Parameter:
    choices = tuple(entry.get("choices", ()))
    return Parameter(**{**_decimals(entry, "minimum", "maximum"), "choices": choices})


def _decimals(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: Decimal(v) if k in names else v for k, v in entry.items()}
