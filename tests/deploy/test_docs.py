"""What the pages on deployment say can be done: commands, settings, files and links exist."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from tests.deploy.conftest import BIN
from tests.deploy.places import ROOT, SETTINGS, dockerfile, image, named_settings
from upscale.cli.app import app
from upscale.settings import Settings
from upscale.weights.known import load_manifest

PAGES = [ROOT / "docs" / "deployment.md", ROOT / "docs" / "offline.md"]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def shell_lines(text: str) -> Iterator[list[str]]:
    """The words of each command in a page's blocks of shell; lines that go on are joined."""
    language = None
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("```"):
            language = line.removeprefix("```") if language is None else None
        elif language == "" and line:
            yield shlex.split(line, comments=True)


def calls(text: str) -> Iterator[list[str]]:
    """What follows `upscale` where it is run: `weights import FILE`. Inline code counts too."""
    for words in shell_lines(text):
        for place, word in enumerate(words):
            run = words[:2] == ["docker", "run"] and word == "upscale:cuda"
            if run or word.endswith("/bin/upscale"):
                yield words[place + 1 :]
        if words[:2] == ["docker", "compose"] and words[2] in ("run", "exec"):
            after = words[words.index("upscale") + 1 :]
            yield after[1:] if words[2] == "exec" and after[0] == "upscale" else after
    for code in re.findall(r"`upscale ([a-z][^`]*)`", text):
        yield shlex.split(code)


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words after it."""
    found: Any = typer.main.get_command(app)
    while hasattr(found, "commands") and words and not words[0].startswith("-"):
        assert words[0] in found.commands, words
        found, words = found.commands[words[0]], words[1:]
    return found, words


@pages
def test_named_settings_exist(page: Path) -> None:
    named = named_settings(text_of(page))
    assert named
    assert named <= SETTINGS


@pages
def test_named_commands_and_options_exist(page: Path) -> None:
    for words in calls(text_of(page)):
        found, rest = command_of(words)
        options = {option for p in found.params for option in p.opts} | {"--help"}
        assert {w.split("=")[0] for w in rest if w.startswith("-")} <= options, words


@pages
def test_known_networks_that_are_pulled_exist(page: Path) -> None:
    pulled = [words[2] for words in calls(text_of(page)) if words[:2] == ["weights", "pull"]]
    assert pulled
    for name in pulled:
        assert load_manifest().by_id(name) is not None, name


def test_commands_are_found_in_pages() -> None:
    found = [command_of(words)[0].name for page in PAGES for words in calls(text_of(page))]
    assert {"pull", "export", "import", "verify", "doctor", "image"} <= set(found)


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve()
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", text_of(file), re.M)
            assert anchor in {h.lower().replace(" ", "-") for h in headings}, target


@pages
def test_files_of_the_repository_that_commands_name_exist(page: Path) -> None:
    named = {w for words in shell_lines(text_of(page)) for w in words if w.startswith("deploy/")}
    assert named
    for name in named:
        assert (ROOT / name).is_file(), name


@pages
def test_build_arguments_exist(page: Path) -> None:
    found = dockerfile()
    known = {*found.arguments, *(n for s in found.stages for i in s.all("ARG") for n in i.pairs)}
    assert set(re.findall(r"--build-arg (\w+)=", text_of(page))) <= known


def test_the_proxy_takes_bodies_as_large_as_the_server_does() -> None:
    match = re.search(r"client_max_body_size (\d+)m;", text_of(PAGES[0]))
    assert match
    assert int(match[1]) << 20 == Settings.model_fields["max_body_bytes"].default


def test_the_container_by_hand_is_the_one_of_compose() -> None:
    (words,) = (w for w in shell_lines(text_of(PAGES[0])) if w[:3] == ["docker", "run", "-d"])
    line = " ".join(words)
    for option in ("--read-only", "--cap-drop ALL", "--security-opt no-new-privileges", "--init"):
        assert f"{option} " in line
    assert "-p 127.0.0.1:8000:8000 -e UPSCALE_ALLOW_ANONYMOUS=1" in line
    for volume in image().last("VOLUME").arguments:
        assert f":{volume} " in line
    assert image().last("USER").rest in text_of(PAGES[0])


@pytest.mark.slow
def test_it_works_where_there_is_no_network(tmp_path: Path, shared_data_dir: Path) -> None:
    """The proof that the page on sites without internet tells to make."""
    (words,) = (w for w in shell_lines(text_of(PAGES[1])) if w[0] == "unshare")
    before = words[: next(i for i, w in enumerate(words) if w.endswith("/bin/upscale"))]
    try:
        done = subprocess.run([*before, "true"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no unshare here")
    if done.returncode:
        pytest.skip(f"no network namespaces here: {done.stderr.strip()}")
    result = tmp_path / "large.png"
    sample = ROOT / "examples" / "sample.png"
    subprocess.run(
        [*before, str(BIN / "upscale"), "image", str(sample), "-o", str(result), "-s", "2"],
        check=True,
        capture_output=True,
        timeout=300,
    )
    assert result.stat().st_size > 1000
