"""From a task to what its route is sent: the catalogue's data applied. Pure; sends nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from upscale.models.catalogue import RemoteRoute, RouteField, RouteVariant
from upscale.models.quote import number
from upscale.providers.reserved import is_reserved, plain_name
from upscale.providers.task import RemoteTask

_MAX_TEXT = 10_000


def bars(task: RemoteTask) -> str | None:
    """Why the route of a task cannot serve it, judged before sending; None where it can."""
    route, limits = task.route, task.route.limits
    barred = route.scale.bars(task.factor)
    if barred is not None:
        return barred
    if task.mime not in limits.types:
        return f"it does not take {task.mime}"
    pixels, sides = task.width * task.height, (task.width, task.height)
    if limits.min_side is not None and min(sides) < limits.min_side:
        return f"a side of the picture is shorter than {limits.min_side} pixels"
    if limits.max_side is not None and max(sides) > limits.max_side:
        return f"a side of the picture is longer than {limits.max_side} pixels"
    if limits.input_pixels is not None and pixels > limits.input_pixels:
        return f"the picture has more than {limits.input_pixels:,} pixels"
    if limits.input_bytes is not None and task.file.stat().st_size > limits.input_bytes:
        return f"the file is larger than {limits.input_bytes:,} bytes"
    return _bars_result(task)


def _bars_result(task: RemoteTask) -> str | None:
    limits, size = task.route.limits, task.expected
    if size is None:
        return None
    found = variant(task.route, task.fields)
    most = found.output_pixels if found is not None and found.output_pixels else None
    most = most or limits.output_pixels
    if most is not None and size[0] * size[1] > most:
        return f"the result would have more than {most:,} pixels"
    if limits.output_side is not None and max(size) > limits.output_side:
        return f"a side of the result would be longer than {limits.output_side:,} pixels"
    return None


def variant(route: RemoteRoute, fields: Mapping[str, Any]) -> RouteVariant | None:
    """What is different about the route for these fields of the caller's."""
    for each in route.variants:
        value = fields.get(each.field)
        if not _is_blank(value) and each.spelled(value) not in each.usual:
            return each
    return None


def endpoint(task: RemoteTask) -> str:
    """The endpoint that serves the task."""
    found = variant(task.route, task.fields)
    return found.endpoint if found is not None and found.endpoint else task.route.endpoint


def inputs(task: RemoteTask) -> dict[str, Any]:
    """What is sent beside the picture: defaults, the caller's fields, the factor."""
    route = task.route
    sent: dict[str, Any] = dict(route.defaults)
    declared = {each.name: each for each in route.fields}
    # Nor is what a route has already sent again in another spelling.
    names = (*sent, *declared, *(each.to for each in route.fields), route.scale.field)
    taken = {plain_name(name) for name in names}
    spelled = {each.field: each.spelled for each in route.variants}
    for name, value in task.fields.items():
        field = declared.get(name)
        if field is not None and name in spelled:
            if not _is_blank(value):
                sent[field.to] = spelled[name](value)[:_MAX_TEXT]
        elif field is not None:
            _take(sent, field, value, task.fields)
        elif route.passthrough and plain_name(name) not in taken and not is_reserved(name, value):
            plain = _scalar(value)
            if plain is not None:
                sent[name] = plain
    return sent | _scale(task)


def _is_blank(value: object) -> bool:
    return value is None or not str(value).strip()


def _take(sent: dict[str, Any], field: RouteField, value: object, given: Mapping[str, Any]) -> None:
    text = str(value)
    renamed = {ours.lower(): theirs for ours, theirs in field.values}
    if text.lower() in renamed:
        text = renamed[text.lower()]
        if text:
            sent[field.to] = text
        return
    typed = _typed(field, value)
    if typed is None:
        return
    sent[field.to] = typed
    if typed is True:
        for name, implied in field.implies:
            if name not in given:
                sent[name] = implied


def _typed(field: RouteField, value: object) -> Any:
    """A caller's value as the route's type has it; None for what is none."""
    if field.type == "boolean":
        known = {"true": True, "1": True, "false": False, "0": False, "yes": True, "no": False}
        return known.get(str(value).strip().lower())
    if field.type == "string":
        return str(value)[:_MAX_TEXT]
    try:
        plain = number(Decimal(str(value).strip()))
    except (ArithmeticError, ValueError, OverflowError):
        return None
    return int(plain) if field.type == "integer" and plain == int(plain) else plain


def _scalar(value: object) -> Any:
    """A field that nobody declares: a number or a truth value where the text is one."""
    if isinstance(value, bool | int | float) or value is None:
        return value
    text = str(value)
    try:
        plain = json.loads(text) if len(text) <= 32 else text
    except ValueError:
        plain = text
    return plain if isinstance(plain, bool | int | float) else text[:_MAX_TEXT]


def _scale(task: RemoteTask) -> dict[str, Any]:
    rule, factor = task.route.scale, task.factor
    if rule.kind == "size" and task.size is not None:
        return {"output_width": task.size[0], "output_height": task.size[1]}
    if rule.kind == "fixed" or factor is None:
        return {}
    if rule.kind == "choices":
        return {rule.field: next(sent for choice, sent in rule.choices if choice == factor)}
    return {rule.field: number(factor)}
