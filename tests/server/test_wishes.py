"""When two bodies say the same."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from upscale.server.forms import Form, ImagePart
from upscale.server.wishes import fingerprint

PART = ImagePart("image", "a.png", 1, b"x")


def test_order_and_encoding_make_no_difference() -> None:
    one = Form({"a": ["1"], "b": [2]}, [PART])
    two = Form({"b": ["2"], "a": [1]}, [PART])
    assert fingerprint(one) == fingerprint(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ({"a": ["1\0b=2"]}, {"a": ["1"], "b": ["2"]}),
        ({"a=b": ["c"]}, {"a": ["b=c"]}),
        ({"a": ["\ud800"]}, {"a": ["\\ud800"]}),
        ({"a": ["1", "2"]}, {"a": ["2"]}),
        ({}, {"a": [""]}),
    ],
)
def test_what_says_something_else_is_another(one: Any, two: Any) -> None:
    assert fingerprint(Form(one)) != fingerprint(Form(two))


def test_a_picture_is_no_field() -> None:
    digest = hashlib.sha256(PART.data).hexdigest()
    assert fingerprint(Form({}, [PART])) != fingerprint(Form({"image": [digest]}))
