"""The pixel pool: torch-free helper processes that read headers and work on pixels for the server.

Headers and pixels have helpers of their own, so that a probe never waits for a large picture; time
and memory of a helper are limited. Knows nothing of HTTP.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from upscale.errors import UnreadableImage, UpscaleError
from upscale.imaging.exchange import (
    BadResult,
    Return,
    Returned,
    Sendable,
    return_from_json,
    return_to_json,
)
from upscale.imaging.guard import HEADER_BYTES, limit_process
from upscale.imaging.helpers import Helpers, Lost
from upscale.imaging.probe import Probe
from upscale.imaging.probing import probe as probe_here

# For decoding, resampling and encoding: seconds, and seconds for each million pixels. The slowest
# (AVIF) takes a third of it on one busy core.
_SECONDS, _SECONDS_EACH = 60.0, 6.0


class PixelPool:
    """`workers` helpers of each kind, started when first needed. Use it from one event loop."""

    def __init__(self, workers: int, *, seconds: float = 20.0) -> None:
        self._seconds = seconds
        self._headers = Helpers(workers, "reads image headers", _limit_headers)
        self._pixels = Helpers(workers, "works on pixels")

    async def probe(self, path: Path) -> Probe:
        """`imaging.probing.probe` in a helper.

        Raises UnreadableImage, also after `seconds` and if helpers die twice over the file.
        """
        try:
            answer = await self._headers.run(_probe_task, str(path), seconds=self._seconds)
        except Lost as lost:
            if lost.seconds is None:
                raise UnreadableImage(
                    "The process that reads image headers died twice over this file: it is broken."
                ) from None
            raise UnreadableImage(
                f"The image file's header could not be read within {lost.seconds:g} seconds; "
                "it is broken."
            ) from None
        return Probe.from_json(_unpacked(answer))

    async def prepare(self, source: Path, probe: Probe, folder: Path) -> Sendable:
        """`imaging.exchanging.prepare` in a helper. Raises UnreadableImage, OutputFault."""
        seconds = _time_for(probe.pixels)
        try:
            answer = await self._pixels.run(
                _prepare_task, str(source), probe.to_json(), str(folder), seconds=seconds
            )
        except Lost as lost:
            raise UnreadableImage(f"The picture cannot be decoded: {_why(lost)}.") from None
        return Sendable.from_json(_unpacked(answer))

    async def check_whole(self, path: Path, probe: Probe) -> None:
        """`imaging.exchanging.check_whole` in a helper. Raises UnreadableImage."""
        seconds = _time_for(probe.pixels)
        try:
            answer = await self._pixels.run(
                _check_task, str(path), probe.to_json(), seconds=seconds
            )
        except Lost as lost:
            raise UnreadableImage(f"The picture cannot be decoded: {_why(lost)}.") from None
        _unpacked(answer)

    async def receive(self, order: Return, pixels: int) -> Returned:
        """`imaging.exchanging.receive` in a helper; `pixels` are those of the result.

        Raises BadResult, OutputFault.
        """
        seconds = _time_for(pixels + order.probe.pixels)
        try:
            answer = await self._pixels.run(_receive_task, return_to_json(order), seconds=seconds)
        except Lost as lost:
            raise BadResult(f"it cannot be decoded: {_why(lost)}") from None
        if "bad" in answer:
            raise BadResult(answer["bad"])
        return Returned.from_json(_unpacked(answer))

    def close(self) -> None:
        """End the helpers, at work or not."""
        self._headers.close()
        self._pixels.close()


def _time_for(pixels: int) -> float:
    return _SECONDS + _SECONDS_EACH * pixels / 1e6


def _why(lost: Lost) -> str:
    if lost.seconds is None:
        return "the process that works on it died twice"
    return f"that took longer than {lost.seconds:.0f} seconds"


def _unpacked(answer: dict[str, Any]) -> Any:
    if "error" in answer:
        raise UpscaleError.from_wire(answer["error"])
    return answer["value"]


# These run in a helper; answers are plain data.


def _probe_task(path: str) -> dict[str, Any]:
    try:
        return {"value": probe_here(Path(path)).to_json()}
    except UpscaleError as error:
        return {"error": error.to_wire()}


def _prepare_task(source: str, probe: dict[str, Any], folder: str) -> dict[str, Any]:
    from upscale.imaging.exchanging import prepare  # heavy, and of no use to who asks

    try:
        return {"value": asdict(prepare(Path(source), Probe.from_json(probe), Path(folder)))}
    except UpscaleError as error:
        return {"error": error.to_wire()}


def _check_task(path: str, probe: dict[str, Any]) -> dict[str, Any]:
    from upscale.imaging.exchanging import check_whole

    try:
        check_whole(Path(path), Probe.from_json(probe))
        return {"value": None}
    except UpscaleError as error:
        return {"error": error.to_wire()}


def _receive_task(order: dict[str, Any]) -> dict[str, Any]:
    from upscale.imaging.exchanging import receive

    try:
        return {"value": asdict(receive(return_from_json(order)))}
    except BadResult as fault:
        return {"bad": str(fault)}
    except UpscaleError as error:
        return {"error": error.to_wire()}


def _limit_headers() -> None:
    limit_process(HEADER_BYTES)
