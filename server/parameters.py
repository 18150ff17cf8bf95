"""The scalar fields of an edit, checked. Which factors a model takes is the catalogue's to say."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from starlette.datastructures import QueryParams

from upscale.errors import InvalidParameter, InvalidRequest
from upscale.imaging.limits import normalise_colour, normalise_format
from upscale.models.catalogue import plain_number
from upscale.server.forms import Form
from upscale.server.target import Target

# Sides and megapixels that can be asked for; what can be made is the limits' to say.
_MAX_SIDE = 1 << 20
_MAX_MEGAPIXELS = 1 << 20
_MAX_SEED = 2**63 - 1
_MAX_N = 10
_YES, _NO = ("true", "1", "yes", "on", "y", "t"), ("false", "0", "no", "off", "n", "f")


@dataclass(frozen=True)
class Parameters:
    """What was asked, apart from the picture. `scale_factor` is as it came, None where absent.

    `target` holds the sizes that were asked for instead of it. `quality` is 1 to 100, None for the
    format's default; `background` is #rrggbb; `denoise` is 0 to 1, None where absent;
    `allow_resample`: a remote result of another size may be resampled to the one asked for.
    """

    model: str
    scale_factor: object | None
    target: Target
    response_format: Literal["url", "b64_json"]
    output_format: str
    quality: int | None
    background: str
    strip_metadata: bool
    n: int
    seed: int
    denoise: float | None
    allow_resample: bool


def read_model(form: Form) -> str:
    """The name of the model. Raises InvalidParameter where there is none."""
    name = _single(form, "model")
    if not isinstance(name, str):
        raise InvalidParameter("model", name, "the name of a model, see GET /openai/v1/models")
    return name.strip()


def read_parameters(form: Form) -> Parameters:
    """All parameters; unknown fields are ignored. Raises InvalidParameter, InvalidRequest."""
    if says_yes(form, "stream"):
        raise InvalidRequest(
            "stream=true is not supported: there is no event stream. Leave 'stream' out.",
            field="stream",
        )
    response_format = _text(form, "response_format", "url")
    if response_format not in ("url", "b64_json"):
        raise InvalidParameter("response_format", response_format, "url or b64_json")
    compression = _integer(form, "output_compression", 0, 100)
    return Parameters(
        model=read_model(form),
        scale_factor=_single(form, "scale_factor"),
        target=_read_target(form),
        response_format="b64_json" if response_format == "b64_json" else "url",
        output_format=normalise_format(_text(form, "output_format", "png")),
        quality=None if compression is None else max(1, compression),
        background=normalise_colour(_text(form, "background_color", "#ffffff"), "background_color"),
        strip_metadata=_truth(form, "strip_metadata"),
        n=_integer(form, "n", 1, _MAX_N) or 1,
        seed=_integer(form, "seed", 0, _MAX_SEED) or 0,
        denoise=None if _single(form, "denoise") is None else float(_number(form, "denoise", 0, 1)),
        allow_resample=_truth(form, "allow_resample"),
    )


def says_yes(form: Form, name: str) -> bool:
    """Whether a field says yes; whatever else it says is for others to understand."""
    return any(str(value).strip().lower() in _YES for value in form.fields.get(name, ()))


def read_user(form: Form) -> str | None:
    """The caller's own name for his user, cut at a length that a record can hold."""
    names = [str(value).strip() for value in form.fields.get("user", ())]
    return names[0][:200] or None if names else None


def is_dry_run(query: QueryParams) -> bool:
    """Whether the query asks for a dry run. Raises InvalidParameter where that cannot be told."""
    # One yes is enough: a run that nobody asked for could cost something.
    return is_true(query, "dryRun", "dry_run", "dry-run", bare=True)


def is_true(query: QueryParams, *names: str, bare: bool = False) -> bool:
    """Whether any of the parameters `names` of a query says yes, in any spelling of it.

    Names count in any case; `bare`: one without a value says yes. Raises InvalidParameter, naming
    the first, for what is neither yes nor no.
    """
    known = {name.lower() for name in names}
    wishes = [
        value.strip().lower() or ("true" if bare else "")
        for key, value in query.multi_items()
        if key.lower() in known
    ]
    for wish in wishes:
        if wish and wish not in (*_YES, *_NO):
            raise InvalidParameter(names[0], wish, "true or false")
    return any(wish in _YES for wish in wishes)


def _read_target(form: Form) -> Target:
    megapixels: Decimal | None = None
    if _single(form, "target_megapixels") is not None:
        megapixels = _number(form, "target_megapixels", 0, _MAX_MEGAPIXELS)
        if not megapixels:
            raise InvalidParameter("target_megapixels", megapixels, "a number above 0")
    return Target(
        width=_integer(form, "target_width", 1, _MAX_SIDE),
        height=_integer(form, "target_height", 1, _MAX_SIDE),
        megapixels=megapixels,
    )


def _single(form: Form, name: str) -> object | None:
    """The one value of a field; empty text counts as absent."""
    values = [v for v in form.fields.get(name, ()) if not (isinstance(v, str) and not v.strip())]
    if len({str(value) for value in values}) > 1:
        raise InvalidParameter(name, " and ".join(map(str, values)), "one value")
    return values[0] if values else None


def _text(form: Form, name: str, default: str) -> str:
    value = _single(form, name)
    return default if value is None else str(value).strip()


def _truth(form: Form, name: str) -> bool:
    text = _text(form, name, "false").lower()
    if text not in (*_YES, *_NO):
        raise InvalidParameter(name, text, "true or false")
    return text in _YES


def _integer(form: Form, name: str, low: int, high: int) -> int | None:
    if _single(form, name) is None:
        return None
    number = _number(form, name, low, high, "a whole number")
    if number != number.to_integral_value():
        raise InvalidParameter(name, _single(form, name), f"a whole number from {low} to {high}")
    return int(number)


def _number(form: Form, name: str, low: int, high: int, kind: str = "a number") -> Decimal:
    value = _single(form, name)
    shown = str(value).strip()
    try:
        number = plain_number(shown)
    except InvalidOperation:
        number = Decimal("NaN")
    if isinstance(value, bool) or not number.is_finite() or not low <= number <= high:
        raise InvalidParameter(name, value, f"{kind} from {low} to {high}")
    return number
