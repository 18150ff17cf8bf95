"""Draws `before-after.png` for the README: a part of the sample, plainly enlarged and upscaled.

`python examples/draw_before_after.py`, after a change of the bundled network.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

HERE = Path(__file__).parent
PART = (28, 76, 28 + 108, 76 + 104)  # left, top, right, bottom in the sample, pixels
SCALE = 4
GAP = 8


def main() -> None:
    """Upscale the sample with the bundled network and put two crops side by side."""
    sample = Image.open(HERE / "sample.png").convert("RGB")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.png"
        command = [sys.executable, "-m", "upscale.cli", "image", str(HERE / "sample.png")]
        subprocess.run([*command, "-o", str(result), "-s", str(SCALE)], check=True)
        left, top, right, bottom = (SCALE * side for side in PART)
        after = Image.open(result).convert("RGB").crop((left, top, right, bottom))
    before = sample.crop(PART).resize(after.size, Image.Resampling.NEAREST)
    width, height = after.size
    page = Image.new("RGB", (2 * width + GAP, height), "white")
    page.paste(before, (0, 0))
    page.paste(after, (width + GAP, 0))
    page.save(HERE / "before-after.png", optimize=True)


if __name__ == "__main__":
    main()
