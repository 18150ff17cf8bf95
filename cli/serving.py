"""`upscale serve`: starts the server and shows a request that works as it is pasted."""

from __future__ import annotations

import shlex
from pathlib import Path

import upscale
from upscale.cli.console import say
from upscale.settings import Settings


def start(settings: Settings) -> None:
    """Serve until asked to stop."""
    from upscale.server.main import serve

    serve(settings, announce)


def announce(url: str, keys: bool) -> None:
    """Say where the server answers, and how it is asked."""
    say(f"Upscaling at {url}/openai/v1 (Ctrl-C ends it). Try:\n")
    say(f"  {curl_line(url, keys=keys)}\n")


def curl_line(url: str, *, keys: bool) -> str:
    """A request for the sample picture; for one of the caller's own in an installed copy.

    With `keys`, the key is taken from the shell's UPSCALE_API_KEY.
    """
    header = '-H "Authorization: Bearer $UPSCALE_API_KEY" ' if keys else ""
    sample = Path(upscale.__file__).resolve().parents[1] / "examples" / "sample.png"
    image = str(sample) if sample.is_file() else "picture.png"
    return (
        f"curl {url}/openai/v1/images/edits {header}-F model=bundled-x4 "
        f"-F {shlex.quote(f'image=@{image}')} -F scale_factor=4"
    )
