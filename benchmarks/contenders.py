"""What is timed: each contender loads once, then turns a file into a file, four times as large.

Every one runs in a process of its own (`benchmarks.worker`). The peers are used as their own
scripts use them; the repair that basicsr needs beside a current torchvision is made here only.
"""

from __future__ import annotations

import ctypes
import sys
import tempfile
import types
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

SCALE = 4
TILE, PAD = 256, 10


class Contender(Protocol):
    """One way of upscaling, loaded and warm."""

    def run(self, source: Path, target: Path) -> str:
        """Upscale `source` into the PNG `target`, replacing it; returns the precision used."""


class Ours:
    """The engine as the command line uses it."""

    def __init__(self, checkpoint: Path, precision: str) -> None:
        from upscale.engine.local import LocalEngine
        from upscale.settings import Settings
        from upscale.weights.store import Store

        settings = Settings()
        network = Store(settings.weights_folder).find(checkpoint.stem)
        if network is None:
            raise LookupError(f"{checkpoint.stem} is not in {settings.weights_folder}")
        self._network, self._precision = network, precision
        self._engine = LocalEngine(settings).__enter__()
        self._engine.contract(network)

    def run(self, source: Path, target: Path) -> str:
        """See Contender."""
        from upscale.engine.order import JobOrder
        from upscale.engine.plan import Request
        from upscale.imaging.probing import probe

        request: Any = Request(Decimal(SCALE), "png", precision=self._precision)  # type: ignore[arg-type]
        plan = self._engine.plan(probe(source), self._network, request)
        return self._engine.run(JobOrder("bench", source, target, plan)).precision


class Naive:
    """What one writes in an hour: spandrel, a loop over padded tiles, Pillow at both ends."""

    def __init__(self, checkpoint: Path) -> None:
        import torch
        from spandrel import ModelLoader

        self._torch = torch
        self._model = ModelLoader(device="cpu").load_from_file(checkpoint).eval()

    def run(self, source: Path, target: Path) -> str:
        """See Contender."""
        import numpy as np
        from PIL import Image

        torch = self._torch
        pixels = np.asarray(Image.open(source).convert("RGB"), np.float32) / 255
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None]  # [1, 3, H, W]
        height, width = x.shape[2:]
        y = torch.empty(1, 3, height * SCALE, width * SCALE)
        with torch.inference_mode():
            for top in range(0, height, TILE):
                for left in range(0, width, TILE):
                    bottom, right = min(top + TILE, height), min(left + TILE, width)
                    t, e = max(0, top - PAD), max(0, left - PAD)
                    tile = x[:, :, t : bottom + PAD, e : right + PAD]
                    out = self._model(tile)
                    y[:, :, top * SCALE : bottom * SCALE, left * SCALE : right * SCALE] = out[
                        :,
                        :,
                        (top - t) * SCALE : (bottom - t) * SCALE,
                        (left - e) * SCALE : (right - e) * SCALE,
                    ]
        result = (y[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
        Image.fromarray(result).save(target)
        return "fp32"


class Peer:
    """RealESRGANer with tiles of 256, and OpenCV at both ends, as `inference_realesrgan.py`."""

    def __init__(self, checkpoint: Path, *, keep_memory: bool) -> None:
        if keep_memory:
            _keep_freed_memory()
        _repair_basicsr()
        from basicsr.archs.srvgg_arch import SRVGGNetCompact
        from realesrgan import RealESRGANer

        weights = _weights(checkpoint)
        convs = (max(int(name.split(".")[1]) for name in weights) - 2) // 2
        model = SRVGGNetCompact(num_in_ch=3, num_out_ch=3, num_conv=convs, upscale=SCALE)
        with tempfile.TemporaryDirectory() as folder:
            import torch

            path = Path(folder) / "weights.pth"
            torch.save({"params": weights}, path)
            self._upsampler = RealESRGANer(
                scale=SCALE, model_path=str(path), model=model, tile=TILE, tile_pad=PAD,
                pre_pad=0, half=False,
            )  # fmt: skip

    def run(self, source: Path, target: Path) -> str:
        """See Contender."""
        import cv2

        picture = cv2.imread(str(source), cv2.IMREAD_UNCHANGED)
        result, _ = self._upsampler.enhance(picture, outscale=SCALE)
        cv2.imwrite(str(target), result)
        return "fp32"


CONTENDERS: dict[str, tuple[str, Callable[[Path], Contender]]] = {
    "ours": ("upscale, auto precision", lambda file: Ours(file, "auto")),
    "ours-fp32": ("upscale, fp32", lambda file: Ours(file, "fp32")),
    "naive": ("spandrel, tile loop, Pillow", lambda file: Naive(file)),
    "peer": ("RealESRGANer, tile 256", lambda file: Peer(file, keep_memory=False)),
    "peer-kept": (
        "RealESRGANer, tile 256, memory kept by mallopt",
        lambda file: Peer(file, keep_memory=True),
    ),
}
PEERS = ("peer", "peer-kept")


def _weights(checkpoint: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(checkpoint))


def _repair_basicsr() -> None:
    """basicsr asks for a module that torchvision dropped; one function of it is used."""
    from torchvision.transforms import functional

    module = types.ModuleType("torchvision.transforms.functional_tensor")
    module.rgb_to_grayscale = functional.rgb_to_grayscale  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module


def _keep_freed_memory() -> None:
    """The two mallopt calls that our engine makes; glibc only."""
    libc = ctypes.CDLL(None)
    libc.mallopt(-3, 1 << 30)
    libc.mallopt(-1, (1 << 31) - 1)
