"""Which files arguments mean."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from pathlib import Path

import pytest

from upscale.cli.inputs import Found, collect
from upscale.cli.naming import output_format

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(autouse=True)
def _inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _make(*names: str, data: bytes = PNG) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(data)


def _names(found: Found) -> list[str]:
    return [str(item.path) for item in found.inputs]


def _placed(found: Found) -> dict[str, str]:
    return {str(item.path): str(item.folder) for item in found.inputs}


def _problems(arguments: Iterable[str]) -> dict[str, str]:
    return dict(collect(arguments).problems)


def test_files_come_in_the_order_given_and_once() -> None:
    _make("b.png", "a.png")
    assert _names(collect(["b.png", "a.png", "./b.png"])) == ["b.png", "a.png"]


def test_a_folder_is_read_recursively_and_keeps_its_tree() -> None:
    _make("in/x.png", "in/deep/er/y.jpg", "in/z.webp")
    placed = _placed(collect(["in"]))
    assert placed == {"in/x.png": ".", "in/deep/er/y.jpg": "deep/er", "in/z.webp": "."}


def test_several_folders_keep_their_names() -> None:
    _make("one/x.png", "two/x.png")
    assert _placed(collect(["one", "two"])) == {"one/x.png": "one", "two/x.png": "two"}


def test_a_quoted_pattern_is_expanded() -> None:
    _make("in/a.png", "in/b.png", "in/c.txt", data=PNG)
    _make("in/d.txt", data=b"words")
    assert _names(collect(["in/*.png"])) == ["in/a.png", "in/b.png"]
    assert _names(collect(["in/[cd].txt"])) == ["in/c.txt"]


def test_two_stars_cross_folders_and_keep_the_tree() -> None:
    _make("in/a.png", "in/deep/b.png")
    assert _placed(collect(["in/**/*.png"])) == {"in/a.png": ".", "in/deep/b.png": "deep"}
    assert _names(collect(["in/**"])) == ["in/a.png", "in/deep/b.png"]


def test_a_name_that_exists_is_no_pattern() -> None:
    _make("photo[1].png", "photo1.png")
    assert _names(collect(["photo[1].png"])) == ["photo[1].png"]


def test_what_does_not_exist_is_a_problem() -> None:
    _make("a.png")
    arguments = ["a.png", "missing.png", "no*.png", ""]
    assert set(_problems(arguments)) == {"missing.png", "no*.png", ""}


def test_hidden_files_and_other_kinds_are_passed_over_in_folders() -> None:
    _make("in/a.png", "in/._a.png", "in/.b.png", "in/.hidden/c.png")
    _make("in/notes.txt", "in/empty", data=b"")
    found = collect(["in"])
    assert _names(found) == ["in/a.png"]
    assert found.passed_over == 4


def test_a_picture_without_an_ending_is_found_by_its_bytes() -> None:
    _make("in/scan")
    assert _names(collect(["in"])) == ["in/scan"]


def test_a_broken_picture_is_not_passed_over() -> None:
    _make("in/broken.png", data=b"not a picture")
    assert _names(collect(["in"])) == ["in/broken.png"]


def test_pipes_and_sockets_are_never_opened() -> None:
    _make("in/a.png")
    os.mkfifo("in/pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("in/socket.png")
        assert _names(collect(["in"])) == ["in/a.png"]
        assert "no ordinary file" in _problems(["in/pipe.png"])["in/pipe.png"]


def test_loops_of_links_end() -> None:
    _make("in/a.png", "in/deep/b.png")
    os.symlink("..", "in/deep/up")
    os.symlink("self", "in/self")
    os.symlink("nowhere", "in/gone.png")
    assert _names(collect(["in"])) == ["in/a.png", "in/deep/b.png"]
    assert _names(collect(["in/**"])) == ["in/a.png", "in/deep/b.png"]


def test_links_to_pictures_and_folders_are_followed() -> None:
    _make("elsewhere/a.png", "in/b.png")
    os.symlink("../elsewhere", "in/linked")
    os.symlink("../elsewhere/a.png", "in/c.png")
    assert _names(collect(["in"])) == ["in/b.png", "in/c.png", "in/linked/a.png"]


def test_the_output_folder_is_not_read_again() -> None:
    _make("in/a.png", "in/out/a-4x.png")
    assert _names(collect(["in"], output=Path("in/out"))) == ["in/a.png"]
    assert _names(collect(["in/**"], output=Path("in/out"))) == ["in/a.png"]
    assert len(collect(["in"], output=Path("in")).inputs) == 2


def test_a_folder_that_may_not_be_read_is_a_problem() -> None:
    if os.geteuid() == 0:
        pytest.skip("root reads every folder")
    _make("in/closed/a.png", "in/b.png")
    os.chmod("in/closed", 0)
    found = collect(["in"])
    os.chmod("in/closed", 0o700)
    assert _names(found) == ["in/b.png"]
    assert [name for name, _ in found.problems] == ["in/closed"]


def test_a_link_to_a_name_that_is_too_long_stops_nothing() -> None:
    _make("in/a.png")
    for name in ("in/long.png", "in/.hidden", "bad.png"):
        os.symlink("x" * 300, name)
    found = collect(["in", "bad.png", "in/*"])
    assert _names(found) == ["in/a.png"]
    assert [name for name, _ in found.problems] == ["bad.png"]


def test_an_output_whose_name_is_too_long_is_no_folder_to_leave_out() -> None:
    _make("in/a.png")
    assert _names(collect(["in", "in/*"], output=Path("x" * 300))) == ["in/a.png"]
    assert output_format("x" * 300, None, single=True) == ("png", False)
