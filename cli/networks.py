"""From the name of a model to a network of this machine."""

from __future__ import annotations

from dataclasses import replace
from difflib import get_close_matches

from upscale.errors import InvalidParameter, ModelNotFound
from upscale.settings import Settings
from upscale.weights.store import Network, Store
