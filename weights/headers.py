"""What a file of weights says of itself, read without torch and before anything of its size is
allocated: names and shapes of its tensors, and whether it wants to run code.

Knows safetensors and what torch.save writes, as a zip archive or in the older form. Nothing that a
pickle names is ever imported: its few harmless functions have stand-ins here that keep shapes only.
"""

from __future__ import annotations

import json
import math
import pickle
import struct
import zipfile
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from upscale.errors import CheckpointError
from upscale.weights.magic import kind_of

SUFFIXES = (".safetensors", ".pth", ".ckpt")
"""Endings of the files that are loaded."""

# What a pickle of plain weights may name; the same list decides when the weights are loaded.
SAFE_GLOBALS = frozenset(
    {
        ("collections", "OrderedDict"),
        ("typing", "OrderedDict"),
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch", "BFloat16Storage"),
        ("torch", "FloatStorage"),
        ("torch", "HalfStorage"),
        ("torch", "IntStorage"),
        ("torch", "LongStorage"),
        ("torch", "DoubleStorage"),
    }
)

# Descriptions are small beside the weights: 174 MB of weights have 300 kB of them.
_MAX_PICKLE = 64 << 20
_MAX_JSON = 100 << 20
_MAX_MEMO = 1 << 24

_ITEM_BYTES = {
    "BFloat16Storage": 2,
    "HalfStorage": 2,
    "FloatStorage": 4,
    "IntStorage": 4,
    "LongStorage": 8,
    "DoubleStorage": 8,
}

# Checkpoints of trainers have tables in tables, three deep or so.
_MAX_DEPTH = 32

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C

# What the readers raise on files that are cut, broken or made to break them.
_READ_ERRORS = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    struct.error,
    AttributeError,
    EOFError,
    IndexError,
    KeyError,
    MemoryError,
    NotImplementedError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Limits:
    """The largest checkpoint that is looked into: bytes, on disk and expanded, and parameters."""

    bytes: int
    parameters: int


@dataclass(frozen=True)
class Header:
    """What is in a file: shapes of tensors by name (nested names joined by dots), `bytes` once
    expanded, and the names that a pickle has which are not those of plain weights.
    """

    tensors: dict[str, tuple[int, ...]]
    bytes: int
    foreign: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Numbers in all tensors together."""
        return sum(math.prod(shape) for shape in self.tensors.values())


def loaded_suffix(path: Path) -> str:
    """The ending that decides how a file is read: `.pt` and `.pth.tar` are read as `.pth`."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".pt"] or suffixes[-2:] in ([".pth", ".tar"], [".pt", ".tar"]):
        return ".pth"
    return path.suffix.lower()


def read_header(path: Path, limits: Limits) -> Header:
    """The header of a checkpoint that may be loaded.

    Raises CheckpointError, with what was recognised, for a file of another kind, one over the
    limits, and one that would run code.
    """
    suffix = loaded_suffix(path)
    try:
        size, kind = path.stat().st_size, kind_of(path)
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}.") from error
    if suffix not in SUFFIXES:
        what = f" This is {kind}." if kind else ""
        raise CheckpointError(
            f"{path.name}: weights are read from {', '.join(SUFFIXES)} files only.{what}"
        )
    if size == 0:
        raise CheckpointError(f"{path.name} is empty.")
    if kind is not None:
        raise CheckpointError(f"{path.name} is {kind}, not a checkpoint that can be used.")
    _check_bytes(path, size, limits)
    try:
        header = _read(path, suffix, size, limits)
    except _READ_ERRORS as error:
        raise CheckpointError(
            f"{path.name} cannot be read as a checkpoint: {first_line(error)}"
        ) from error
    if header.foreign:
        raise CheckpointError(_wants_code(path, header.foreign))
    _check_bytes(path, header.bytes, limits)
    if header.parameters > limits.parameters:
        raise CheckpointError(
            f"{path.name} holds {header.parameters:,} parameters; "
            f"UPSCALE_MAX_CHECKPOINT_PARAMETERS allows {limits.parameters:,}."
        )
    return header


def first_line(error: Exception) -> str:
    """The first line of what a reader said."""
    said = str(error).strip().splitlines()
    return said[0][:200] if said else type(error).__name__


def _read(path: Path, suffix: str, size: int, limits: Limits) -> Header:
    with path.open("rb") as file:
        if suffix == ".safetensors":
            return _read_safetensors(file, size)
        if zipfile.is_zipfile(path):
            return _read_zip(path, size, limits)
        if _looks_like_safetensors(file, size):
            raise CheckpointError(
                f"{path.name} is a safetensors file; rename it to end in .safetensors."
            )
        return _read_legacy(file, size)


def _read_safetensors(file: IO[bytes], size: int) -> Header:
    (length,) = struct.unpack("<Q", file.read(8))
    if length > min(_MAX_JSON, size - 8):
        raise ValueError(f"its header claims {length:,} bytes")
    entries = json.loads(file.read(length))
    if not isinstance(entries, dict):
        raise ValueError("its header is no table of tensors")
    tensors = {}
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        if not 0 <= begin <= end <= size - 8 - length:
            raise ValueError(f"the tensor {name[:60]} lies outside the file")
        tensors[name] = _shape(entry["shape"])
    return Header(tensors, size)


def _looks_like_safetensors(file: IO[bytes], size: int) -> bool:
    head = file.read(9)
    file.seek(0)
    return len(head) == 9 and head[8:] == b"{" and struct.unpack("<Q", head[:8])[0] <= size


def _read_zip(path: Path, size: int, limits: Limits) -> Header:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        names = [member.filename for member in members]
        if any(name.endswith("constants.pkl") or "/code/" in name for name in names):
            raise CheckpointError(
                f"{path.name} is a TorchScript archive, which carries code; "
                "only plain weights are loaded."
            )
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(
                f"{path.name} is a zip archive ({', '.join(names[:3])[:200]}), not a checkpoint; "
                "unpack it first if there is one in it."
            )
        expanded = sum(member.file_size for member in members)
        _check_bytes(path, expanded, limits)
        if sum(member.compress_size for member in members) > size:
            raise ValueError("the members of its archive overlap")
        if pickles[0].file_size > _MAX_PICKLE:
            raise ValueError(f"it describes its tensors in {pickles[0].file_size:,} bytes")
        with archive.open(pickles[0]) as file:
            reader = _Reader(file)
            content = reader.read()
            reader.check_storages(expanded)
            return Header(_tensors_in(content), expanded, tuple(reader.foreign))


def _read_legacy(file: IO[bytes], size: int) -> Header:
    """Four pickles (a magic number, a version, the machine, the weights), then raw numbers."""
    reader = _Reader(file)
    content = reader.read()
    if content != _LEGACY_MAGIC and not reader.foreign:
        raise ValueError("it is a pickle, yet none of weights that torch saved")
    for _ in range(3):
        if reader.foreign:
            return Header({}, size, tuple(reader.foreign))
        reader = _Reader(file)
        content = reader.read()
    reader.check_storages(size)
    return Header(_tensors_in(content), size, tuple(reader.foreign))


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]


class _Foreign:
    """Stands for whatever a pickle wants that is not of plain weights. Does nothing."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, value: object) -> None:
        pass

    def extend(self, values: object) -> None:
        pass

    def add(self, value: object) -> None:
        pass


# The reader in Python; the faster one in C lets a pickle say how much memory it takes.
class _Reader(pickle._Unpickler):
    """Reads one pickle into shapes. `foreign` collects what it names beyond plain weights."""

    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.foreign: list[str] = []
        self._storages: dict[object, int] = {}

    def read(self) -> object:
        """What the pickle holds; None where what is foreign in it keeps it from being read."""
        try:
            content: object = self.load()
        except _READ_ERRORS:
            if self.foreign:
                return None
            raise
        # The faster reader allocates by the largest place that a pickle claims to use.
        if any(place > _MAX_MEMO for place in self.memo):  # type: ignore[attr-defined]
            raise ValueError("its pickle was made to take all memory")
        return content

    def check_storages(self, available: int) -> None:
        """Raise ValueError where it claims more bytes of numbers than are there."""
        claimed = sum(self._storages.values())
        if claimed > available:
            raise ValueError(f"it claims {claimed:,} bytes of numbers and has {available:,}")

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE_GLOBALS:
            self.foreign.append(f"{module}.{name}"[:100])
            return _Foreign
        if name == "_rebuild_tensor_v2":
            return lambda storage, offset, shape, *rest: _Tensor(_shape(shape))
        return OrderedDict if name == "OrderedDict" else name

    def persistent_load(self, pid: object) -> object:
        """Notes what a storage claims to hold: ('storage', type, key, place, numbers, ...)."""
        if not isinstance(pid, tuple) or len(pid) < 5 or not isinstance(pid[4], int) or pid[4] < 0:
            raise ValueError("a storage is not described as torch does it")
        self._storages[pid[2]] = pid[4] * _ITEM_BYTES.get(str(pid[1]), 1)
        return pid[2]


def _tensors_in(content: object) -> dict[str, tuple[int, ...]]:
    """All tensors in nested tables, by name. Tables that contain themselves are walked once."""
    found: dict[str, tuple[int, ...]] = {}
    seen: set[int] = set()
    todo: list[tuple[str, int, object]] = [("", 0, content)]
    while todo:
        name, depth, value = todo.pop()
        if isinstance(value, _Tensor):
            found[name] = value.shape
        elif isinstance(value, dict) and id(value) not in seen:
            if depth == _MAX_DEPTH:
                raise ValueError("its tables are nested too deeply")
            seen.add(id(value))
            inner = [(f"{name}.{key}" if name else str(key), v) for key, v in value.items()]
            todo += [(key[:500], depth + 1, v) for key, v in reversed(inner)]
    return found


def _shape(value: object) -> tuple[int, ...]:
    if not isinstance(value, list | tuple) or not all(
        isinstance(side, int) and side >= 0 for side in value
    ):
        raise ValueError("a tensor has no proper shape")
    return tuple(value)


def _check_bytes(path: Path, size: int, limits: Limits) -> None:
    if size > limits.bytes:
        raise CheckpointError(
            f"{path.name} is {size:,} bytes large; UPSCALE_MAX_CHECKPOINT_BYTES allows "
            f"{limits.bytes:,}."
        )


def _wants_code(path: Path, foreign: tuple[str, ...]) -> str:
    names = ", ".join(dict.fromkeys(foreign[:3]))
    if any(name.startswith("torch.nn.") for name in foreign):
        return (
            f"{path.name} holds a whole module ({names}), and wants to run code "
            "when it is read; refused. Ask for its state dict, best as .safetensors."
        )
    return (
        f"{path.name} wants to run code when it is read ({names}); refused. "
        "Ask for a .safetensors file or plain weights."
    )
