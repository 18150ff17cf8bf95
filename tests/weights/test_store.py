"""The store: names, copies, records, files that were dropped in, the bundled network."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.errors import CheckpointError, InvalidParameter, ModelNotFound
from upscale.weights import hashes, known
from upscale.weights.known import KnownFile, load_manifest
from upscale.weights.store import Network, Store, checked_name, name_from


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "weights")


def checkpoint(folder: Path, name: str = "Some Net.pth", content: bytes = b"weights") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def installed(store: Store) -> list[Network]:
    return [network for network in store.networks() if not network.bundled]


def test_an_empty_store_has_the_bundled_network(store: Store) -> None:
    [network] = store.networks()
    assert (network.name, network.bundled, network.serves) == ("bundled-x4", True, ())
    assert network.sha256 == hashlib.sha256(network.path.read_bytes()).hexdigest()
    assert network.licence
    with pytest.raises(InvalidParameter):
        store.remove("bundled-x4")


def test_a_registered_file_is_copied_and_found(store: Store, tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    network = store.register(file, name=None, serves="real-esrgan", replace=False)
    assert network.name == "some-net"
    assert network.path == tmp_path / "weights" / "some-net.pth"
    assert network.sha256 == hashlib.sha256(b"weights").hexdigest()
    assert network.serves == ("real-esrgan",)
    assert store.find("SOME-NET") == network
    assert Store(tmp_path / "weights").networks()[1] == network
    record = json.loads((tmp_path / "weights" / "some-net.json").read_text())
    assert record["origin"] == "Some Net.pth"
    assert file.exists()


def test_another_file_of_a_name_is_replaced_only_when_told(store: Store, tmp_path: Path) -> None:
    store.register(checkpoint(tmp_path), name="a", serves="real-esrgan", replace=False)
    other = checkpoint(tmp_path, "b.safetensors", b"other")
    with pytest.raises(CheckpointError, match="differs"):
        store.register(other, name="a", serves=None, replace=False)
    assert store.find("a").path.read_bytes() == b"weights"  # type: ignore[union-attr]
    network = store.register(other, name="a", serves=None, replace=True)
    assert (network.path.name, network.serves) == ("a.safetensors", ())
    assert not (tmp_path / "weights" / "a.pth").exists()
    assert [n.name for n in installed(store)] == ["a"]


def test_the_same_file_again_renews_its_record(store: Store, tmp_path: Path) -> None:
    file = checkpoint(tmp_path)
    store.register(file, name="a", serves=None, replace=False)
    store.register(file, name="a", serves="real-esrgan", replace=False)
    network = store.register(file, name="a", serves=None, replace=False)
    assert network.serves == ("real-esrgan",)


def test_removing_takes_the_file_and_the_record(store: Store, tmp_path: Path) -> None:
    store.register(checkpoint(tmp_path), name="a", serves=None, replace=False)
    store.remove("a")
    assert installed(store) == []
    assert [p.name for p in (tmp_path / "weights").iterdir()] == [".index.json"]
    with pytest.raises(ModelNotFound):
        store.remove("a")


@pytest.mark.parametrize("name", ["", "A", "a b", "../a", "a/b", "-a", "real-esrgan", "bundled-x4"])
def test_names_that_cannot_be_used_are_refused(store: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        store.register(checkpoint(tmp_path), name=name, serves=None, replace=False)
    assert caught.value.field == "name"


def test_other_endings_missing_files_and_unknown_models_are_refused(
    store: Store, tmp_path: Path
) -> None:
    for file in (checkpoint(tmp_path, "a.onnx"), checkpoint(tmp_path, "a"), tmp_path / "no.pth"):
        with pytest.raises(CheckpointError):
            store.register(file, name=None, serves=None, replace=False)
    with pytest.raises(InvalidParameter, match="real-esrgan"):
        store.register(checkpoint(tmp_path), name=None, serves="nothing", replace=False)
    assert not list((tmp_path / "weights").glob("*"))


@given(st.text(max_size=150))
def test_a_name_made_from_a_file_is_sane_or_empty(stem: str) -> None:
    name = name_from(stem)
    if name and name not in load_manifest().reserved:
        assert checked_name(name) == name
        assert name_from(name) == name


def test_files_that_were_dropped_in_are_found(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    checkpoint(folder, "4xNet.safetensors")
    checkpoint(folder, "notes.txt")
    checkpoint(folder, ".hidden.pth")
    (folder / "folder.pth").mkdir()
    assert [network.name for network in installed(store)] == ["4xnet"]


def test_a_broken_record_hides_its_network_and_no_other(store: Store, tmp_path: Path) -> None:
    for name in ("a", "b"):
        store.register(checkpoint(tmp_path), name=name, serves=None, replace=False)
    for text in ("{", "[]", '{"serves": 3}', '{"sha256": "other"}', "\xff"):
        (tmp_path / "weights" / "a.json").write_bytes(text.encode("latin-1"))
        assert [network.name for network in installed(store)] == ["b"]


def test_hashes_are_remembered_until_a_file_changes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    path = checkpoint(folder, "a.pth")
    before = installed(store)
    counted: list[Path] = []
    real = hashes.hash_file
    monkeypatch.setattr(hashes, "hash_file", lambda p: counted.append(p) or real(p))
    assert installed(store) == installed(Store(folder)) == before
    assert counted == []
    path.write_bytes(b"changed")
    os.utime(path, ns=(1, 1))
    assert installed(store) != before
    assert counted == [path]


@pytest.mark.parametrize("index", [b"", b"[]", b"{", b'{"a.pth": 3}', b'{"a.pth": [1]}', b"\xff"])
def test_an_unreadable_index_is_rebuilt(store: Store, tmp_path: Path, index: bytes) -> None:
    folder = tmp_path / "weights"
    folder.mkdir()
    checkpoint(folder, "a.pth")
    (folder / ".index.json").write_bytes(index)
    assert [network.name for network in installed(store)] == ["a"]
    assert json.loads((folder / ".index.json").read_text())["a.pth"][2] == (
        installed(store)[0].sha256
    )


def test_a_known_file_brings_its_licence_and_what_it_serves(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(b"weights").hexdigest()
    file = KnownFile(
        id="net", file="net.pth", sha256=sha256, licence="MIT", author="me", serves=("aura-sr",)
    )
    manifest = load_manifest()
    changed = known.Manifest((file,), manifest.bundled, manifest.models, frozenset(), {}, {})
    monkeypatch.setattr("upscale.weights.store.load_manifest", lambda: changed)
    network = store.register(checkpoint(tmp_path), name="mine", serves="real-esrgan", replace=False)
    assert (network.licence, network.author) == ("MIT", "me")
    assert network.serves == ("real-esrgan", "aura-sr")


def test_a_pair_is_mixed_when_both_are_there(store: Store, tmp_path: Path) -> None:
    [(first, second)] = load_manifest().blends.items()
    plain = store.register(checkpoint(tmp_path), name=first, serves=None, replace=False)
    assert plain.blend_path is None
    other = checkpoint(tmp_path, "o.pth", b"o")
    partner = store.register(other, name=second, serves=None, replace=False)
    assert partner.blend_path is None
    paired = store.find(first)
    assert paired is not None
    assert (paired.blend_path, paired.blend) == (partner.path, 1.0)


def test_a_copy_that_cannot_be_made_leaves_nothing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CheckpointError, match="No space left"):
        store.register(checkpoint(tmp_path), name=None, serves=None, replace=False)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_check_tells_beforehand_what_registering_would_refuse(
    store: Store, tmp_path: Path
) -> None:
    file = checkpoint(tmp_path)
    store.check(file, name="a", serves="real-esrgan", replace=False)
    assert installed(store) == []
    store.register(file, name="a", serves=None, replace=False)
    store.check(file, name="a", serves=None, replace=False)
    other = checkpoint(tmp_path, "b.pth", b"other")
    with pytest.raises(CheckpointError, match="its content differs"):
        store.check(other, name="a", serves=None, replace=False)
    store.check(other, name="a", serves=None, replace=True)
    with pytest.raises(InvalidParameter):
        store.check(other, name="b", serves="nonsense", replace=True)
    with pytest.raises(CheckpointError, match="ends in"):
        store.check(tmp_path / "b.txt", name="b", serves=None, replace=True)
