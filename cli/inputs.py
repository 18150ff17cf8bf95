"""Which files the arguments of a command mean: files, folders, patterns. Reads names and first
bytes only; knows nothing of pictures beyond what `imaging.kinds` tells.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from upscale.errors import UnreadableImage
from upscale.imaging.kinds import kind, read_head

# Files with these endings are meant to be pictures: broken ones are reported, not passed over.
_PICTURE_ENDINGS = {
    *(".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".gif", ".tif", ".tiff"),
    *(".bmp", ".dib", ".avif"),
}


@dataclass(frozen=True)
class Input:
    """A file to upscale. `folder` is where it goes below the output folder ('' for its top);
    `named` says that the caller named this very file, not a folder that holds it."""

    path: Path
    folder: Path = Path()
    named: bool = True


@dataclass
class Found:
    """What was found: inputs in a fixed order, how many files were passed over, what is wrong."""

    inputs: list[Input] = field(default_factory=list)
    passed_over: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)


def collect(arguments: Iterable[str], *, output: Path | None = None) -> Found:
    """The files that `arguments` mean, each once, in the order of the arguments, then by name.

    A name that exists is taken as it is; otherwise one with *, ? or [ is a pattern (** crosses
    folders). Folders are read recursively and keep their tree; with several of them each goes into
    a folder of its own name. Hidden names, what is no picture, pipes, sockets, folders seen before
    (loops of links) and the folder `output` itself are passed over in them, and by patterns.
    """
    found, seen = Found(), set[str]()
    expanded = [item for argument in arguments for item in _expand(argument, output, found)]
    several = sum(os.path.isdir(item.path) for item in expanded) > 1
    for item in expanded:
        new: Iterable[Input]
        if os.path.isdir(item.path):
            own = several or not item.named
            top = item.folder / _own_name(item.path) if own else item.folder
            new = _walk(item.path, top, output, found)
        elif item.named:
            new = _checked(item, found)
        else:
            new = [item]
        for one in new:
            key = os.path.abspath(one.path)
            if key not in seen:
                seen.add(key)
                found.inputs.append(one)
    return found


def _expand(argument: str, output: Path | None, found: Found) -> Iterator[Input]:
    """What exists of an argument: files and folders."""
    path = Path(argument)
    if os.path.lexists(argument):
        yield Input(path)
        return
    magic = glob.has_magic(argument)
    names = glob.glob(argument, recursive=True) if magic else []
    if not names:
        what = "nothing matches it" if magic else "there is no such file"
        found.problems.append((argument, f"{what}."))
        return
    fixed, real = _fixed_part(path), set[str]()
    inside = _inside(output, fixed)
    for name in sorted(names, key=lambda name: (name.count(os.sep), os.fsencode(name))):
        # `pictures/**` names folders and what is in them; the files are enough. Through loops of
        # links it names a file many times; the shortest name is enough.
        path, whole = Path(name), os.path.realpath(name)
        if os.path.isdir(path):
            if "**" in argument:
                continue
        elif whole in real or inside(whole) or not _is_meant(path):
            found.passed_over += whole not in real
            real.add(whole)
            continue
        real.add(whole)
        yield Input(path, Path(os.path.relpath(path.parent, fixed)), named=False)


def _inside(output: Path | None, start: Path) -> Callable[[str], bool]:
    """Whether a real path lies in the output folder; never, where the search starts in there."""
    if output is None or not os.path.isdir(output):
        return lambda path: False
    folder = os.path.join(os.path.realpath(output), "")
    if os.path.join(os.path.realpath(start), "").startswith(folder):
        return lambda path: False
    return lambda path: path.startswith(folder)


def _fixed_part(pattern: Path) -> Path:
    """The folder before the first part that holds a wildcard."""
    parts: list[str] = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        parts.append(part)
    return Path(*parts)


def _own_name(folder: Path) -> str:
    return folder.name or folder.resolve().name or "root"


def _checked(item: Input, found: Found) -> Iterator[Input]:
    """A file that was named: everything wrong with it is a problem to report."""
    try:
        mode = item.path.stat().st_mode
    except OSError as error:
        found.problems.append((str(item.path), f"{error.strerror}."))
        return
    if not stat.S_ISREG(mode):
        found.problems.append((str(item.path), "it is no ordinary file."))
        return
    yield item


def _walk(root: Path, top: Path, output: Path | None, found: Found) -> Iterator[Input]:
    """Pictures below `root`. Real folders first, then links to folders that were not seen yet."""
    seen: set[tuple[int, int]] = set()
    if output is not None and os.path.isdir(output) and not os.path.samefile(output, root):
        seen.add(_identity(output))
    found_here: list[Input] = []
    waiting, links = [(root, top)], list[tuple[Path, Path]]()
    while waiting or links:
        folder, below = waiting.pop() if waiting else links.pop(0)
        try:
            if _identity(folder) in seen:
                continue
            seen.add(_identity(folder))
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            found.problems.append((str(folder), f"{error.strerror}."))
            continue
        for entry in entries:
            path = folder / entry.name
            # Unlike the methods of entries and paths, os.path raises for none that is odd.
            is_folder = os.path.isdir(path)
            if entry.name.startswith("."):
                # Records and files in the making, in a folder of results, are nobody's pictures.
                ours = entry.name.startswith(".upscale-")
                found.passed_over += not is_folder and not ours
            elif is_folder:
                (links if os.path.islink(path) else waiting).append((path, below / entry.name))
            elif _is_meant(path):
                found_here.append(Input(path, below, named=False))
            else:
                found.passed_over += 1
    yield from sorted(found_here, key=lambda item: os.fsencode(item.path))


def _identity(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_dev, facts.st_ino


def _is_meant(path: Path) -> bool:
    """Whether a file in a folder is meant to be upscaled. Never opens pipes or devices."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        if path.suffix.lower() in _PICTURE_ENDINGS:
            return True
        kind(read_head(path))
    except (OSError, UnreadableImage):
        return False
    return True
