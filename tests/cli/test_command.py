"""The command itself: help at once, versions, the other subcommands."""

from __future__ import annotations

import json
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run, command
from upscale import __version__
from upscale.cli.serving import curl_line
from upscale.weights.store import Store

HEAVY = {"torch", "fastapi", "pydantic", "numpy", "PIL"}


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from upscale.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
    assert "Exit codes" in done.stdout


def test_help_answers_at_once() -> None:
    """By processor time, which does not count what else the machine does."""
    fastest = 9.0
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command("image", "--help"), capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        fastest = min(fastest, spent)
    assert fastest < 0.5


@pytest.mark.parametrize(
    "arguments",
    [[], *([name] for name in ("image", "serve", "models", "doctor", "weights"))],
    ids=lambda a: " ".join(a) or "upscale",
)
def test_every_command_has_help(run: Run, arguments: list[str]) -> None:
    done = run(*arguments, "--help")
    assert done.returncode == 0
    assert "Usage: upscale" in done.stdout


def test_the_version_is_printed(run: Run) -> None:
    assert run("--version").stdout == f"upscale {__version__}\n"


def test_the_curl_line_names_the_sample_that_is_there() -> None:
    words = shlex.split(curl_line("http://127.0.0.1:8000", keys=False))
    assert words[:2] == ["curl", "http://127.0.0.1:8000/openai/v1/images/edits"]
    (image,) = [w for w in words if w.startswith("image=@")]
    assert Path(image.removeprefix("image=@")).is_file()
    assert {"model=bundled-x4", "scale_factor=4"} <= set(words)
    keyed = shlex.split(curl_line("http://127.0.0.1:8000", keys=True))
    assert set(keyed) - set(words) == {"-H", "Authorization: Bearer $UPSCALE_API_KEY"}


def test_the_doctor_knows_the_bundled_network(call: Run) -> None:
    done = call("doctor", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    bundled = next(n for n in report["networks"] if n["network"] == "bundled-x4")
    assert bundled["contract"]["scale"] == 4
    assert {p["precision"] for p in bundled["proofs"]} >= {"fp32"}
    assert all(folder["writable"] for folder in report["folders"])
    providers = {each["id"]: each["usable"] for each in report["providers"]}
    assert providers["fal"] is False
    assert "clarity" not in providers


def test_installed_networks_are_listed(call: Run) -> None:
    done = call("weights", "list", "--json")
    assert done.returncode == 0, done.stderr
    assert "bundled-x4" in [row["name"] for row in json.loads(done.stdout)]
    assert "bundled-x4" in call("weights", "list").stdout


def test_a_file_that_is_no_checkpoint_is_refused(call: Run, tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_bytes(b"words")
    for name in ("notes.pth", "missing.pth"):
        done = call("weights", "import", name)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr


def test_what_an_import_is_to_be_called_is_checked_before_it_is_measured(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("upscale.cli.weights.LocalEngine", None)
    monkeypatch.setenv("UPSCALE_WEIGHTS_DIR", str(tmp_path / "weights"))
    (tmp_path / "old.pth").write_bytes(b"old")
    Store(tmp_path / "weights").register(
        tmp_path / "old.pth", name="taken", serves=None, replace=False
    )
    (tmp_path / "new.pth").write_bytes(b"new")
    for option, value, code, told in (
        ("--as", "nonsense", 2, "nonsense"),
        ("--name", "real-esrgan", 2, "catalogue"),
        ("--name", "Odd Name", 2, "a-z"),
        ("--name", "taken", 1, "its content differs"),
    ):
        done = call("weights", "import", "new.pth", option, value)
        assert done.returncode == code
        assert told in done.stderr
        assert "Looking" not in done.stderr
