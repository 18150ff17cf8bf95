"""Data URIs: any content, any place of the cut between memory and disk."""

from __future__ import annotations

import base64
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from upscale.errors import InvalidRequest
from upscale.server import data_uri
from upscale.server.forms import ImagePart


def decoded(text: bytes, *, on_disk: bool = False) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "text"
        path.write_bytes(text)
        part = ImagePart("image", None, len(text), text, path if on_disk else None)
        data_uri.write_data_uri(part, Path(folder) / "out")
        return (Path(folder) / "out").read_bytes()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 9))
def test_what_was_encoded_comes_back(
    content: bytes, safe: bool, padded: bool, on_disk: bool, piece: int
) -> None:
    text = base64.urlsafe_b64encode(content) if safe else base64.b64encode(content)
    if not padded:
        text = text.rstrip(b"=")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_uri, "_PIECE", piece)
        assert decoded(b"data:image/png;base64," + text, on_disk=on_disk) == content


def test_line_breaks_and_parameters_are_no_obstacle() -> None:
    assert decoded(b" DATA:image/png;name=a.png;base64,YW\r\nJj") == b"abc"


@settings(max_examples=200, deadline=None)
@given(
    st.binary(min_size=1, max_size=60),
    st.lists(st.sampled_from(["\r\n", "\n", " \n\t", "%0A"]), max_size=4),
    st.sampled_from(["+", " ", "%2B", "%2b"]),
    st.booleans(),
    st.integers(1, 9),
)
def test_what_forms_and_mailers_do_to_base64_is_undone(
    content: bytes, breaks: list[str], plus: str, on_disk: bool, piece: int
) -> None:
    text = base64.b64encode(content).decode()
    # What no picture begins with, and what cannot be told from blanks at the end.
    assume(plus != " " or not (text.startswith("+") or text.endswith("++++")))
    assume(plus != " " or not (breaks and text.endswith("+")))
    text = text.replace("+", plus).replace("=", "%3D")
    for index, line_break in enumerate(breaks):
        # Between whole groups, where no escape is cut.
        place = min(len(text), 4 * index) if "%" not in text and " " not in text else len(text)
        text = text[:place] + line_break + text[place:]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_uri, "_PIECE", piece)
        uri = b"data:image/png;charset=utf-8;base64," + text.encode()
        assert decoded(uri, on_disk=on_disk) == content


def test_a_flood_of_blanks_costs_little() -> None:
    with pytest.raises(InvalidRequest, match="blanks"):
        decoded(b"data:;base64,YW" + b" " * (4 << 20) + b"Jj")


@pytest.mark.parametrize(
    "text", [b"data:,abc", b"data:image/png;base64", b"data:;base64,a", b"data:;base64,YQ==YQ=="]
)
def test_broken_ones_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        decoded(text)
    assert refusal.value.field == "image"
