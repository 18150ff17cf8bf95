"""The catalogue (`catalogue.toml`): what callers can name, and by which rules.

Data and the pure functions on it. Needs no torch; knows which known files serve a model, not
whether they are installed: the installed networks are given.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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
    """A remote provider; `key` is the environment variable that will enable it."""

    id: str
    name: str
    key: str


@dataclass(frozen=True)
class RemoteRoute:
    """A provider's endpoint that serves a model."""

    provider: Provider
    endpoint: str


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

    def suggest(self, name: str, extra_names: Sequence[str] = ()) -> str | None:
        """The known name closest to an unknown one, None where nothing is close."""
        names = [*extra_names, *(n for m in self.models for n in (m.id, *m.aliases))]
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
        routes=tuple(
            RemoteRoute(providers[r["provider"]], r["endpoint"]) for r in entry.get("route", ())
        ),
    )


def _scale(entry: dict[str, Any]) -> ScaleRule:
    choices = tuple(Decimal(choice) for choice in entry.get("choices", ()))
    return ScaleRule(**{**_decimals(entry, "minimum", "maximum", "default"), "choices": choices})


def _parameter(entry: dict[str, Any]) -> Parameter:
    choices = tuple(entry.get("choices", ()))
    return Parameter(**{**_decimals(entry, "minimum", "maximum"), "choices": choices})


def _decimals(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {k: Decimal(v) if k in names else v for k, v in entry.items()}
