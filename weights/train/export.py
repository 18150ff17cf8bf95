"""A trained network as a 16-bit .safetensors file that any loader of the field understands.

Works on a state dict; knows nothing of how it came about. What was written is loaded once more by
spandrel, and must be detected as Compact with factor 4, before it takes the place of an older file.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor


def export(state: Mapping[str, Tensor], path: Path, scale: int = 4) -> int:
    """Write float16 weights to `path` atomically; bytes written. ValueError if not detected."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = {name: value.detach().to(torch.float16).contiguous() for name, value in state.items()}
    if not all(bool(torch.isfinite(value).all()) for value in half.values()):
        raise ValueError("a weight is not finite in 16 bits; the training has failed")
    # spandrel goes by the suffix, so the waiting file keeps it
    waiting = path.with_name(f".{path.stem}.part.safetensors")
    save_file(half, waiting, metadata={"format": "pt"})
    try:
        verify(waiting, scale)
    except BaseException:
        waiting.unlink()
        raise
    waiting.chmod(0o644)  # safetensors gives it to its owner alone
    os.replace(waiting, path)
    return path.stat().st_size


def verify(path: Path, scale: int = 4) -> None:
    """Raise ValueError unless spandrel detects Compact with this factor and three channels."""
    from spandrel import ModelLoader

    found = ModelLoader(device="cpu").load_from_file(path)
    seen = (found.architecture.id, found.scale, found.input_channels, found.output_channels)
    if seen != ("Compact", scale, 3, 3):
        raise ValueError(f"{path.name}: wanted Compact x{scale} in RGB, detected {seen}")


def main(argv: list[str] | None = None) -> None:
    """`python -m upscale.weights.train.export CHECKPOINT FILE`: the averaged weights of a run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt of a training run")
    parser.add_argument("file", type=Path, help="the .safetensors file to write")
    options = parser.parse_args(argv)
    saved = torch.load(options.checkpoint, map_location="cpu", weights_only=True)
    size = export(saved["averaged"], options.file)
    sys.stdout.write(f"{options.file}: {size} bytes, Compact x4\n")


if __name__ == "__main__":
    main()
