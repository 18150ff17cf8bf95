"""The operator's limits on a result, judged from its size alone, before any work."""

from __future__ import annotations

from upscale.errors import TooLarge
from upscale.imaging.limits import check_output
from upscale.server.parameters import Parameters
from upscale.server.replies import INLINE
from upscale.settings import Settings


def check_size(format: str, size: tuple[int, int], settings: Settings) -> None:
    """Raise TooLarge for a result that may not be that large, or cannot be written as `format`."""
    check_output(
        format,
        *size,
        max_pixels=settings.max_output_pixels,
        max_side=settings.max_output_side,
        max_whole_pixels=settings.max_whole_pixels,
    )


def check_inline(size: tuple[int, int], asked: Parameters, settings: Settings) -> None:
    """Raise TooLarge for a result that is too large for a reply."""
    width, height = size
    if asked.response_format == INLINE and width * height > settings.max_whole_pixels:
        raise TooLarge(
            f"The result ({width} x {height})",
            got=width * height,
            limit=settings.max_whole_pixels,
            unit=f"pixels in {INLINE}",
            advice="Ask for response_format=url and download the file.",
            field="response_format",
        )
