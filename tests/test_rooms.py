"""The rooms: links match folders, imports point downwards only, and light rooms stay light."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What each room may import, besides itself and the small shared modules of `upscale`.
MAY_IMPORT: dict[str, set[str]] = {
    "kernels": set(),
    "imaging": {"kernels"},
    "weights": set(),
    "models": {"weights", "kernels"},
    "engine": {"models", "weights", "imaging", "kernels"},
    "providers": {"models", "imaging"},
    "server": {"providers", "engine", "imaging", "models", "weights"},
    "cli": {"server", "providers", "engine", "imaging", "models", "weights", "kernels"},
}
SHARED = {"errors", "logs", "settings", "_version"}

# The training recipe stands apart and may import what it needs.
APART = ROOT / "weights" / "train"

WITHOUT_TORCH = (
    "upscale.server.app",
    "upscale.providers",
    "upscale.cli",
    "upscale.cli.app",
    "upscale.models.catalogue",
    "upscale.engine.client",
    "upscale.weights.store",
)


def _modules(room: str) -> Iterator[Path]:
    yield from (p for p in sorted((ROOT / room).rglob("*.py")) if APART not in p.parents)


def _imports(path: Path) -> Iterator[str]:
    """Full names of all that a module imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are by the full name"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_each_room_is_a_link_in_the_package() -> None:
    links = {p.name: os.readlink(p) for p in (ROOT / "upscale").iterdir() if p.is_symlink()}
    assert links == {room: f"../{room}" for room in MAY_IMPORT}
    assert all((ROOT / room / "__init__.py").is_file() for room in MAY_IMPORT)


def test_each_room_says_what_belongs_in_it() -> None:
    for room in MAY_IMPORT:
        docstring = ast.get_docstring(ast.parse((ROOT / room / "__init__.py").read_text()))
        assert docstring, room
        assert len(docstring) > 80, room


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_downwards(room: str) -> None:
    allowed = MAY_IMPORT[room] | SHARED | {room}
    wrong = []
    for path in _modules(room):
        for name in _imports(path):
            parts = name.split(".")
            assert parts[0] not in MAY_IMPORT, f"{path} imports a room by its bare name: {name}"
            if parts[0] == "upscale" and len(parts) > 1:
                target = parts[1]
                if target not in allowed and target != "__version__":
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not wrong


def test_shared_modules_import_no_room() -> None:
    for path in (ROOT / "upscale").glob("*.py"):
        rooms = [n for n in _imports(path) if n.split(".")[0:2][-1] in MAY_IMPORT]
        assert not rooms, path


def test_only_the_engine_and_models_touch_torch() -> None:
    for room in ("server", "providers", "cli"):
        for path in _modules(room):
            torch = [name for name in _imports(path) if name.split(".")[0] == "torch"]
            assert not torch, path


def test_only_settings_read_the_environment() -> None:
    for room in ("upscale", *MAY_IMPORT):
        for path in _modules(room) if room != "upscale" else sorted((ROOT / room).glob("*.py")):
            if path.name == "settings.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                read = isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}
                assert not read, f"{path} reads the environment"


@pytest.mark.parametrize("module", WITHOUT_TORCH)
def test_loads_without_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "False"
