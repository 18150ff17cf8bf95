"""The multipart reader: however the body is cut, the form is the same."""

from __future__ import annotations

import tempfile
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from upscale.errors import InvalidRequest
from upscale.server.forms import TEXT_BYTES, Form
from upscale.server.multipart import MultipartReader

BOUNDARY = b"0123456789abcdef"

Part = tuple[str, str | None, bytes]


def encode(parts: list[Part], *, preamble: bytes = b"", epilogue: bytes = b"\r\n") -> bytes:
    body = preamble
    for name, filename, content in parts:
        body += b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="' + name.encode()
        body += b'"'
        if filename is not None:
            body += b'; filename="' + filename.encode() + b'"\r\nContent-Type: image/png'
        body += b"\r\n\r\n" + content + b"\r\n"
    return body + b"--" + BOUNDARY + b"--" + epilogue


def read(pieces: list[bytes], folder: Path) -> Form:
    with closing(MultipartReader(BOUNDARY, folder)) as reader:
        for piece in pieces:
            reader.feed(piece)
        return reader.finish()


def plain(form: Form) -> tuple[object, list[object]]:
    """What a form holds, files read."""
    images = [
        (part.name, part.filename, part.size, part.path.read_bytes() if part.path else part.data)
        for part in form.images
    ]
    return form.fields, images


contents = st.one_of(
    st.binary(max_size=300),
    st.sampled_from([b"\r\n--" + BOUNDARY[:-1], b"\r\n--", b"\r", b"--" + BOUNDARY, b"\n\r\n"]),
    st.integers(TEXT_BYTES - 2, TEXT_BYTES + 2).map(lambda size: b"x" * size),
)
names = st.sampled_from(["model", "n", "image", "image[]", "image_url", "mask", "ü"])
filenames = st.one_of(st.none(), st.sampled_from(["", "a.png", "b ü.jpg"]))
part_lists = st.lists(st.tuples(names, filenames, contents), max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    part_lists,
    st.lists(st.integers(0, 2000), max_size=12),
    st.sampled_from([b"", b"\r\n"]),
    st.sampled_from([b"", b"\r\n"]),
)
def test_any_chunking_gives_the_parts_that_were_sent(
    parts: list[Part], cuts: list[int], preamble: bytes, epilogue: bytes
) -> None:
    if not parts:
        preamble = b""  # a body of one last boundary
    body = encode(parts, preamble=preamble, epilogue=epilogue)
    places = sorted({0, *(cut % (len(body) + 1) for cut in cuts), len(body)})
    pieces = [body[a:b] for a, b in pairwise(places)]
    with tempfile.TemporaryDirectory() as folder:
        fields, images = plain(read(pieces, Path(folder)))
    assert images == [
        (name, filename, len(content), content)
        for name, filename, content in parts
        if name.startswith("image")
    ]
    expected: dict[str, list[object]] = {}
    for name, filename, content in parts:
        if not name.startswith("image") and filename is None:
            text = content[:TEXT_BYTES].decode("utf-8", "replace")
            expected.setdefault(name, []).append(text)
    assert fields == expected


@settings(max_examples=25, deadline=None)
@given(st.tuples(names, filenames, contents))
def test_one_byte_at_a_time(part: Part) -> None:
    body = encode([(part[0], part[1], part[2][:500])])
    with tempfile.TemporaryDirectory() as a, tempfile.TemporaryDirectory() as b:
        whole = plain(read([body], Path(a)))
        assert plain(read([bytes([byte]) for byte in body], Path(b))) == whole


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_rubbish_is_refused_as_a_request(body: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(InvalidRequest):
        read([body], Path(folder))


@settings(max_examples=50, deadline=None)
@given(part_lists.filter(bool), st.integers(1, 5000))
def test_a_body_that_is_cut_off_is_refused(parts: list[Part], cut: int) -> None:
    body = encode(parts, epilogue=b"")
    with tempfile.TemporaryDirectory() as folder, pytest.raises(InvalidRequest):
        read([body[: -(cut % (len(body) - 1)) - 1]], Path(folder))


def test_files_and_long_texts_lie_on_the_disk_and_nobody_else_reads_them(tmp_path: Path) -> None:
    long = b"d" * (TEXT_BYTES + 1)
    form = read([encode([("image", "a", b"x"), ("image_url", None, long)])], tmp_path)
    for part in form.images:
        assert part.path is not None
        assert part.path.stat().st_mode & 0o077 == 0
    short = read([encode([("image_url", None, b"http://a")])], tmp_path)
    assert short.images[0].path is None


def test_too_many_parts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="1000 parts"):
        read([encode([("a", None, b"")] * 1001)], tmp_path)


def test_an_array_of_bytes_is_refused_after_a_hundred_parts(tmp_path: Path) -> None:
    body = encode([(f"image[{i}]", None, b"137") for i in range(200)])
    reader = MultipartReader(BOUNDARY, tmp_path)
    half = body[: body.index(b"image[150]")]
    with pytest.raises(InvalidRequest, match="toFile"):
        reader.feed(half)
