"""Exports: out of one store and into another, as a folder or a tar, and what is refused of one."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.weights.conftest import LIMITS, Reply, Site, known, puller, safetensors
from upscale.errors import CheckpointError, ModelNotFound, OutputFault
from upscale.weights.exports import INDEX, LICENCES, export, import_export, is_export
from upscale.weights.records import Record
from upscale.weights.store import Store
from upscale.weights.verifying import verify


@pytest.fixture
def filled(store: Store, tmp_path: Path) -> Store:
    """A store with two networks, one of them with a record that says much."""
    for name, seed in (("one", 1), ("two", 2)):
        file = tmp_path / f"{name}.safetensors"
        file.write_bytes(safetensors(100, seed))
        record = Record(licence="MIT", author="somebody", url="https://a/b") if seed == 1 else None
        serves = "real-esrgan" if seed == 1 else None
        store.register(file, name=None, serves=serves, replace=False, record=record)
    return store


def contents(store: Store) -> dict[str, tuple[str, tuple[str, ...], str, str]]:
    return {
        n.name: (n.sha256, n.serves, n.licence, n.author) for n in store.networks() if not n.bundled
    }


@pytest.mark.parametrize("target", ["out", "out.tar", "deep/er/out.tar"])
def test_what_is_exported_can_be_imported_and_is_the_same(
    filled: Store, tmp_path: Path, target: str
) -> None:
    made = tmp_path / target
    assert [entry.name for entry in export(filled, [], made)] == ["one", "two"]
    assert is_export(made)
    elsewhere = Store(tmp_path / "elsewhere")
    import_export(elsewhere, made, limits=LIMITS, replace_others=False)
    assert contents(elsewhere) == contents(filled)
    assert {finding.state for finding in verify(elsewhere, [])} == {"ok"}
    # And once more, which changes nothing.
    import_export(elsewhere, made, limits=LIMITS, replace_others=False)
    assert contents(elsewhere) == contents(filled)
    assert [p.name for p in elsewhere.folder.glob(".upscale-*")] == []


def test_an_export_names_authors_and_licences(filled: Store, tmp_path: Path) -> None:
    export(filled, ["one"], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        LICENCES,
        "one.safetensors",
        INDEX,
    ]
    text = (tmp_path / "out" / LICENCES).read_text()
    assert "somebody" in text
    assert "MIT" in text
    with pytest.raises(ModelNotFound):
        export(filled, ["three"], tmp_path / "out")


def test_an_export_serves_as_a_mirror(filled: Store, site: Site, tmp_path: Path) -> None:
    export(filled, ["one"], tmp_path / "out")
    for path in (tmp_path / "out").iterdir():
        site.paths[f"/{path.name}"] = Reply(path.read_bytes())
    wanted = known(
        site, safetensors(100, 1), id="one", file="One.safetensors", url="https://nowhere.invalid"
    )
    elsewhere = Store(tmp_path / "elsewhere")
    assert puller(elsewhere, mirror=site.url).pull(wanted, consent=False).proof == "recorded"


def test_nothing_or_something_broken_is_not_exported(filled: Store, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Nothing is installed"):
        export(Store(tmp_path / "empty"), [], tmp_path / "out")
    (filled.folder / "two.safetensors").write_bytes(b"changed")
    with pytest.raises(CheckpointError, match="not what was installed"):
        export(filled, [], tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputFault):
        export(filled, ["one"], tmp_path / "file" / "out")


def _index(**changes: object) -> dict[str, object]:
    content = safetensors(100, 1)
    sha256 = hashlib.sha256(content).hexdigest()
    entry = {
        "name": "one",
        "file": "one.safetensors",
        "bytes": len(content),
        "sha256": sha256,
        "record": {"sha256": sha256},
    }
    return {"schema": 1, "files": [{**entry, **changes}]}


@pytest.mark.parametrize(
    ("index", "told"),
    [
        ({}, "index"),
        ({"schema": 9, "files": []}, "schema 9"),
        ({"schema": 1, "files": [{}]}, "index"),
        (_index(file="../one.safetensors"), "not a proper one"),
        (_index(file="/etc/passwd"), "not a proper one"),
        (_index(bytes=5), "not what the index says"),
        (_index(bytes=10**15), "not what the index says"),
        (_index(sha256="0" * 64, record={"sha256": "0" * 64}), "not what the index says"),
        (_index(record={"sha256": "other"}), "not a proper one"),
        (_index(record=7), "index"),
        (_index(file="absent.safetensors"), "absent"),
    ],
)
@pytest.mark.parametrize("as_tar", [False, True])
def test_an_export_that_lies_is_refused(
    tmp_path: Path, index: dict[str, object], told: str, as_tar: bool
) -> None:
    files = {INDEX: json.dumps(index).encode(), "one.safetensors": safetensors(100, 1)}
    source = tmp_path / ("out.tar" if as_tar else "out")
    if as_tar:
        with tarfile.open(source, "w", format=tarfile.GNU_FORMAT) as tar:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    else:
        source.mkdir()
        for name, content in files.items():
            (source / name).write_bytes(content)
    assert is_export(source)
    store = Store(tmp_path / "store")
    with pytest.raises(CheckpointError, match=told):
        import_export(store, source, limits=LIMITS, replace_others=False)
    assert contents(store) == {}
    assert list(store.folder.glob(".upscale-*")) == []


def test_an_export_with_code_in_it_is_refused(tmp_path: Path) -> None:
    content = b"cposix\nsystem\n(X\x04\0\0\0truetR."
    sha256 = hashlib.sha256(content).hexdigest()
    index = _index(file="one.pth", bytes=len(content), sha256=sha256, record={"sha256": sha256})
    source = tmp_path / "out"
    source.mkdir()
    (source / INDEX).write_text(json.dumps(index))
    (source / "one.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="run code"):
        import_export(Store(tmp_path / "store"), source, limits=LIMITS, replace_others=False)


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "out.tar"
    with tarfile.open(source, "w", format=tarfile.GNU_FORMAT) as tar:
        content = json.dumps(_index()).encode()
        member = tarfile.TarInfo(INDEX)
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("one.safetensors")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(CheckpointError):
        import_export(Store(tmp_path / "store"), source, limits=LIMITS, replace_others=False)


def test_another_network_of_a_name_is_replaced_only_when_told(
    filled: Store, tmp_path: Path
) -> None:
    export(filled, ["one"], tmp_path / "out")
    other = Store(tmp_path / "other")
    (tmp_path / "mine.safetensors").write_bytes(safetensors(7))
    other.register(tmp_path / "mine.safetensors", name="one", serves=None, replace=False)
    with pytest.raises(CheckpointError, match="its content differs"):
        import_export(other, tmp_path / "out", limits=LIMITS, replace_others=False)
    import_export(other, tmp_path / "out", limits=LIMITS, replace_others=True)
    assert contents(other)["one"] == contents(filled)["one"]


def test_other_folders_and_files_are_no_exports(tmp_path: Path) -> None:
    (tmp_path / "a.pth.tar").write_bytes(b"PK\3\4")
    assert not is_export(tmp_path / "a.pth.tar")
    assert not is_export(tmp_path)
    assert not is_export(tmp_path / "absent")


def test_verifying_tells_what_changed(filled: Store) -> None:
    (filled.folder / "dropped.pth").write_bytes(b"by hand")
    (filled.folder / "two.safetensors").write_bytes(b"changed")
    states = {finding.name: finding.state for finding in verify(filled, [])}
    assert states == {
        "bundled-x4": "ok",
        "dropped": "unrecorded",
        "one": "ok",
        "two": "changed",
    }
    [finding] = verify(filled, ["TWO"])
    assert finding.bad
    assert finding.sha256 == hashlib.sha256(b"changed").hexdigest()
    (filled.folder / "one.json").write_text("{")
    [finding] = verify(filled, ["one"])
    assert finding.state == "unreadable"
    with pytest.raises(ModelNotFound):
        verify(filled, ["three"])
    # What is broken can still be removed.
    filled.remove("two")
    filled.remove("one")
    assert [path.name for path in filled.files()] == ["dropped.pth"]
