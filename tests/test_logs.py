"""Log lines: fields in both forms, secrets in neither."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Literal

import pytest

from upscale import logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger("upscale")
    before = root.handlers[:], root.level, root.propagate
    yield
    root.handlers[:], root.level, root.propagate = before


def _written(
    form: Literal["text", "json"], monkeypatch: pytest.MonkeyPatch, **values: object
) -> str:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.setup("debug", form)
    logs.get("server").info("job done", extra=logs.fields(**values))
    return stream.getvalue()


def test_text_names_room_message_and_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    line = _written("text", monkeypatch, job="a1", seconds=1.5)
    assert line.endswith("info    server: job done job=a1 seconds=1.5\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_audit_is_json_in_both_forms(
    form: Literal["text", "json"], monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.setup("info", form)
    logs.get(logs.AUDIT).info("request ended", extra=logs.fields(who="key_1", sent_to=None))
    text = stream.getvalue()
    if form == "text":
        begin, text = text[:24], text[24:]
        assert begin.endswith(" info    audit: ")
    line = json.loads(text)
    assert (line["room"], line["who"], line["sent_to"]) == ("audit", "key_1", None)


def test_json_is_one_object_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    line = _written("json", monkeypatch, job="a1", seconds=1.5)
    data = json.loads(line)
    assert line.count("\n") == 1
    assert data["room"] == "server"
    assert (data["message"], data["job"], data["seconds"]) == ("job done", "a1", 1.5)


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("api_key", "sesame"),
        ("authorization", "sesame"),
        ("header", "Authorization: Bearer sesame"),
        ("url", "https://example.com/a.png?signature=sesame"),
        ("image", "data:image/png;base64,sesame" + "A" * 64),
    ],
)
def test_secrets_are_masked(
    form: Literal["text", "json"], name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "sesame" not in _written(form, monkeypatch, **{name: value})


def test_secrets_in_messages_and_traces_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.setup("info", "text")
    log = logs.get("server")
    try:
        raise ValueError("sent Bearer sesame to https://example.com/x?key=sesame")
    except ValueError:
        log.exception("failed with Bearer sesame")
    assert "failed with Bearer ***" in stream.getvalue()
    assert "sesame" not in stream.getvalue()


def test_setting_up_twice_writes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    logs.setup()
    logs.setup()
    logs.get("cli").info("once")
    assert stream.getvalue().count("once") == 1
