"""`upscale keys`: who may use the server. Works on its database, whether a server runs or not."""

from __future__ import annotations

import json as jsons
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Annotated, Any

import typer

from upscale.cli.console import complain, printable, say
from upscale.cli.database import Json, dollars, local_time, records, show_table
from upscale.errors import InvalidParameter, ModelNotFound

if TYPE_CHECKING:
    from upscale.server.records.keys import Key

keys = typer.Typer(help="Keys: who may use the server, within which limits.", no_args_is_help=True)

Expires = Annotated[
    str | None, typer.Option(metavar="WHEN", help="30d, 12h, a date (UTC), or none.")
]
PerMinute = Annotated[str | None, typer.Option(metavar="N", help="At most so many, or none.")]
Megapixels = Annotated[
    str | None, typer.Option(metavar="N", help="Of results; at most so many, or none.")
]
Priority = Annotated[
    int | None, typer.Option(min=-100, max=100, help="Higher goes first; 0 if not given.")
]
Models = Annotated[
    list[str] | None,
    typer.Option("-m", "--model", help="An allowed model, once for each; `all` allows all."),
]
Spending = Annotated[
    str | None, typer.Option(metavar="USD", help="What it may spend in all, or none.")
]
Remote = Annotated[
    bool | None,
    typer.Option("--remote/--local-only", help="Whether its pictures may go to remote providers."),
]


@keys.command("create")
def create(
    name: str,
    expires: Expires = None,
    requests_per_minute: PerMinute = None,
    megapixels_per_minute: Megapixels = None,
    priority: Priority = None,
    models: Models = None,
    spending_limit: Spending = None,
    remote: Remote = None,
    json: Json = False,
) -> None:
    """Make a key and print its token, which cannot be shown again."""
    from upscale.server.records.keys import KeyRing

    limits = _limits(
        expires,
        requests_per_minute,
        megapixels_per_minute,
        priority,
        models,
        spending_limit,
        remote,
    )
    with records() as database:
        key, token = KeyRing(database).create(name, **limits)
    if json:
        say(jsons.dumps({**key.to_public(), "token": token}, indent=2))
        return
    complain(f"Made {_named(key)}. Its token, shown this once:")
    say(token)


@keys.command("list")
def list_(json: Json = False) -> None:
    """List all keys, with their limits and what they spent."""
    from upscale.server.records.keys import KeyRing
    from upscale.server.records.times import now_ms

    with records() as database:
        found = KeyRing(database).list()
    if json:
        say(jsons.dumps([key.to_public() for key in found], indent=2))
    elif not found:
        say("There are no keys. Make one: upscale keys create NAME")
    else:
        now = now_ms()
        columns = ("name", "id", "token", "state", "created", ">spent", ">limit", "limits")
        show_table(columns, [_cells(key, now) for key in found])


@keys.command("revoke")
def revoke(key: Annotated[str, typer.Argument(help="Its name or id.")]) -> None:
    """End the use of a key, for good and at once."""
    from upscale.server.records.keys import KeyRing

    with records() as database:
        say(f"Revoked {_named(KeyRing(database).revoke(key))}.")


@keys.command("limit")
def limit(
    key: Annotated[str, typer.Argument(help="Its name or id.")],
    expires: Expires = None,
    requests_per_minute: PerMinute = None,
    megapixels_per_minute: Megapixels = None,
    priority: Priority = None,
    models: Models = None,
    spending_limit: Spending = None,
    remote: Remote = None,
    json: Json = False,
) -> None:
    """Change limits of a key; those not named stay as they are, `none` lifts one."""
    from upscale.server.records.keys import KeyRing
    from upscale.server.records.times import now_ms

    changes = _limits(
        expires,
        requests_per_minute,
        megapixels_per_minute,
        priority,
        models,
        spending_limit,
        remote,
    )
    with records() as database:
        changed = KeyRing(database).limit(key, **changes)
    if json:
        say(jsons.dumps(changed.to_public(), indent=2))
    else:
        say(f"{_named(changed)}: {_cells(changed, now_ms())[-1] or 'no limits'}.")


def _limits(
    expires: str | None,
    requests_per_minute: str | None,
    megapixels_per_minute: str | None,
    priority: int | None,
    models: list[str] | None,
    spending_limit: str | None,
    remote: bool | None,
) -> dict[str, Any]:
    """The options that were given, as `KeyRing` takes them. Raises InvalidParameter."""
    found: dict[str, Any] = {}
    if expires is not None:
        found["expires"] = _moment(expires)
    if requests_per_minute is not None:
        rate = _number("--requests-per-minute", requests_per_minute)
        found["requests_per_minute"] = None if rate is None else float(rate)
    if megapixels_per_minute is not None:
        rate = _number("--megapixels-per-minute", megapixels_per_minute)
        found["megapixels_per_minute"] = None if rate is None else float(rate)
    if priority is not None:
        found["priority"] = priority
    if models:
        found["models"] = [] if models == ["all"] else [_model(name) for name in models]
    if spending_limit is not None:
        usd = _number("--spending-limit", spending_limit)
        found["spending_limit_micros"] = None if usd is None else int(usd * 1_000_000)
    if remote is not None:
        found["remote"] = remote
    return found


def _model(name: str) -> str:
    """The id of an allowed model. Raises InvalidParameter for a name that is none, here or where
    unknown ones are passed on to: a key that is for it alone could do nothing.
    """
    from upscale.cli.setup import load_settings
    from upscale.models.catalogue import load_catalogue
    from upscale.providers.passthrough import passthrough_of
    from upscale.server.choosing import find_named
    from upscale.weights.known import load_manifest
    from upscale.weights.store import Store

    known = load_manifest().find(name)
    if known is not None:
        return known.id  # to be installed yet, perhaps
    settings = load_settings()
    try:
        named = find_named(name, load_catalogue(), Store(settings.weights_folder).networks())
    except ModelNotFound as error:
        if passthrough_of(settings) is not None:
            complain(f"{error.message} Requests for it are passed on.")
            return name
        raise InvalidParameter("--model", name, f"a model or a network ({error.message})") from None
    if "/" in name:
        raise InvalidParameter("--model", name, f"'{named.id}', without where it runs")
    return named.id


def _moment(text: str) -> int | None:
    from upscale.server.records.times import now_ms, read_span, read_time

    if text == "none":
        return None
    span = read_span(text)
    moment = read_time("--expires", text) if span is None else now_ms() + span
    if moment <= now_ms():
        raise InvalidParameter("--expires", text, "30d, 12h, a date to come (UTC), or none")
    return moment


def _number(option: str, text: str) -> Decimal | None:
    if text == "none":
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and 0 <= number <= 10**9):
        raise InvalidParameter(option, text, "a number from 0 to 1e9, or none")
    return number


def _named(key: Key) -> str:
    return f"{printable(key.name)} ({key.id})"


def _cells(key: Key, now: int) -> tuple[str, ...]:
    limits = []
    if key.requests_per_minute is not None:
        limits.append(f"{key.requests_per_minute:g} requests/min")
    if key.megapixels_per_minute is not None:
        limits.append(f"{key.megapixels_per_minute:g} MP/min")
    if key.priority:
        limits.append(f"priority {key.priority}")
    if key.models:
        limits.append("only " + ", ".join(key.models))
    if not key.remote:
        limits.append("local only")
    if key.expires is not None:
        limits.append(f"until {local_time(key.expires)}")
    most = key.spending_limit_micros
    return (
        key.name,
        key.id,
        f"{key.prefix}...",
        key.state(now),
        local_time(key.created),
        dollars(key.spent_micros),
        "-" if most is None else dollars(most),
        "; ".join(limits),
    )
