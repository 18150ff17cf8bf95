"""The image: what goes into it, whose it is, where it writes, and that its commands work."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx
import pytest

from tests.deploy.conftest import Container
from tests.deploy.dockerfile import Context, parse
from tests.deploy.places import LIBRARY_CACHES, ROOT, SETTINGS, dockerfile, image, named_settings
from upscale import __version__
from upscale.settings import Settings

ROOMS = sorted(p.name for p in (ROOT / "upscale").iterdir() if p.is_symlink())


@pytest.mark.parametrize("text", ["FORM a", "RUN x", "FROM a\nRUN b \\"])
def test_the_parser_refuses_what_is_no_dockerfile(text: str) -> None:
    with pytest.raises(ValueError, match=r"no instruction|before the first|unfinished"):
        parse(text)


def test_ignore_rules_are_read_as_docker_reads_them(tmp_path: Path) -> None:
    for name in ("a.py", "room/b.py", "room/deep/c.pyc", "room/deep/d", "other/e", "secret"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / ".dockerignore").write_text("# why\n*\n!a.py\n!room\n!other/e\n**/*.py[cod]\n")
    assert list(Context(tmp_path).files()) == ["a.py", "other/e", "room/b.py", "room/deep/d"]


def test_each_source_of_a_copy_is_there_and_sent() -> None:
    context = Context(ROOT)
    for stage in dockerfile().stages:
        for copy in stage.all("COPY"):
            if "from" not in copy.flags:
                for source in copy.arguments[:-1]:
                    assert context.has(source), source


def test_the_rooms_are_sent_and_little_else() -> None:
    sent = {name.split("/")[0] for name in Context(ROOT).files()}
    files = {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    assert sent == {"upscale", "deploy", *ROOMS, *files}
    assert list(Context(ROOT).files("deploy")) == ["deploy/health.py"]
    assert not [name for name in Context(ROOT).files() if "__pycache__" in name]


def test_each_rule_of_the_ignore_file_is_of_use() -> None:
    for keep, rule in Context(ROOT).rules:
        assert not keep or (ROOT / rule).exists(), rule


def test_stages_and_arguments_resolve() -> None:
    found = dockerfile()
    names: list[str] = []
    for stage in found.stages:
        argument = re.fullmatch(r"\$\{(\w+)\}", stage.base)
        assert stage.base in names or (argument and argument[1] in found.arguments), stage.base
        sources = [i.flags["from"] for i in stage.all("COPY") if "from" in i.flags]
        assert set(sources) <= set(names)
        names.append(stage.name)
    # Interpreters of a virtual environment are links: both stages have the same one.
    assert found.stages[-1].base == found.stages[1].base == "python"


def test_the_base_has_the_cuda_that_torch_brings_and_not_its_libraries() -> None:
    base = dockerfile().arguments["BASE"]
    match = re.fullmatch(r"nvidia/cuda:([\d.]+)-base-ubuntu24\.04", base)
    assert match, base
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"\ncuda-toolkit=={match[1]}." in constraints


def test_it_is_labelled_with_this_version() -> None:
    arguments = {k: v for i in image().all("ARG") for k, v in i.pairs.items()}
    assert arguments["VERSION"] == __version__
    labels = image().last("LABEL").pairs
    assert labels["org.opencontainers.image.version"] == "${VERSION}"
    assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"


def test_its_user_is_a_number_and_not_root() -> None:
    user, group = image().last("USER").arguments[0].split(":")
    made = " ".join(i.rest for i in image().all("RUN"))
    assert int(user) > 0
    assert int(group) > 0
    assert f"--uid {user} " in made
    assert f"groupadd --gid {group} " in made
    words = [i.word for i in image().instructions]
    assert "RUN" not in words[words.index("USER") :]


def test_all_that_is_written_lies_in_the_volumes() -> None:
    environment, volumes = image().env, image().last("VOLUME").arguments
    settings = _settings(environment)
    assert {str(settings.data_dir), str(settings.weights_folder)} == set(volumes)
    assert settings.cache_folder.is_relative_to(settings.data_dir)
    for name in LIBRARY_CACHES:
        assert Path(environment[name]).is_relative_to(settings.cache_folder), name
    assert environment["HOME"] in volumes
    made = next(i.rest for i in image().all("RUN") if "install -d" in i.rest)
    assert f"install -d -m 0700 -o upscale -g upscale {' '.join(volumes)}" in made


def test_its_variables_are_settings() -> None:
    environment = image().env
    ours = {name for name in environment if name.startswith("UPSCALE_")}
    assert ours <= SETTINGS
    assert named_settings((ROOT / "Dockerfile.cuda").read_text(encoding="utf-8")) <= SETTINGS
    assert str(_settings(environment).port) in image().last("EXPOSE").arguments


def test_a_compiler_is_there_if_something_compiles() -> None:
    """Triton compiles its launchers with a C compiler, which the image has no other use for."""
    compiles = any(_imports_triton(p) for room in ROOMS for p in (ROOT / room).rglob("*.py"))
    installed = any(" gcc" in i.rest for s in dockerfile().stages for i in s.all("RUN"))
    assert compiles == installed


@pytest.mark.slow
def test_the_wheel_has_all_that_the_server_needs(tmp_path: Path) -> None:
    """Built from what the builder is sent, with the commands of the build stage."""
    context = tmp_path / "src"
    for name in Context(ROOT).files():
        target = context / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target, follow_symlinks=False)
    build = next(i.rest for i in dockerfile().stages[1].all("RUN") if "pip wheel" in i.rest)
    words = build.split(" && ")[0].replace("/wheels", str(tmp_path / "wheels")).split()
    subprocess.run(
        [sys.executable, "-m", *words], cwd=context, check=True, capture_output=True, text=True
    )
    (wheel,) = (tmp_path / "wheels").iterdir()
    inside = set(zipfile.ZipFile(wheel).namelist())
    for room in ROOMS:
        data = [
            f for f in Context(ROOT).files(room) if f.endswith((".py", ".toml", ".safetensors"))
        ]
        missing = {f"upscale/{f}" for f in data} - inside
        assert not {f for f in missing if "/train/" not in f}
    scripts = next(name for name in inside if name.endswith("entry_points.txt"))
    assert b"upscale = upscale.cli" in zipfile.ZipFile(wheel).read(scripts)


def test_it_refuses_to_serve_until_told_how_it_is_published(container: Container) -> None:
    words = image().last("ENTRYPOINT").arguments + image().last("CMD").arguments
    done = subprocess.run(
        container.localized(words),
        env=container.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "UPSCALE_ALLOW_ANONYMOUS" in done.stderr


def test_it_serves_and_its_health_is_seen(container: Container) -> None:
    container.environment["UPSCALE_ALLOW_ANONYMOUS"] = "1"
    # No proxy is asked about the health of this machine.
    container.environment["http_proxy"] = "http://127.0.0.1:9"
    with container.serving() as (process, port):
        assert httpx.get(f"http://127.0.0.1:{port}/health").json()["status"] == "ok"
        well = container.health(port)
        assert (well.returncode, well.stderr) == (0, "")
        process.terminate()
        assert process.wait(60) == 0
    ill = container.health(port)
    assert ill.returncode == 1
    assert "no answer" in ill.stderr


def test_the_health_command_calls_a_degraded_server_ill() -> None:
    class Degraded(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"status": "degraded"}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Degraded) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        done = subprocess.run(
            [sys.executable, "-I", str(ROOT / "deploy/health.py")],
            env={"UPSCALE_PORT": str(server.server_port)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        thread.join()
    assert (done.returncode, done.stderr) == (1, "degraded\n")


@pytest.mark.slow
def test_it_upscales_where_only_its_volumes_can_be_written(
    container: Container, isolated: Callable[..., list[str]]
) -> None:
    container.environment["UPSCALE_ALLOW_ANONYMOUS"] = "1"
    before = isolated(*container.folders.values())
    denied = subprocess.run([*before, "touch", str(ROOT / "x")], capture_output=True, check=False)
    assert b"Read-only file system" in denied.stderr
    with container.serving(*before) as (_, port), (ROOT / "examples/sample.png").open("rb") as file:
        url = f"http://127.0.0.1:{port}"
        reply = httpx.post(
            f"{url}/openai/v1/images/edits",
            data={"model": "bundled-x4", "scale_factor": "2"},
            files={"image": file},
            timeout=300,
        )
        assert reply.status_code == 200, reply.text
        link = reply.json()["data"][0]["url"]
        assert httpx.get(link).content.startswith(b"\x89PNG")
    folder = container.folders["/data"]
    assert {p.name for p in folder.iterdir()} >= {"spool", "media", "cache"}
    assert list((folder / "cache").rglob("*.json"))


def _settings(environment: dict[str, str]) -> Settings:
    ours = {
        name.removeprefix("UPSCALE_").lower(): value
        for name, value in environment.items()
        if name.startswith("UPSCALE_")
    }
    return Settings.model_validate(ours)


def _imports_triton(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] == "triton" for name in names):
            return True
    return False
