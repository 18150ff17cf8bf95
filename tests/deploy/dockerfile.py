"""Just enough of Dockerfiles and .dockerignore to ask questions of ours."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

WORDS = re.compile(
    "ADD|ARG|CMD|COPY|ENTRYPOINT|ENV|EXPOSE|FROM|HEALTHCHECK|LABEL|RUN|STOPSIGNAL|USER|VOLUME|WORKDIR"
)


@dataclass(frozen=True)
class Instruction:
    """One instruction, its lines joined: `COPY --from=build /a /b`."""

    word: str
    flags: dict[str, str]
    rest: str

    @property
    def arguments(self) -> list[str]:
        """The exec form, or the words of a shell."""
        return [*json.loads(self.rest)] if self.rest.startswith("[") else shlex.split(self.rest)

    @property
    def pairs(self) -> dict[str, str]:
        """NAME=value of ENV, LABEL and ARG; an ARG without a value has an empty one."""
        return {name: value for name, _, value in (a.partition("=") for a in self.arguments)}


@dataclass
class Stage:
    """What stands between one FROM and the next."""

    base: str
    name: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, word: str) -> list[Instruction]:
        """The instructions of that word, in order."""
        return [i for i in self.instructions if i.word == word]

    def last(self, word: str) -> Instruction:
        """The one of that word that counts."""
        return self.all(word)[-1]

    @property
    def env(self) -> dict[str, str]:
        """What its ENV instructions set."""
        return {k: v for i in self.all("ENV") for k, v in i.pairs.items()}


@dataclass
class Dockerfile:
    """The ARGs before the first FROM, and the stages."""

    arguments: dict[str, str]
    stages: list[Stage]


def parse(text: str) -> Dockerfile:
    """Raises ValueError for an instruction that does not exist."""
    found = Dockerfile({}, [])
    for line in _logical_lines(text):
        word, _, rest = line.partition(" ")
        if not WORDS.fullmatch(word):
            raise ValueError(f"no instruction: {line}")
        flags, rest = _flags(rest.strip())
        one = Instruction(word, flags, rest)
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            found.stages.append(Stage(base.strip(), name.strip()))
        elif not found.stages:
            if word != "ARG":
                raise ValueError(f"before the first FROM: {line}")
            found.arguments |= one.pairs
        else:
            found.stages[-1].instructions.append(one)
    return found


def _logical_lines(text: str) -> Iterator[str]:
    joined = ""
    for line in text.splitlines():
        if line.lstrip().startswith("#") or not line.strip():
            continue
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1].rstrip() + " "
        else:
            yield joined
            joined = ""
    if joined:
        raise ValueError(f"unfinished: {joined}")


def _flags(rest: str) -> tuple[dict[str, str], str]:
    flags = {}
    while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
        flags[match[1]] = match[2]
        rest = rest[match.end() :]
    return flags, rest


class Context:
    """What of the folder `root` the builder gets to see."""

    def __init__(self, root: Path) -> None:
        self._root = root
        lines = (root / ".dockerignore").read_text(encoding="utf-8").splitlines()
        self.rules = [
            (line.startswith("!"), line.lstrip("!").strip("/"))
            for line in map(str.strip, lines)
            if line and not line.startswith("#")
        ]
        self._patterns = [(keep, _pattern(rule)) for keep, rule in self.rules]

    def has(self, path: str) -> bool:
        """Whether `path` (a file or a folder) exists and is sent, whole or in part."""
        return any(True for _ in self.files(path))

    def files(self, under: str = ".") -> Iterator[str]:
        """The files and links sent, links not followed."""
        top = self._root / under
        names = [under] if top.is_file() or top.is_symlink() else self._below(top)
        yield from (name for name in sorted(names) if self._sent(name))

    def _below(self, top: Path) -> Iterator[str]:
        for entry in os.scandir(top):
            name = os.path.relpath(entry.path, self._root)
            if entry.is_file() or entry.is_symlink():
                yield name
            # A folder that no rule brings back may be large: it is not looked into.
            elif self._sent(name) or any(k and r.startswith(f"{name}/") for k, r in self.rules):
                yield from self._below(Path(entry.path))

    def _sent(self, name: str) -> bool:
        """The last rule that matches the path, or a folder that it lies in, decides."""
        parts = name.split("/")
        above = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        verdicts = [k for k, rule in self._patterns if any(rule.fullmatch(a) for a in above)]
        return verdicts[-1] if verdicts else True


def _pattern(rule: str) -> re.Pattern[str]:
    pieces = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    split = re.split(r"(\*\*/|\*\*|\*|\?|\[[^]]*\])", rule)
    return re.compile(
        "".join(
            pieces.get(piece, piece if piece.startswith("[") else re.escape(piece))
            for piece in split
        )
    )
