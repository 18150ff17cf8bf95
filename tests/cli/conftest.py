"""The command, as a real process or (much faster) in this one, and pictures to feed it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

from upscale.cli.record import LOCK, NAME

Run = Callable[..., subprocess.CompletedProcess[str]]


def draw(path: Path, size: tuple[int, int] = (12, 9), colour: str = "teal") -> Path:
    """A small picture at `path`, in the format of its ending."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def visible(folder: Path) -> list[str]:
    """Names in a folder, without those of the record."""
    names = (path.name for path in folder.iterdir())
    return sorted(name for name in names if name not in (NAME, LOCK))


@pytest.fixture
def run(shared_data_dir: Path, tmp_path: Path) -> Run:
    """Runs `upscale ARGUMENTS` in the test's folder; `env` adds to the environment."""

    def _run(
        *arguments: object, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command(*arguments),
            cwd=tmp_path,
            env=environment(shared_data_dir) | (env or {}),
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            check=False,
            timeout=120,
        )

    return _run


@pytest.fixture
def call(
    shared_data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    """As `run`, in this process, which has loaded torch but once."""
    monkeypatch.chdir(tmp_path)
    for name, value in environment(shared_data_dir).items():
        monkeypatch.setenv(name, value)
    root = logging.getLogger("upscale")
    before = root.handlers[:], root.level, root.propagate

    def _call(*arguments: object) -> subprocess.CompletedProcess[str]:
        from upscale.cli import main

        words = [os.fsdecode(word) for word in command(*arguments)[3:]]
        monkeypatch.setattr(sys, "argv", ["upscale", *words])
        with pytest.raises(SystemExit) as end, warnings.catch_warnings():
            main()
        written = capsys.readouterr()
        code = end.value.code
        return subprocess.CompletedProcess(words, int(code or 0), written.out, written.err)

    yield _call
    root.handlers[:], root.level, root.propagate = before


def command(*arguments: object) -> list[str | bytes]:
    """The command line of `upscale ARGUMENTS`."""
    raw = [os.fsencode(a) if isinstance(a, Path) else str(a) for a in arguments]
    return [sys.executable, "-m", "upscale.cli", *raw]


def environment(data: Path) -> dict[str, str]:
    """The environment of such a process."""
    quiet = {"UPSCALE_DATA_DIR": str(data), "UPSCALE_LOG_LEVEL": "error"}
    return {**os.environ, **quiet}
