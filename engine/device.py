"""What a plan must know of the device that will run it, as plain data; and how torch is asked.

Only `detect` imports torch, and only when it is called.
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from upscale.errors import InvalidParameter
from upscale.models.contract import Precision
from upscale.settings import Settings

# Tile threads above this gain nothing that memory bandwidth allows.
_MAX_TILE_THREADS = 8

# Shares of free memory that tiles in flight may take where no setting says so: a quarter of a
# machine that does other things too, most of a card that does not.
_CPU_SHARE, _CUDA_SHARE = 0.25, 0.8


@dataclass(frozen=True)
class DeviceProfile:
    """A device: `device` is cpu or cuda:N, `key` names it in measurements kept on disk.

    `cores` are CPU cores of the process, `tile_threads` run tiles side by side (1 on CUDA),
    `tile_bytes` is the memory that all tiles in flight may take.
    """

    device: str
    name: str
    key: str
    cores: int
    tile_threads: int
    tile_bytes: int
    precisions: tuple[Precision, ...]

    @property
    def is_cuda(self) -> bool:
        """Whether it is a CUDA card."""
        return self.device.startswith("cuda")

    def to_json(self) -> dict[str, Any]:
        """Plain data for a pipe."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DeviceProfile:
        """The inverse of `to_json`."""
        return cls(**{**data, "precisions": tuple(data["precisions"])})


def detect(settings: Settings) -> DeviceProfile:
    """The device that the settings ask for; raises InvalidParameter when it is not there."""
    import torch

    from upscale.models.precision import hardware_precisions

    wanted = settings.device
    if wanted == "auto":
        wanted = "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wanted)
    except RuntimeError:
        raise InvalidParameter("UPSCALE_DEVICE", wanted, "auto, cpu, cuda or cuda:N") from None
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    if device.type == "cuda":
        index = device.index or 0
        if index >= torch.cuda.device_count():
            raise InvalidParameter(
                "UPSCALE_DEVICE", wanted, f"one of {torch.cuda.device_count()} CUDA devices, or cpu"
            )
        name = torch.cuda.get_device_name(index)
        free, _ = torch.cuda.mem_get_info(index)
        share, threads, label = int(free * _CUDA_SHARE), 1, f"cuda:{index}"
    elif device.type == "cpu":
        name = _cpu_name()
        share, label = int(psutil.virtual_memory().available * _CPU_SHARE), "cpu"
        threads = settings.tile_threads or min(cores, _MAX_TILE_THREADS)
    else:
        raise InvalidParameter("UPSCALE_DEVICE", wanted, "auto, cpu, cuda or cuda:N")
    precisions = hardware_precisions(device)
    key = f"{name}, {cores} cores, {'+'.join(precisions)}, torch {torch.__version__}"
    return DeviceProfile(
        device=label,
        name=name,
        key=key if label == "cpu" else f"{name}, torch {torch.__version__}",
        cores=cores,
        tile_threads=threads,
        tile_bytes=settings.memory_mb << 20 if settings.memory_mb else share,
        precisions=precisions,
    )


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
