"""The list of known files: well formed, honest about what is not known, and easy to name."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.store import checked_name, name_from

MANIFEST = load_manifest()
FILES = MANIFEST.files


def test_there_are_more_than_a_hundred_and_none_twice() -> None:
    assert len(FILES) > 100
    for key in ("id", "sha256", "stored"):
        values = [getattr(known, key) for known in FILES if getattr(known, key)]
        assert len(set(values)) == len(values), key


@pytest.mark.parametrize("known", FILES, ids=lambda known: known.id)
def test_each_file_is_well_formed(known: KnownFile) -> None:
    assert checked_name(known.id) == known.id == name_from(known.id)
    assert known.source
    assert PurePosixPath(known.stored).name == known.stored
    if known.sha256 is not None:
        assert len(bytes.fromhex(known.sha256)) == 32
        assert known.sha256 == known.sha256.lower()
    assert known.bytes is None or known.bytes > 0
    if known.url is not None:
        assert urlsplit(known.url).scheme == "https"
        assert known.file
    if known.checked:
        assert known.sha256
        assert known.bytes
    if known.is_part:
        assert known.family in MANIFEST.models
        assert known.role
        assert not known.serves
    else:
        assert known.scale in (1, 2, 3, 4, 8)
        assert known.architecture
        assert known.stored.endswith((".pth", ".safetensors"))


def test_only_files_for_any_use_serve_a_model_or_stand_in_a_pair() -> None:
    for known in FILES:
        if known.serves:
            assert known.commercial is True
            assert known.url
    for pair in MANIFEST.blends.items():
        assert all(MANIFEST.by_id(id) for id in pair)


def test_every_use_that_people_ask_for_has_files_for_any_use() -> None:
    for use in ("photographs", "drawings", "text", "faces", "fast", "restoration"):
        assert any(use in known.use and known.commercial for known in FILES), use


def test_files_whose_licence_is_unknown_or_forbids_use_need_consent() -> None:
    assert {known.needs_consent for known in FILES if known.licence is None} == {True}
    assert any(known.commercial is False for known in FILES)
    for known in FILES:
        if known.licence and "NC" in known.licence:
            assert known.commercial is False


def test_sets_name_known_files_and_models() -> None:
    assert set(MANIFEST.sets) <= MANIFEST.models | MANIFEST.aliases
    for ids in MANIFEST.sets.values():
        assert all(MANIFEST.by_id(id) for id in ids)


@pytest.mark.parametrize(
    ("name", "id"),
    [
        ("RealESRGAN_x4plus", "realesrgan_x4plus"),
        ("RealESRGAN_x4plus.pth", "realesrgan_x4plus"),
        ("4xNomos2_hq_dat2", "4x-nomos2-hq-dat2"),
        ("4X-NOMOS2-HQ-DAT2", "4x-nomos2-hq-dat2"),
        ("swift_srgan_4x.pth.tar", "4x-swift-srgan"),
    ],
)
def test_a_file_is_found_by_the_names_that_people_give_it(name: str, id: str) -> None:
    found = MANIFEST.find(name)
    assert found is not None
    assert found.id == id


@pytest.mark.parametrize("name", ["", "-", "model", "model.safetensors", "config.json", "x4", "no"])
def test_names_that_could_be_anything_find_nothing(name: str) -> None:
    assert MANIFEST.find(name) is None


@given(st.text(max_size=60))
def test_any_text_may_be_asked_for(name: str) -> None:
    found = MANIFEST.find(name)
    assert found is None or found in FILES


def test_what_is_loaded_as_weights_is_stored_with_an_ending_that_is() -> None:
    assert KnownFile("a", file="a.pth.tar", format="pth").stored == "a.pth"
    assert KnownFile("a", file="X4.pt", format="pt").stored == "a.pth"
    assert KnownFile("a", file="e.pt", kind="part").stored == "a.pt"
    assert KnownFile("a", file="a.safetensors").stored == "a.safetensors"


def test_the_guide_says_how_many_there_are_and_every_use() -> None:
    page = (Path(__file__).parents[2] / "docs" / "weights.md").read_text(encoding="utf-8")
    assert f"has {len(FILES)} files" in page
    for use in {use for known in FILES for use in known.use}:
        assert f"`{use}`" in page, use
