"""The server, run as the image runs it: its command line, its environment, its folders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.dockerfile import Instruction
from tests.deploy.places import ROOT, image

BIN = Path(sys.executable).parent


@dataclass
class Container:
    """The image's folders and environment, on this machine."""

    environment: dict[str, str]
    folders: dict[str, Path]

    def localized(self, words: list[str]) -> list[str]:
        """A command line of the image: what was copied into it lies in the repository here."""
        copied = {
            i.arguments[-1]: ROOT / i.arguments[0]
            for i in image().all("COPY")
            if "from" not in i.flags
        }
        program = str(BIN / words[0])
        return [program, *(str(copied.get(word, word)) for word in words[1:])]

    @contextmanager
    def serving(self, *before: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
        """The image's entry point with its default command, on a free port; gives the port."""
        words = image().last("ENTRYPOINT").arguments + image().last("CMD").arguments
        process = subprocess.Popen(
            [*before, *self.localized(words), "--port", "0"],
            env=self.environment,
            cwd=self.folders["/data"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"http://127\.0\.0\.1:(\d+)", line)
            if match is None:
                raise AssertionError(line + process.communicate(timeout=60)[1])
            yield process, int(match[1])
            process.terminate()
            process.communicate(timeout=60)
        finally:
            process.kill()
            process.communicate()

    def health(self, port: int) -> subprocess.CompletedProcess[str]:
        """The image's HEALTHCHECK, once."""
        check = image().last("HEALTHCHECK")
        command = Instruction("CMD", {}, check.rest.removeprefix("CMD ")).arguments
        return subprocess.run(
            self.localized(command),
            env=self.environment | {"UPSCALE_PORT": str(port)},
            capture_output=True,
            text=True,
            check=False,
            timeout=float(check.flags["timeout"].removesuffix("s")),
        )


@pytest.fixture
def container(tmp_path: Path) -> Container:
    """As `docker run` makes it: empty volumes, the image's variables and no others of ours."""
    folders = {}
    for volume in image().last("VOLUME").arguments:
        folders[volume] = tmp_path / volume.strip("/")
        folders[volume].mkdir(mode=0o700)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("UPSCALE_")}
    for name, value in image().env.items():
        for volume, folder in folders.items():
            if value == volume or value.startswith(volume + "/"):
                value = str(folder) + value.removeprefix(volume)
        environment[name] = value
    environment["PATH"] = f"{BIN}:{os.environ['PATH']}"
    return Container(environment, folders)


@pytest.fixture
def isolated() -> Callable[..., list[str]]:
    """Words to put before a command, so that it may write to some folders only and has no rights
    beyond its user's; skips where this machine does not let us."""

    def _isolated(*writable: Path) -> list[str]:
        script = 'for p in "$@"; do [ "$p" = -- ] && break; mount --bind "$p" "$p"; shift; done; '
        script += "shift; mount -o remount,bind,ro /; "
        script += 'exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"'
        words = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script, "sh"]
        words += [*map(str, writable), "--"]
        try:
            done = subprocess.run([*words, "true"], capture_output=True, text=True, check=False)
        except FileNotFoundError as missing:
            pytest.skip(f"no {missing.filename} here")
        if done.returncode:
            pytest.skip(f"no mount namespaces here: {done.stderr.strip()}")
        return words

    return _isolated
