"""The Plan: everything decided before local work starts, as plain data.

A pure function of Probe, Facts (the Contract and its proofs), request, device and limits. Needs no
torch. The dry run returns it, the run executes it, the receipt repeats it.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from upscale.engine.device import DeviceProfile
from upscale.engine.scaling import PassSize, passes, scaled
from upscale.engine.tiling import TilePlan, plan_tiles
from upscale.errors import InvalidParameter
from upscale.imaging.limits import FORMATS, check_input, check_output
from upscale.imaging.picture import OutputSpec
from upscale.imaging.probe import Probe
from upscale.models.contract import Contract, Precision
from upscale.models.facts import Facts, Proof
from upscale.settings import Settings
from upscale.weights.hashes import hash_file

if TYPE_CHECKING:
    from upscale.weights.store import Network

# What resampling holds beside the bands, in bytes: rows that wait, a window, rows made of it.
RESAMPLE_BYTES = 120 << 20

# A worker with torch and a small network loaded, in bytes; measured as summed PSS.
_BASE_BYTES = 420 << 20

# How many times the pixels are held while they are decoded, by format, where it is not twice:
# progressive JPEGs and odd TIFFs, and what Pillow decodes whole. Measured.
_DECODING = {"jpeg": 3, "tiff": 4, "avif": 4, "webp": 6, "gif": 6, "bmp": 6}

# Output pixels a second of everything that is not the network, a core; measured on two cores.
_OUTPUT_RATE = 60e6

# Share of a proof's speed that whole Jobs reach on a CPU: overlap aside, glue and cold caches.
_EFFICIENCY = 0.9


@dataclass(frozen=True)
class NetworkRef:
    """Which weights: `key` is the hash of the files that the network is made from.

    Two files are mixed with the share `blend` of the first; what is measured of one mix holds for
    all of them, so the share is no part of the key.
    """

    name: str
    path: str
    key: str
    blend_path: str | None = None
    blend: float = 1.0

    @classmethod
    def of(cls, network: Network) -> NetworkRef:
        """The reference of an installed network."""
        if network.blend_path is None or network.blend >= 1.0:
            return cls(network.name, str(network.path), network.sha256)
        stat = network.blend_path.stat()
        other = _hash_of(network.blend_path, stat.st_mtime_ns, stat.st_size)
        key = hashlib.sha256(f"{network.sha256} {other}".encode()).hexdigest()
        return cls(network.name, str(network.path), key, str(network.blend_path), network.blend)


@dataclass(frozen=True)
class Request:
    """What the caller asked of a network. `quality` 1 to 100 for lossy formats, None: default.

    `background` (#rrggbb) goes under transparency in formats without; `strip_metadata` True leaves
    metadata out whatever the operator's setting says. `tile` is a side in input pixels, 0 lets the
    plan choose; `precision` auto takes the fastest that is proven safe.
    """

    scale_factor: Decimal
    output_format: str = "png"
    quality: int | None = None
    background: str = "#ffffff"
    strip_metadata: bool = False
    seed: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    tile: int = 0


@dataclass(frozen=True)
class PlanLimits:
    """The operator's limits and preferences that a plan obeys; see the settings of these names."""

    max_input_pixels: int
    max_output_pixels: int
    max_output_side: int
    max_whole_pixels: int
    exact_context_limit: int
    overlap: int
    tile: int
    precision: str
    strip_metadata: bool = False
    provenance: bool = False
    tiff_tile: int = 0

    @classmethod
    def of(cls, settings: Settings) -> PlanLimits:
        """The limits that `settings` set."""
        return cls(**{name: getattr(settings, name) for name in cls.__dataclass_fields__})


@dataclass(frozen=True)
class PassPlan:
    """One run of the network over a whole picture, and how it is cut."""

    size: PassSize
    tiles: TilePlan


@dataclass(frozen=True)
class Plan:
    """What will be done. Sizes in pixels, `expected_seconds` in seconds, memory in bytes.

    `memory` says what is held at the peak: base, input, tiles, bands, encoder.
    """

    network: NetworkRef
    contract: Contract
    probe: Probe
    passes: tuple[PassPlan, ...]
    scale_factor: str
    precision: Precision
    method: str
    device: str
    threads: int
    seed: int
    output: OutputSpec
    expected_seconds: float
    memory: dict[str, int] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Width of the result."""
        return self.output.width

    @property
    def height(self) -> int:
        """Height of the result."""
        return self.output.height

    @property
    def tiles(self) -> int:
        """Tiles over all passes."""
        return sum(p.tiles.count for p in self.passes)

    @property
    def expected_bytes(self) -> int:
        """Memory at the peak."""
        return sum(self.memory.values())

    def to_json(self) -> dict[str, Any]:
        """Plain data for a pipe, a dry run or a receipt."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """The inverse of `to_json`."""
        return cls(
            **{
                **data,
                "network": NetworkRef(**data["network"]),
                "contract": Contract.from_json(data["contract"]),
                "probe": Probe.from_json(data["probe"]),
                "passes": tuple(
                    PassPlan(PassSize(**p["size"]), TilePlan(**p["tiles"])) for p in data["passes"]
                ),
                "output": OutputSpec(**data["output"]),
            }
        )


def make_plan(
    probe: Probe,
    facts: Facts,
    network: NetworkRef,
    request: Request,
    device: DeviceProfile,
    limits: PlanLimits,
) -> Plan:
    """The Plan, or the reason why there is none.

    Raises TooLarge when a limit on pixels or sides is passed, InvalidParameter for a precision that
    is not proven or a format that is not known.
    """
    contract = facts.contract
    check_input(probe, limits.max_input_pixels)
    width = scaled(probe.width, request.scale_factor)
    height = scaled(probe.height, request.scale_factor)
    output = _output(probe, request, limits, width, height)
    check_output(
        output.format,
        width,
        height,
        max_pixels=limits.max_output_pixels,
        max_side=limits.max_output_side,
        max_whole_pixels=limits.max_whole_pixels,
    )
    proof = _proof(facts, probe, request, device, limits)
    sizes = passes(probe.width, probe.height, contract.scale, request.scale_factor)
    wide = proof.precision == "fp32" or proof.method == "autocast"
    pass_plans = tuple(
        PassPlan(
            size,
            plan_tiles(
                size,
                contract,
                device,
                bytes_per_pixel=contract.bytes_per_pixel if wide else contract.bytes_per_pixel // 2,
                side=request.tile or limits.tile,
                exact_limit=limits.exact_context_limit,
                overlap=limits.overlap,
                sample_bytes=1 if output.depth == 8 and not size.resamples else 2,
                channels=probe.channels,
            ),
        )
        for size in sizes
    )
    return Plan(
        network=network,
        contract=contract,
        probe=probe,
        passes=pass_plans,
        scale_factor=str(request.scale_factor),
        precision=proof.precision,
        method=proof.method,
        device=device.device,
        threads=device.tile_threads,
        seed=request.seed,
        output=output,
        expected_seconds=_seconds(pass_plans, contract, proof, device, width * height),
        memory=_memory(probe, pass_plans, output, device),
    )


@lru_cache(maxsize=16)
def _hash_of(path: Path, mtime_ns: int, size: int) -> str:
    """sha256 of a file, read again only when it has changed."""
    del mtime_ns, size
    return hash_file(path)


def _output(
    probe: Probe, request: Request, limits: PlanLimits, width: int, height: int
) -> OutputSpec:
    deep = probe.depth == 16 and FORMATS[request.output_format].depth16
    return OutputSpec(
        format=request.output_format,
        width=width,
        height=height,
        channels=probe.channels + int(probe.alpha),
        depth=16 if deep else 8,
        quality=request.quality,
        background=request.background,
        tile=limits.tiff_tile if request.output_format == "tiff" else 0,
        strip=request.strip_metadata or limits.strip_metadata,
        provenance=limits.provenance,
    )


def _proof(
    facts: Facts, probe: Probe, request: Request, device: DeviceProfile, limits: PlanLimits
) -> Proof:
    """The precision to run in: fp32 for 16-bit sources, else the wish, else the fastest safe."""
    wish = request.precision if request.precision != "auto" else limits.precision
    if probe.depth == 16:
        wish = "fp32"
    allowed: tuple[Precision, ...]
    allowed = ("bf16", "fp16", "fp32") if wish == "auto" else (wish,)  # type: ignore[assignment]
    best = facts.best(device.key, allowed)
    if best is not None:
        return best
    if wish in ("auto", "fp32"):
        return Proof("fp32", "cast", True, None, None, "the reference")
    known = [p.reason for p in facts.proofs.get(device.key, ()) if p.precision == wish]
    reason = known[0] if known else f"{device.name} has no units for it"
    raise InvalidParameter("precision", wish, f"auto or fp32 here ({wish}: {reason})")


def _seconds(
    pass_plans: tuple[PassPlan, ...],
    contract: Contract,
    proof: Proof,
    device: DeviceProfile,
    output_pixels: int,
) -> float:
    network = sum(p.tiles.pixels for p in pass_plans) * contract.macs_per_pixel
    speed = (proof.gmacs or 50.0) * 1e9 * _EFFICIENCY
    return round(network / speed + output_pixels / _OUTPUT_RATE, 2)


def _memory(
    probe: Probe, pass_plans: tuple[PassPlan, ...], output: OutputSpec, device: DeviceProfile
) -> dict[str, int]:
    decoded = (
        _DECODING.get(probe.format, 2)
        * probe.pixels
        * (probe.channels + int(probe.alpha))
        * probe.depth
        // 8
    )
    between = max(
        (p.size.in_width * p.size.in_height * probe.channels * 2 for p in pass_plans[1:]), default=0
    )
    in_flight = max(p.tiles.bytes for p in pass_plans) * device.tile_threads
    return {
        "base": _BASE_BYTES,
        "input": decoded + between,
        "tiles": 0 if device.is_cuda else in_flight,
        # Two rows of tiles in the making, one with the encoder; what resampling holds beside them.
        "bands": 3 * max(p.tiles.band_bytes for p in pass_plans)
        + (RESAMPLE_BYTES if any(p.size.resamples for p in pass_plans) or probe.alpha else 0),
        "encoder": output.width * output.height * FORMATS[output.format].whole_bytes or 24 << 20,
    }
