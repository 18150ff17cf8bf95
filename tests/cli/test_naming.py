"""What results are called, and where they go."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.cli.inputs import Input
from upscale.cli.naming import name_outputs, output_format
from upscale.errors import InvalidParameter

OUT = Path("out")


def _names(*paths: str | Input, scale: str = "4", format: str = "png") -> list[str]:
    inputs = [p if isinstance(p, Input) else Input(Path(p)) for p in paths]
    named = name_outputs(inputs, OUT, scale=Decimal(scale), format=format)
    return [str(path.relative_to(OUT)) for path in named]


def test_the_scale_stands_in_the_name() -> None:
    assert _names("photo.jpg") == ["photo-4x.png"]
    assert _names("photo.jpg", scale="2.50", format="jpeg") == ["photo-2.5x.jpg"]
    assert _names("archive.tar.png", scale="10") == ["archive.tar-10x.png"]


def test_the_tree_is_kept() -> None:
    assert _names(Input(Path("in/deep/a.png"), Path("deep"))) == ["deep/a-4x.png"]


def test_endings_part_names_that_would_meet() -> None:
    assert _names("in/a.png", "in/a.jpg", "in/b.png") == [
        "a-png-4x.png",
        "a-jpg-4x.png",
        "b-4x.png",
    ]


def test_folders_part_names_that_would_meet() -> None:
    assert _names("one/a.png", "two/a.png") == ["one-a-png-4x.png", "two-a-png-4x.png"]


def test_numbers_part_what_else_would_meet() -> None:
    assert _names("x/one/a.png", "y/one/a.png") == ["one-a-png-4x.png", "one-a-png-2-4x.png"]


def test_names_that_differ_by_case_only_are_parted() -> None:
    assert len({name.casefold() for name in _names("a.png", "A.png", "a.PNG")}) == 3


def test_names_of_255_bytes_are_cut_at_whole_characters() -> None:
    long = "ü" * 125 + ".png"
    (name,) = _names(long)
    assert name.endswith("ü-4x.png")
    assert 240 < len(os.fsencode(name)) <= 250


def test_long_names_that_differ_at_the_end_stay_apart() -> None:
    names = _names("a" * 248 + "1.png", "a" * 248 + "2.png")
    assert len(set(names)) == 2
    assert all(len(name) <= 250 for name in names)


def test_undecodable_names_survive() -> None:
    raw = b"caf\xe9.png"
    (name,) = _names(os.fsdecode(raw))
    assert os.fsencode(name) == b"caf\xe9-4x.png"


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "one", "two"]),
            st.text("aAbä-4x.", min_size=1, max_size=5).filter(lambda s: s.strip(".")),
            st.sampled_from([".png", ".jpg", ""]),
        ),
        max_size=12,
        unique=True,
    )
)
def test_no_two_results_share_a_name(parts: list[tuple[str, str, str]]) -> None:
    paths = [Path(folder, stem + ending) for folder, stem, ending in parts]
    inputs = [Input(path) for path in dict.fromkeys(paths)]
    first = name_outputs(inputs, OUT, scale=Decimal(4), format="png")
    assert len({str(path).casefold() for path in first}) == len(inputs)
    assert first == name_outputs(inputs, OUT, scale=Decimal(4), format="png")
    assert all(path.parent == OUT for path in first)


@pytest.mark.parametrize(
    ("out", "wanted", "single", "expected"),
    [
        ("out", None, True, ("png", False)),
        ("out", "jpg", True, ("jpeg", False)),
        ("out/", None, True, ("png", False)),
        ("made.up/", None, True, ("png", False)),
        ("a.png", None, True, ("png", True)),
        ("a.JPG", None, True, ("jpeg", True)),
        ("a.webp", "webp", True, ("webp", True)),
        ("a.dat", "png", True, ("png", True)),
        ("out.v2", None, False, ("png", False)),
        ("there.png", None, True, ("png", False)),
    ],
)
def test_the_output_is_a_folder_or_a_file_by_its_name(
    out: str,
    wanted: str | None,
    single: bool,
    expected: tuple[str, bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.png").mkdir()
    assert output_format(out, wanted, single=single) == expected


@pytest.mark.parametrize(
    ("out", "wanted", "single"),
    [
        ("a.png", "jpeg", True),
        ("a.png", None, False),
        ("a.psd", None, True),
        ("a", "bmp", True),
        ("file", None, False),
        ("/dev/null", None, True),
        ("", None, True),
    ],
)
def test_contradictions_are_refused(
    out: str, wanted: str | None, single: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(InvalidParameter):
        output_format(out, wanted, single=single)
