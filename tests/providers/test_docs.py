"""The page on providers against the catalogue and the settings; what importing them costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from upscale.models.catalogue import load_catalogue
from upscale.providers.outcome import OUTCOMES, Kind
from upscale.providers.sites import Provided, site_of
from upscale.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "providers.md").read_text(encoding="utf-8")
PROVIDERS: tuple[Provided, ...] = ("fal", "replicate", "topaz", "recraft", "lumenfall")


def test_the_page_has_every_route_and_key() -> None:
    for model in load_catalogue().models:
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{model.id}` |"))
        places = []
        for route in model.routes:
            shown = route.provider.id
            if shown != "lumenfall":
                shown += f" `{route.endpoint}`"
                assert route.provider.key in PAGE or shown.startswith("vertex")
            assert shown in row
            places.append(row.index(shown))
        assert places == sorted(places)


def test_the_page_has_every_price() -> None:
    for model in load_catalogue().models:
        for route in model.routes:
            if route.price is None:
                continue
            p = route.price
            for amount in (p.per_image, p.per_megapixel, p.per_second, p.typical):
                assert amount is None or str(amount) in PAGE
            assert all(str(tier.usd) in PAGE for tier in p.tiers)
            assert p.read in PAGE
            assert p.source in PAGE


def test_the_page_has_every_host_of_files() -> None:
    for name in PROVIDERS[:-1]:
        for host in site_of(name, Settings()).files:
            assert host in PAGE or f"*.{host}" in PAGE


def test_every_kind_of_failure_has_an_outcome() -> None:
    assert set(OUTCOMES) == set(Kind)
    for kind, outcome in OUTCOMES.items():
        assert outcome.elsewhere != "yes" or outcome.billed == "no", kind


def test_the_room_loads_without_torch_and_googles_library() -> None:
    code = (
        "import sys, upscale.providers.registry, upscale.providers.passthrough;"
        "print([m for m in ('torch', 'google.auth', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd="/"
    )
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
