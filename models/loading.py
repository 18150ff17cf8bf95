"""A checkpoint file becomes a Loaded network, or a CheckpointError that says why not.

Works on one file of weights: `.safetensors`, or `.pth` and `.ckpt` through spandrel's restricted
unpickler. Knows nothing of catalogues, plans or tiles. Multi-branch networks are brought to their
plain form here, once, in fp32 (`models.fuse`).
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from upscale.errors import CheckpointError
from upscale.models.fuse import fuse
from upscale.models.spandrel_import import (
    ImageModelDescriptor,
    ModelLoader,
    UnsupportedModelError,
)
from upscale.weights.store import SUFFIXES

# A zip archive may expand; no checkpoint of a picture network comes near this.
_MAX_EXPANDED_BYTES = 16 << 30

# What spandrel and the readers below it raise on broken or foreign files; measured on files of
# each kind. AssertionError and KeyError come from architectures that check while they load.
_LOAD_ERRORS = (
    UnsupportedModelError,
    pickle.UnpicklingError,
    SafetensorError,
    RuntimeError,
    NotImplementedError,
    AttributeError,
    AssertionError,
    EOFError,
    OSError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class Loaded:
    """A network in memory: spandrel's descriptor around an fp32 module on the CPU, in eval mode."""

    descriptor: ImageModelDescriptor[Any]
    parameters: int

    @property
    def architecture(self) -> str:
        """spandrel's name of the architecture, for people and receipts."""
        return str(self.descriptor.architecture.name)

    @property
    def scale(self) -> int:
        """Native factor of each axis."""
        return int(self.descriptor.scale)


def load_checkpoint(path: Path, *, blend_path: Path | None = None, blend: float = 1.0) -> Loaded:
    """The network in `path`, fused, in fp32 on the CPU.

    With `blend_path` the weights are `blend` x (those of `path`) + (1 - blend) x (those of
    `blend_path`), as Real-ESRGAN's denoise strength mixes its two files; both must hold the same
    tensors. Raises CheckpointError with the file's name and the reason.
    """
    state = _state_dict(path)
    if blend_path is not None and blend < 1.0:
        state = _blended(state, _state_dict(blend_path), blend, path, blend_path)
    try:
        descriptor = ModelLoader(device="cpu").load_from_state_dict(state)
    except _LOAD_ERRORS as error:
        raise CheckpointError(_explain(path, error)) from error
    if not isinstance(descriptor, ImageModelDescriptor):
        raise CheckpointError(
            f"{path.name} is a network of kind {descriptor.architecture.name} that needs a mask "
            "beside the picture; only networks that turn a picture into a picture can be used."
        )
    return Loaded(
        descriptor=fuse(descriptor),
        parameters=sum(p.numel() for p in descriptor.model.parameters()),
    )


def _state_dict(path: Path) -> dict[str, Any]:
    _check_file(path)
    try:
        return dict(ModelLoader(device="cpu").load_state_dict_from_file(path))
    except _LOAD_ERRORS as error:
        raise CheckpointError(_explain(path, error)) from error


def _check_file(path: Path) -> None:
    if path.suffix.lower() not in SUFFIXES:
        raise CheckpointError(
            f"{path.name}: weights are read from {', '.join(SUFFIXES)} files only."
        )
    try:
        size = path.stat().st_size
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}.") from error
    if size == 0:
        raise CheckpointError(f"{path.name} is empty.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
        if any(m.filename.endswith("constants.pkl") for m in members):
            raise CheckpointError(
                f"{path.name} is a TorchScript archive, which carries code; "
                "only plain weights are loaded."
            )
        if sum(m.file_size for m in members) > _MAX_EXPANDED_BYTES:
            raise CheckpointError(f"{path.name} expands to more than 16 GiB; refused.")


def _blended(
    first: dict[str, Any], second: dict[str, Any], blend: float, path: Path, other: Path
) -> dict[str, Any]:
    if first.keys() != second.keys() or any(first[k].shape != second[k].shape for k in first):
        raise CheckpointError(f"{path.name} and {other.name} do not hold the same tensors.")
    return {
        key: torch.lerp(second[key].float(), tensor.float(), blend)
        if tensor.is_floating_point()
        else tensor
        for key, tensor in first.items()
    }


def _explain(path: Path, error: Exception) -> str:
    """One sentence for a person: the file, what it looks like, what the reader said."""
    head = path.open("rb").read(16)
    if isinstance(error, UnsupportedModelError):
        return f"{path.name} holds weights of an architecture that is not supported."
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return f"{path.name} is a web page, not a checkpoint; was a download page saved?"
    if isinstance(error, pickle.UnpicklingError) and "forbidden" in str(error):
        return (
            f"{path.name} wants to run code when it is read ({error}); refused. "
            "Ask for a .safetensors file or plain weights."
        )
    said = str(error).strip().splitlines()
    reason = said[0][:200] if said else type(error).__name__
    return f"{path.name} cannot be read as a checkpoint: {reason}"
