"""JSON and urlencoded bodies: however they are cut, the form is the same; long texts go to disk."""

from __future__ import annotations

import json
import tempfile
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.errors import InvalidRequest
from upscale.server import json_reader, parts
from upscale.server.body import Reader
from upscale.server.data_uri import write_data_uri
from upscale.server.forms import TEXT_BYTES, Form
from upscale.server.json_reader import JsonReader
from upscale.server.multipart import MultipartReader
from upscale.server.urlencoded import UrlencodedReader


def read(make: Callable[[Path], Reader], pieces: list[bytes], folder: Path) -> Form:
    with closing(make(folder)) as reader:
        for piece in pieces:
            reader.feed(piece)
        return reader.finish()


def cut(body: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, *(place % (len(body) + 1) for place in cuts), len(body)})
    return [body[a:b] for a, b in pairwise(places)]


def images(form: Form) -> list[bytes]:
    return [part.path.read_bytes() if part.path else part.data for part in form.images]


# What counts as long in tests with made-up texts, in bytes.
SHORT = 24

texts = st.lists(
    st.one_of(st.text(max_size=6), st.sampled_from(['a"', "\\", "é\n/", "😀", "AB+/"])), max_size=30
).map("".join)
cuts = st.lists(st.integers(0, 2000), max_size=10)


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, max_size=3), st.text(max_size=3), st.booleans(), cuts)
def test_any_chunking_of_json_gives_what_was_sent(
    strings: list[str], model: str, ascii_only: bool, places: list[int]
) -> None:
    sent = {"model": model, "images": [{"image_url": s} for s in strings], "scale_factor": 2.3}
    body = json.dumps(sent, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    # What JSON escapes as two surrogates is one character; alone they are none that UTF-8 has.
    expected = [s.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for s in strings]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_reader, "TEXT_BYTES", SHORT)
        form = read(JsonReader, cut(body, places), Path(folder))
        assert form.fields["scale_factor"] == [Decimal("2.3")]
        # Texts that long are cut, within a character maybe; no parameter is one.
        [got_model] = form.fields["model"]
        assert got_model == model or str(got_model).startswith(model[:1])
        got = [_joined(image) for image in images(form)]
        assert got == expected


def _joined(image: bytes) -> str:
    """A long text's surrogates come as three bytes each."""
    text = image.decode("utf-8", "surrogatepass")
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["model", "n", "image", "image[]", "ü"]), texts), max_size=4
    ),
    cuts,
)
def test_any_chunking_of_a_form_gives_what_was_sent(
    pairs: list[tuple[str, str]], places: list[int]
) -> None:
    body = urlencode([(n, v.encode("utf-8", "surrogatepass")) for n, v in pairs]).encode()
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "TEXT_BYTES", SHORT)
        form = read(UrlencodedReader, cut(body, places), Path(folder))
        sent = [(n, v.encode("utf-8", "surrogatepass")) for n, v in pairs]
        assert images(form) == [value for name, value in sent if name.startswith("image")]
        fields: dict[str, list[object]] = {}
        for name, value in sent:
            if not name.startswith("image"):
                shown = value[:SHORT].decode("utf-8", "replace")
                fields.setdefault(name, []).append(shown)
        assert form.fields == fields


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300), cuts)
def test_rubbish_in_json_is_refused_as_a_request(body: bytes, places: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(InvalidRequest):
        read(JsonReader, cut(body, places), Path(folder))


def test_a_long_image_lies_on_the_disk_and_nobody_else_reads_it(tmp_path: Path) -> None:
    body = json.dumps({"prompt": "x" * 100_000, "image": "data:" + "A" * 300_000}).encode()
    form = read(JsonReader, [body], tmp_path)
    [part] = form.images
    assert part.path is not None
    assert part.path.stat().st_mode & 0o077 == 0
    assert (part.size, len(part.data)) == (300_005, TEXT_BYTES)
    # Nothing that long is of use, and it would stay in memory while the request waits.
    assert form.fields["prompt"] == ["x" * TEXT_BYTES]


@pytest.mark.parametrize(
    "body",
    [
        '{"image": [' + "137," * 400_000 + "1]}",
        '{"image": {"type": "Buffer", "data": [137, 80]}}',
        '{"image": {"0": 137, "1": 80}}',
    ],
)
def test_bytes_in_json_get_their_cure_and_stop_being_read(tmp_path: Path, body: str) -> None:
    with pytest.raises(InvalidRequest, match="toFile"):
        read(JsonReader, [body.encode()], tmp_path)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ('{"a": ' + "1" * (2 << 20) + "}", "1 MiB"),
        ('["' + '","'.join(["x" * 70_000] * 120) + '"]', "long strings"),
        ('{"image": "' + "x" * 70_000 + "\\u12", "within a string"),
        ('{"image": "' + "x" * 70_000 + '\\u12"}', "escape"),
    ],
)
def test_json_without_measure_is_refused(tmp_path: Path, body: str, why: str) -> None:
    with pytest.raises(InvalidRequest, match=why):
        read(JsonReader, [body.encode()], tmp_path)


def test_json_is_read_at_any_cut_of_its_escapes(tmp_path: Path) -> None:
    text = "x" * TEXT_BYTES + "😀é\n\\\\/\ud83d" + "y" * 5
    body = json.dumps({"image": text}).encode()
    # Around the escapes, where a wrong cut would show.
    for place in range(TEXT_BYTES + 5, len(body)):
        folder = tmp_path / str(place)
        folder.mkdir()
        form = read(JsonReader, [body[:place], body[place:]], folder)
        assert images(form) == [text.encode("utf-8", "surrogatepass")]


@pytest.mark.parametrize("kind", ["json", "urlencoded", "multipart"])
def test_a_large_picture_is_never_in_memory(tmp_path: Path, kind: str) -> None:
    piece = b"QUJD" * (1 << 14)
    makers: dict[str, tuple[Reader, bytes, bytes]] = {
        "json": (JsonReader(tmp_path), b'{"image":"data:;base64,', b'"}'),
        "urlencoded": (UrlencodedReader(tmp_path), b"image=data:;base64,", b"&n=1"),
        "multipart": (
            MultipartReader(b"b", tmp_path),
            b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\ndata:;base64,',
            b"\r\n--b--\r\n",
        ),
    }
    reader, head, tail = makers[kind]
    tracemalloc.start()
    with closing(reader):
        for part in (head, *[piece] * 256, tail):
            reader.feed(part)
        [image] = reader.finish().images
    write_data_uri(image, tmp_path / "out")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "out").stat().st_size == len(piece) * 256 * 3 // 4 == 12 << 20
    # Pieces of a megabyte in a few forms, not the sixteen of the text.
    assert peak < 8 << 20


def test_an_array_of_bytes_in_a_form_is_refused_early(tmp_path: Path) -> None:
    body = urlencode({f"image[{i}]": i % 256 for i in range(200)}).encode()
    with (
        closing(UrlencodedReader(tmp_path)) as reader,
        pytest.raises(InvalidRequest, match="toFile"),
    ):
        reader.feed(body)


@pytest.mark.parametrize("body", [b"a&" * 1001, b"&" * 1001, b"x" * 2000])
def test_forms_without_measure_are_refused(tmp_path: Path, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        read(UrlencodedReader, [body], tmp_path)
