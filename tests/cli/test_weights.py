"""`upscale weights` from end to end: pulled from a server on loopback, listed, verified, carried to
another folder, removed; and what a running server makes of it.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.conftest import Run, draw
from tests.server.live import serving
from tests.weights.conftest import Reply, Site, safetensors, site
from upscale.cli import weights_pull
from upscale.cli.networks import choose_network
from upscale.errors import ModelDisabled
from upscale.settings import Settings
from upscale.weights import known
from upscale.weights.known import KnownFile, Manifest, load_manifest
from upscale.weights.store import Store

__all__ = ["site"]

CONTENT = safetensors(1000)
TABLE = ("upscale.weights.known", "upscale.weights.store", "upscale.weights.exports")
TABLE += ("upscale.weights.verifying", "upscale.cli.weights", "upscale.cli.weights_pull")
TABLE += ("upscale.cli.listing", "upscale.server.choosing")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UPSCALE_WEIGHTS_DIR", str(tmp_path / "weights"))
    monkeypatch.setenv("UPSCALE_WEIGHTS_STALL_SECONDS", "5")
    return tmp_path / "weights"


@pytest.fixture
def listed(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manifest]:
    """The list of known files with four more, which lie on the server."""
    free = KnownFile(
        id="test-free",
        file="Test Free.safetensors",
        url=f"{site.url}/free",
        bytes=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        scale=4,
        licence="MIT",
        author="somebody",
        commercial=True,
        use=("photographs",),
        architecture="Compact",
    )
    other = replace(free, file="other.safetensors")
    more = [
        free,
        replace(other, id="test-nc", licence="CC-BY-NC-4.0", commercial=False, sha256=None),
        replace(other, id="test-unseen", sha256=None, bytes=None),
        replace(other, id="test-page", url=None, page="https://nowhere.invalid", sha256="0" * 64),
    ]
    real = load_manifest()
    manifest = replace(real, files=(*more, *real.files))
    for module in TABLE:
        monkeypatch.setattr(f"{module}.load_manifest", lambda: manifest)
    site.replies = [Reply(CONTENT)]
    yield manifest
    assert known.load_manifest() is manifest


def test_a_network_is_pulled_listed_verified_and_removed(
    call: Run, folder: Path, listed: Manifest
) -> None:
    done = call("weights", "pull", "Test Free")
    assert done.returncode == 0, done.stderr
    assert "as its source records it" in done.stdout
    assert "by somebody (MIT)" in done.stdout
    assert (folder / "test-free.safetensors").read_bytes() == CONTENT
    assert "there already" in call("weights", "pull", "test-free").stdout
    rows = json.loads(call("weights", "list", "--installed", "--json").stdout)
    assert [(row["name"], row["state"]) for row in rows] == [
        ("bundled-x4", "bundled"),
        ("test-free", "installed"),
    ]
    assert call("weights", "verify").returncode == 0
    (folder / "test-free.safetensors").write_bytes(b"changed")
    done = call("weights", "verify", "test-free")
    assert done.returncode == 1
    assert "CHANGED" in done.stdout
    assert json.loads(call("weights", "verify", "--json").stdout)[0]["state"] == "changed"
    assert call("weights", "remove", "test-free").returncode == 0
    assert not (folder / "test-free.safetensors").exists()
    assert call("weights", "remove", "test-free").returncode == 2


def test_what_is_free_for_any_use_only_comes_without_a_question(
    call: Run, folder: Path, listed: Manifest
) -> None:
    done = call("weights", "pull", "test-nc")
    assert done.returncode == 2
    assert "upscale weights pull test-nc --accept-license" in done.stderr
    assert not folder.exists()
    assert call("weights", "pull", "test-nc", "--accept-license").returncode == 0
    done = call("weights", "pull", "test-unseen")
    assert "recorded now, and checked from now on" in done.stdout
    assert call("weights", "pull", "test-page").returncode == 2


def test_one_that_fails_stops_no_other(
    call: Run, folder: Path, listed: Manifest, site: Site
) -> None:
    site.paths["/free"] = Reply(safetensors(1000, 1))
    done = call("weights", "pull", "test-free", "test-page", "test-unseen")
    assert done.returncode == 1
    assert "was expected" in done.stderr
    assert "nowhere.invalid" in done.stderr
    assert [path.name for path in folder.glob("*.safetensors")] == ["test-unseen.safetensors"]


def test_unknown_names_come_with_a_suggestion(call: Run, folder: Path) -> None:
    done = call("weights", "pull", "4x-nomos2-hq-dat")
    assert done.returncode == 2
    assert "4x-nomos2-hq-dat2" in done.stderr
    assert call("weights", "info", "4x-nomos2-hq-dat").returncode == 2


def test_the_name_of_a_model_pulls_its_files(
    call: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def pull(self: object, known: KnownFile, **rest: object) -> weights_pull.Pulled:
        asked.append(known.id)
        return weights_pull.Pulled(known, Path("/there"), "0", "there already")

    monkeypatch.setattr(weights_pull.Puller, "pull", pull)
    assert call("weights", "pull", "seedvr2", "Real-ESRGAN").returncode == 0
    assert asked == ["seedvr2-3b-fp16", "seedvr2-vae-fp16", "realesrgan_x4plus"]


@pytest.mark.parametrize(
    ("arguments", "some", "none"),
    [
        (["--use", "faces"], "4x-faceupdat", "realesrgan_x4plus"),
        (["--licence", "non-commercial"], "4x-ultrasharp", "realesrgan_x4plus"),
        (["--license", "bsd"], "realesrgan_x4plus", "4x-ultrasharp"),
        (["--scale", "1"], "1x-fbcnn-color", "realesrgan_x4plus"),
        (["helaman", "dat2"], "4x-nomos2-hq-dat2", "4x-nomos2-hq-mosr"),
        (["seedvr2"], "seedvr2-vae-fp16", "bundled-x4"),
        (["--available"], "realesrgan_x4plus", "bundled-x4"),
    ],
)
def test_the_list_is_filtered(
    call: Run, folder: Path, arguments: list[str], some: str, none: str
) -> None:
    done = call("weights", "list", *arguments)
    names = [line.split()[0] for line in done.stdout.splitlines() if line]
    assert some in names
    assert none not in names
    assert call("weights", "list", "no-such-word-anywhere").stdout == "Nothing fits.\n"


def test_the_list_says_size_licence_author_and_how_it_is_had(call: Run, folder: Path) -> None:
    row = next(
        line
        for line in call("weights", "list").stdout.splitlines()
        if line.startswith("4x-ultrasharpv2")
    )
    assert "139.8 MB" in row
    assert "CC-BY-NC-SA-4.0 (non-commercial)" in row
    info = call("weights", "info", "4x-ultrasharpv2")
    assert "use NOT allowed" in info.stdout
    assert "--accept-license" in info.stdout
    assert "not checked" in info.stdout
    facts = json.loads(call("weights", "info", "dncnn_25", "--json").stdout)
    assert (facts["hash"], facts["state"]) == ("checked", "available")


def test_local_only_and_an_unreachable_mirror_are_one_line(
    call: Run, folder: Path, listed: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSCALE_LOCAL_ONLY", "1")
    done = call("weights", "pull", "test-free")
    assert done.returncode == 1
    assert "UPSCALE_LOCAL_ONLY" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_travel_by_export_and_import(
    call: Run, folder: Path, listed: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("weights", "pull", "test-free", "test-unseen")
    done = call("weights", "export", "-o", tmp_path / "out.tar")
    assert done.returncode == 0, done.stderr
    assert "2 exported" in done.stdout
    monkeypatch.setenv("UPSCALE_WEIGHTS_DIR", str(tmp_path / "elsewhere"))
    assert call("weights", "import", tmp_path / "out.tar", "--name", "x").returncode == 2
    done = call("weights", "import", tmp_path / "out.tar")
    assert done.returncode == 0, done.stderr
    assert "2 installed" in done.stdout
    assert call("weights", "verify").returncode == 0
    done = call("weights", "export", "test-free", "-o", tmp_path / "some")
    assert (tmp_path / "some" / "test-free.safetensors").read_bytes() == CONTENT


def test_a_known_file_is_recognised_on_import_and_a_part_is_kept_apart(
    call: Run, folder: Path, listed: Manifest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = replace(listed.files[0], id="test-part", kind="part", family="aura-sr", role="generator")
    for module in TABLE:
        changed = replace(listed, files=(part,))
        monkeypatch.setattr(f"{module}.load_manifest", lambda changed=changed: changed)
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    done = call("weights", "import", "model.safetensors")
    assert done.returncode == 0, done.stderr
    assert "test-part, the generator of aura-sr" in done.stdout
    assert (folder / "parts" / "test-part.safetensors").read_bytes() == CONTENT
    rows = json.loads(call("weights", "list", "--installed", "--json").stdout)
    assert [row["name"] for row in rows] == ["bundled-x4", "test-part"]
    for module in TABLE:
        monkeypatch.setattr(f"{module}.load_manifest", lambda: listed)


def test_several_imports_go_on_past_one_that_fails(call: Run, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"GGUF")
    (tmp_path / "b.onnx").write_bytes(b"x")
    done = call("weights", "import", "a.pth", "b.onnx", "absent.pth", ".")
    assert done.returncode == 1
    for told in ("a GGUF file", "an ONNX file", "no such file", "a folder"):
        assert told in done.stderr
    assert "0 of 4 done." in done.stdout
    assert call("weights", "import", "a.pth", "b.onnx", "--name", "x").returncode == 2


def _at_a_terminal(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    typed = io.StringIO(answer)
    monkeypatch.setattr(typed, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", typed)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)


def test_a_known_network_that_is_missing_is_offered_at_a_terminal_only(
    folder: Path, listed: Manifest, monkeypatch: pytest.MonkeyPatch, capsys: object
) -> None:
    settings = Settings(weights_dir=folder)
    with pytest.raises(ModelDisabled, match="upscale weights pull test-free"):
        choose_network(settings, "Test Free")
    _at_a_terminal(monkeypatch, "n\n")
    with pytest.raises(ModelDisabled):
        choose_network(settings, "test-free")
    _at_a_terminal(monkeypatch, "")
    with pytest.raises(ModelDisabled):
        choose_network(settings, "test-free")
    assert not folder.exists()
    _at_a_terminal(monkeypatch, "y\n")
    network, _ = choose_network(settings, "test-free")
    assert network.path.read_bytes() == CONTENT


def test_image_names_the_command_that_installs_what_is_missing(
    call: Run, folder: Path, tmp_path: Path
) -> None:
    draw(tmp_path / "a.png")
    for model, told in (
        ("real-esrgan", "upscale weights pull realesrgan_x4plus"),
        ("4xNomos2_hq_dat2", "upscale weights pull 4x-nomos2-hq-dat2"),
        ("4x-ultrasharp", "upscale weights pull 4x-ultrasharp --accept-license"),
        ("4x-nomos8kdat", "upscale weights import FILE"),
        ("seedvr2-vae-fp16", "a part of 'seedvr-image-upscale'"),
    ):
        done = call("image", "a.png", "-o", "out.png", "-m", model)
        assert done.returncode == 2
        assert told in done.stderr


def test_a_running_server_sees_what_is_pulled_and_removed(
    call: Run, folder: Path, listed: Manifest, tmp_path: Path, call_server: Callable[..., Settings]
) -> None:
    with serving(call_server(folder)) as live:
        assert live.edit({"model": "test-free"}).status_code == 404
        message = live.edit({"model": "test-free"}).json()["error"]["message"]
        assert "upscale weights pull test-free" in message
        assert call("weights", "pull", "test-free").returncode == 0
        names = [m["id"] for m in live.client.get("/openai/v1/models").json()["data"]]
        assert "test-free" in names
        assert live.edit({"model": "test-free"}).status_code == 200
        call("weights", "remove", "test-free")
        names = [m["id"] for m in live.client.get("/openai/v1/models").json()["data"]]
        assert "test-free" not in names
        assert live.edit({"model": "test-free"}).status_code == 404
        assert [n.name for n in Store(folder).networks()] == ["bundled-x4"]


@pytest.fixture
def call_server(tmp_path: Path) -> Callable[..., Settings]:
    """Settings of a server beside the command's."""
    return lambda folder: Settings(weights_dir=folder, data_dir=tmp_path / "server")
