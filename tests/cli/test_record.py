"""The record of a batch by itself: what counts as done, and what a kill or an edit may leave."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.cli.record import NAME, Done, Record, Stamp
from upscale.errors import OutputFault
from upscale.weights.hashes import hash_file

SETTINGS = {"network": "abc", "scale": "4", "format": "png"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"picture")
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    path = tmp_path / "out"
    path.mkdir()
    return path


def _made(record: Record, source: Path, name: str = "a-4x.png", data: bytes = b"result") -> Done:
    """Make a result and note it."""
    target = record.folder / name
    replaced = target.exists()
    target.write_bytes(data)
    done = Done(
        source=record.source_name(source),
        stamp=Stamp.of(source),
        sha256=hash_file(source),
        settings=SETTINGS,
        output=name,
        output_bytes=len(data),
        output_mtime_ns=target.stat().st_mtime_ns,
        replaced=replaced,
        width=1,
        height=1,
        seconds=0.5,
        receipt=False,
    )
    record.add(done)
    return done


def _is_done(out: Path, source: Path) -> bool:
    record = Record(out)
    done = record.find(source, SETTINGS)
    return done is not None and record.is_done(done, source)


def test_what_is_noted_is_done_until_source_or_result_change(out: Path, source: Path) -> None:
    with Record.opened(out) as record:
        _made(record, source)
    assert _is_done(out, source)
    source.write_bytes(b"another")
    assert not _is_done(out, source)
    source.write_bytes(b"picture")
    assert _is_done(out, source)
    (out / "a-4x.png").write_bytes(b"resul")
    assert not _is_done(out, source)
    (out / "a-4x.png").unlink()
    assert not _is_done(out, source)


def test_a_change_that_keeps_size_and_time_is_seen(out: Path, source: Path) -> None:
    with Record.opened(out) as record:
        _made(record, source)
    before = source.stat()
    source.write_bytes(b"Picture")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert not _is_done(out, source)


def test_a_touched_source_is_read_once(
    out: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Record.opened(out) as record:
        _made(record, source)
    os.utime(source)
    with Record.opened(out) as record:
        done = record.find(source, SETTINGS)
        assert done is not None
        assert record.is_done(done, source)
    monkeypatch.setattr("upscale.cli.record.hash_file", None)
    assert _is_done(out, source)


def test_other_settings_are_other_work(out: Path, source: Path) -> None:
    with Record.opened(out) as record:
        _made(record, source)
    assert Record(out).find(source, {**SETTINGS, "scale": "2"}) is None


def test_both_folders_can_move_together(tmp_path: Path, out: Path, source: Path) -> None:
    with Record.opened(out) as record:
        _made(record, source)
    place = tmp_path / "elsewhere"
    place.mkdir()
    for folder in (out, source.parent):
        folder.rename(place / folder.name)
    assert _is_done(place / "out", place / "in" / "a.png")


def test_names_that_are_no_text_are_kept(out: Path, source: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(source.parent) + b"/caf\xe9\n.png"))
    odd.write_bytes(b"x")
    with Record.opened(out) as record:
        _made(record, odd)
    assert _is_done(out, odd)


def test_a_torn_line_counts_for_nothing_and_hides_none(out: Path, source: Path) -> None:
    other = source.with_name("b.png")
    other.write_bytes(b"second")
    with Record.opened(out) as record:
        _made(record, source)
        _made(record, other, "b-4x.png")
    file = out / NAME
    file.write_bytes(file.read_bytes()[:-40])
    assert _is_done(out, source)
    assert not _is_done(out, other)
    with Record.opened(out) as record:
        _made(record, other, "b-4x.png")
    assert _is_done(out, other)


@given(st.binary(max_size=80), st.integers(0, 2000))
def test_no_damage_keeps_a_record_from_being_read(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes, cut: int
) -> None:
    out = tmp_path_factory.mktemp("out")
    source = out / "a.png"
    source.write_bytes(b"picture")
    with Record.opened(out) as record:
        _made(record, source)
    file = out / NAME
    file.write_bytes(file.read_bytes()[:cut] + junk)
    with Record.opened(out) as record:
        _made(record, source)
    assert _is_done(out, source)


@pytest.mark.parametrize(
    "line", ["3", "[]", "null", '"done"', '{"state": "done"}', '{"state": "void"}', "{" * 100_000]
)
def test_lines_of_others_are_passed_over(out: Path, source: Path, line: str) -> None:
    (out / NAME).write_text(line + "\n")
    assert Record(out).find(source, SETTINGS) is None


def test_a_result_that_was_put_over_another_file_is_known_by_its_time(
    out: Path, source: Path
) -> None:
    """Noted, then killed before the rename: the old file, of the same size, is not the result."""
    with Record.opened(out) as record:
        _made(record, source, data=b"before")
        _made(record, source, data=b"after!")
    os.utime(out / "a-4x.png", ns=(1, 1))
    assert not _is_done(out, source)


def test_only_what_was_made_of_the_same_source_and_left_alone_is_owned(
    out: Path, source: Path
) -> None:
    with Record.opened(out) as record:
        _made(record, source)
        target = out / "a-4x.png"
        assert record.owned(target, source)
        assert not record.owned(target, source.with_name("b.png"))
        os.utime(target, ns=(1, 1))
        assert not record.owned(target, source)
        assert not record.owned(out / "missing.png", source)


def test_what_is_taken_back_is_not_done(out: Path, source: Path) -> None:
    with Record.opened(out) as record:
        record.void(_made(record, source))
        assert record.find(source, SETTINGS) is None
    assert not _is_done(out, source)
    assert not Record(out).made(out / "a-4x.png")


def test_leftovers_of_this_record_are_removed_and_no_others(out: Path, source: Path) -> None:
    with Record.opened(out) as record:
        own = out / record.scratch()
    own.write_bytes(b"half")
    other = out / ".upscale-0123456789abcdef.part"
    other.write_bytes(b"half")
    with Record.opened(out) as record:
        record.tidy({out, out / "missing"})
    assert not own.exists()
    assert other.exists()


def test_one_at_a_time(out: Path) -> None:
    with Record.opened(out), pytest.raises(OutputFault, match="at work"), Record.opened(out):
        pass
    with Record.opened(out):
        pass


def test_a_line_that_does_not_fit_is_an_error_and_spoils_no_other(
    out: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Record.opened(out) as record:
        write = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:20]))
        with pytest.raises(OutputFault, match="cannot be written"):
            _made(record, source)
        monkeypatch.undo()
        _made(record, source)
    assert _is_done(out, source)
    lines = [line for line in (out / NAME).read_bytes().split(b"\n") if line]
    whole = []
    for line in lines:
        with suppress(ValueError):
            whole.append(json.loads(line)["state"])
    assert whole == ["begun", "done"]
