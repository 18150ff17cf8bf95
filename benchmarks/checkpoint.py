"""The network that is timed: a known one where it lies on this machine, else one of its shape."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

KNOWN = "realesr-animevideov3"


def provide_checkpoint(folder: Path) -> tuple[Path, str]:
    """A Compact 64/16 x4 file in `folder`, and what it is.

    Taken from `UPSCALE_TEST_DATA/weights`; else drawn at random with a seed, which costs the same
    time but gives busier pictures.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = os.environ.get("UPSCALE_TEST_DATA")
    known = Path(data or "", "weights", f"{KNOWN}.safetensors")
    if data and known.is_file():
        return Path(shutil.copy(known, folder / known.name)), f"{KNOWN} (Compact 64/16, x4)"
    path = folder / "random-compact.safetensors"
    _draw_random(path)
    return path, "Compact 64/16, x4, random weights (seed 0)"


def _draw_random(path: Path) -> None:
    import torch
    from safetensors.torch import save_file
    from spandrel.architectures.Compact import Compact

    torch.manual_seed(0)
    model = Compact(num_in_ch=3, num_out_ch=3, num_feat=64, num_conv=16, upscale=4)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    last = max(int(name.split(".")[1]) for name in state)
    # Small enough that the picture shows through what is added to it.
    for part in ("weight", "bias"):
        state[f"body.{last}.{part}"] *= 0.1
    save_file(state, path)
