"""A checkpoint file becomes a Loaded network, or a CheckpointError that says why not.

Works on one file of weights: `.safetensors`, or `.pth` and `.ckpt` through spandrel's restricted
unpickler, after its header was judged (`weights.headers`): nothing in it is run. Knows nothing of
catalogues, plans or tiles. Multi-branch networks are brought to their plain form here, once, in
fp32 (`models.fuse`).
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from upscale.errors import CheckpointError
from upscale.models.fuse import fuse
from upscale.models.spandrel_import import (
    ImageModelDescriptor,
    ModelLoader,
    RestrictedUnpickle,
    UnsupportedModelError,
    canonicalize_state_dict,
)
from upscale.settings import get_settings
from upscale.weights.headers import Limits, first_line, loaded_suffix, read_header
from upscale.weights.magic import describe_tensors

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
    tensors. Raises CheckpointError with the file's name and the reason, before anything of its
    size is allocated where the settings do not allow that size.
    """
    state = _state_dict(path)
    if blend_path is not None and blend < 1.0:
        state = _blended(state, _state_dict(blend_path), blend, path, blend_path)
    names = list(state)
    try:
        descriptor = ModelLoader(device="cpu").load_from_state_dict(state)
    except UnsupportedModelError as error:
        raise CheckpointError(
            f"{path.name} holds weights of an architecture that is not supported: it is "
            f"{describe_tensors(names)}."
        ) from error
    except _LOAD_ERRORS as error:
        raise CheckpointError(
            f"{path.name} resembles an architecture that is supported and does not fit it "
            f"({first_line(error)}): it is {describe_tensors(names)}."
        ) from error
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
    settings = get_settings()
    read_header(path, Limits(settings.max_checkpoint_bytes, settings.max_checkpoint_parameters))
    try:
        if loaded_suffix(path) == ".safetensors":
            content = load_file(path, device="cpu")
        else:
            content = torch.load(path, map_location="cpu", pickle_module=RestrictedUnpickle)
        return dict(canonicalize_state_dict(content))
    except _LOAD_ERRORS as error:
        raise CheckpointError(
            f"{path.name} cannot be read as a checkpoint: {first_line(error)}"
        ) from error


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
