"""The systemd unit: its words are systemd's, its command and variables are ours."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from tests.deploy.places import (
    DEPLOY,
    DRAINED_SECONDS,
    LIBRARY_CACHES,
    SETTINGS,
    image,
    named_settings,
)
from upscale.settings import Settings

UNIT = DEPLOY / "upscale.service"
DROP_IN = DEPLOY / "local-only.conf"

Sections = dict[str, dict[str, list[str]]]


def read(path: Path) -> Sections:
    """Sections, names and the values given to each, in order."""
    found: Sections = defaultdict(lambda: defaultdict(list))
    section = ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            section = line.strip("[]")
            continue
        name, sign, value = line.partition("=")
        assert sign, f"{path.name}:{number}"
        assert name.isalnum(), f"{path.name}:{number}"
        found[section][name].append(value)
    return found


def variables(service: dict[str, list[str]]) -> dict[str, str]:
    return dict(value.split("=", 1) for value in service["Environment"])


@pytest.fixture
def service() -> dict[str, list[str]]:
    return read(UNIT)["Service"]


def test_it_has_three_sections_and_says_nothing_twice(service: dict[str, list[str]]) -> None:
    unit = read(UNIT)
    assert list(unit) == ["Unit", "Service", "Install"]
    twice = {name for section in unit.values() for name, values in section.items() if values[1:]}
    assert twice == {"Environment"}


def test_it_runs_what_the_image_runs(service: dict[str, list[str]]) -> None:
    (command,) = service["ExecStart"]
    program, *arguments = command.split()
    ours = image()
    assert [Path(program).name] == ours.last("ENTRYPOINT").arguments
    assert arguments == ours.last("CMD").arguments
    done = subprocess.run(
        [str(Path(sys.executable).parent / Path(program).name), *arguments, "--help"],
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("path", [UNIT, DROP_IN], ids=lambda p: p.name)
def test_its_variables_are_settings(path: Path) -> None:
    assert set(variables(read(path)["Service"])) <= SETTINGS | LIBRARY_CACHES
    assert named_settings(path.read_text(encoding="utf-8")) <= SETTINGS


def test_all_that_is_written_lies_in_its_state_folder(service: dict[str, list[str]]) -> None:
    (folder,) = service["StateDirectory"]
    environment = variables(service)
    assert environment["UPSCALE_DATA_DIR"] == f"%S/{folder}"
    assert "UPSCALE_WEIGHTS_DIR" not in environment
    settings = Settings(data_dir=Path(f"%S/{folder}"))
    assert settings.weights_folder.is_relative_to(f"%S/{folder}")
    for name in LIBRARY_CACHES:
        assert Path(environment[name]).is_relative_to(settings.cache_folder)
    assert service["StateDirectoryMode"] == ["0700"]
    assert service["ProtectSystem"] == ["strict"]
    assert not {"ReadWritePaths", "BindPaths"} & set(service)


def test_it_keeps_to_loopback_by_itself(service: dict[str, list[str]]) -> None:
    named = named_settings(UNIT.read_text(encoding="utf-8"))
    assert not {"UPSCALE_HOST", "UPSCALE_ALLOW_ANONYMOUS"} & named
    assert Settings.model_fields["host"].default == "127.0.0.1"


def test_it_may_do_little(service: dict[str, list[str]]) -> None:
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "RestrictNamespaces"):
        assert service[name] == ["yes"], name
    assert service["CapabilityBoundingSet"] == [""]
    assert service["DeviceAllow"] == ["char-nvidia* rw"]
    assert service["DevicePolicy"] == ["closed"]
    assert service["LimitCORE"] == ["0"]
    # torch and CUDA's driver write machine code: this would end them.
    assert "MemoryDenyWriteExecute" not in service


def test_it_ends_in_peace(service: dict[str, list[str]]) -> None:
    assert service["KillMode"] == ["mixed"]
    assert float(service["TimeoutStopSec"][0]) >= DRAINED_SECONDS


def test_what_is_refused_is_not_tried_again(service: dict[str, list[str]]) -> None:
    from upscale.cli.console import USAGE

    assert service["RestartPreventExitStatus"] == [str(USAGE)]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd here")
def test_systemd_finds_no_mistake(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    program = read(UNIT)["Service"]["ExecStart"][0].split()[0]
    text = UNIT.read_text(encoding="utf-8").replace(program, "/bin/true")
    unit.write_text(text, encoding="utf-8")
    drop_in = tmp_path / f"{UNIT.name}.d" / DROP_IN.name
    drop_in.parent.mkdir()
    shutil.copy(DROP_IN, drop_in)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    ours = [line for line in done.stderr.splitlines() if "upscale" in line or "local-only" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_example_of_settings_is_true() -> None:
    """Every line, with its # taken away, is a setting with an allowed value; none is in effect."""
    values = {}
    for line in (DEPLOY / "upscale.env").read_text(encoding="utf-8").splitlines():
        assert not line or line.startswith("#"), line
        if line.startswith("#UPSCALE_"):
            name, value = line.removeprefix("#").split("=")
            assert name in SETTINGS, name
            values[name.removeprefix("UPSCALE_").lower()] = value
    assert len(values) > 5
    defaults = Settings()
    given = Settings.model_validate(values)
    for name in ("port", "device", "max_input_pixels", "max_output_pixels", "queue_limit"):
        assert getattr(given, name) == getattr(defaults, name), name
