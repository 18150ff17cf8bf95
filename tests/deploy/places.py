"""Where the files for running the server lie, and the names of what may be set."""

from __future__ import annotations

import re
from pathlib import Path

from tests.deploy.dockerfile import Dockerfile, Stage, parse
from upscale.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SETTINGS = {f"UPSCALE_{name.upper()}" for name in Settings.model_fields}

# Where libraries keep what they compile. Not ours to name, so nowhere in the settings.
LIBRARY_CACHES = {"CUDA_CACHE_PATH", "TRITON_CACHE_DIR"}

# Replies under way get the time to drain, then jobs do, then the worker leaves.
DRAINED_SECONDS = 2 * Settings.model_fields["drain_seconds"].default + 5


def dockerfile() -> Dockerfile:
    """Ours."""
    return parse((ROOT / "Dockerfile.cuda").read_text(encoding="utf-8"))


def image() -> Stage:
    """The stage that becomes the image."""
    return dockerfile().stages[-1]


def named_settings(text: str) -> set[str]:
    """All that looks like one of our variables."""
    return set(re.findall(r"\bUPSCALE_[A-Z0-9_]+", text))
