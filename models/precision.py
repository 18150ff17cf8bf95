"""Which precisions are safe and how fast they are, for one network on one device.

A narrow precision is proven, never assumed: finite, and at least 48 dB PSNR from fp32 on a fixed
picture at two sizes (some faults show only away from the training size). Both ways of reaching it
are tried, weights cast and autocast.
"""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from upscale.models.contract import Contract, Precision
from upscale.models.facts import Proof
from upscale.models.loading import Loaded
from upscale.models.runner import Method, Runner
from upscale.models.testcard import draw_card

MINIMUM_PSNR = 48.0

# Of the two proof pictures: one near the usual training size, one wide enough for faults of
# coordinates in 8-bit mantissas (they start at 192 pixels) yet cheap.
_SMALL, _WIDE = (64, 64), (48, 512)

# How long a speed is measured, in seconds, once a first call is done.
_SPEED_SECONDS = 0.5

# The wide picture is skipped in narrow precision on a CPU for networks dearer than this, in
# multiply-adds a pixel: hours of proof serve nobody.
_DEAR = 60_000_000


def hardware_precisions(device: torch.device) -> tuple[Precision, ...]:
    """Precisions that the device has units for, fp32 included.

    fp16 is never offered on a CPU (measured at 0.24 times fp32), bf16 only with its instructions.
    """
    if device.type == "cuda":
        return ("bf16", "fp16", "fp32") if torch.cuda.is_bf16_supported() else ("fp16", "fp32")
    flags = torch.cpu
    has_bf16 = flags._is_avx512_bf16_supported() or flags._is_amx_tile_supported()
    return ("bf16", "fp32") if has_bf16 else ("fp32",)


def prove(loaded: Loaded, contract: Contract, device: torch.device) -> tuple[Proof, ...]:
    """A Proof for each precision that the device has units for."""
    reference = Runner(loaded, device, "fp32")
    small, wide = (_picture(contract, size, device) for size in (_SMALL, _WIDE))
    sizes = [small] if contract.macs_per_pixel > _DEAR else [small, wide]
    truths = [reference(x) for x in sizes]
    proofs = [
        Proof("fp32", "cast", True, None, _speed(reference, sizes[-1], contract), "the reference")
    ]
    for precision in hardware_precisions(device):
        if precision != "fp32":
            proofs.append(_narrow(loaded, contract, device, precision, sizes, truths))
    return tuple(proofs)


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal to noise in dB for a peak of 1; infinite where both are equal."""
    error = float((a.double() - b.double()).square().mean())
    return math.inf if error == 0 else -10 * math.log10(error)


def _narrow(
    loaded: Loaded,
    contract: Contract,
    device: torch.device,
    precision: Precision,
    sizes: list[Tensor],
    truths: list[Tensor],
) -> Proof:
    best: Proof | None = None
    for method in ("cast", "autocast"):
        proof = _one(loaded, contract, device, precision, method, sizes, truths)
        if proof.safe:
            return proof
        if best is None or (proof.psnr or 0) > (best.psnr or 0):
            best = proof
    assert best is not None
    return best


def _one(
    loaded: Loaded,
    contract: Contract,
    device: torch.device,
    precision: Precision,
    method: Method,
    sizes: list[Tensor],
    truths: list[Tensor],
) -> Proof:
    try:
        runner = Runner(loaded, device, precision, method)
        answers = [runner(x) for x in sizes]
    except (RuntimeError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:160]
        return Proof(precision, method, False, None, None, f"does not run: {reason}")
    if not all(bool(torch.isfinite(y).all()) for y in answers):
        return Proof(precision, method, False, None, None, "gives not-a-number")
    worst = min(psnr(y, t) for y, t in zip(answers, truths, strict=True))
    # JSON has no infinity; 200 dB is past anything that these types can show.
    worst = round(min(worst, 200.0), 1)
    speed = _speed(runner, sizes[-1], contract)
    if worst < MINIMUM_PSNR:
        reason = f"{worst} dB from fp32, at least {MINIMUM_PSNR:.0f} wanted"
        return Proof(precision, method, False, worst, speed, reason)
    return Proof(precision, method, True, worst, speed, f"{worst} dB from fp32")


def _picture(contract: Contract, size: tuple[int, int], device: torch.device) -> Tensor:
    height, width = (max(side, contract.size_minimum) for side in size)
    return draw_card(height, width, contract.channels_in).to(device)


def _speed(runner: Runner, x: Tensor, contract: Contract) -> float:
    """1e9 multiply-adds a second, the best of a few calls: other work only ever slows one down."""
    best, began = math.inf, time.perf_counter()
    while best == math.inf or time.perf_counter() - began < _SPEED_SECONDS:
        _wait(runner.device)
        start = time.perf_counter()
        runner(x)
        _wait(runner.device)
        best = min(best, time.perf_counter() - start)
    macs = contract.macs_per_pixel * x.shape[0] * x.shape[2] * x.shape[3]
    return round(macs / best / 1e9, 2)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
