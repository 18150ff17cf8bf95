"""Networks as files, pictures as files, and a session to run them in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tests import networks
from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef, Plan, PlanLimits, Request, make_plan
from upscale.engine.session import Session
from upscale.imaging.probing import probe
from upscale.models.loading import Loaded
from upscale.models.testcard import draw_card
from upscale.settings import Settings


def write_network(folder: Path, name: str, network: Loaded) -> NetworkRef:
    path = folder / f"{name}.safetensors"
    state = network.descriptor.model.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return NetworkRef(name, str(path), hashlib.sha256(path.read_bytes()).hexdigest())


def write_picture(path: Path, width: int, height: int, mode: str = "RGB") -> Path:
    card = draw_card(height, width, 4)[0].permute(1, 2, 0).numpy()
    pixels = np.rint(card * 255).astype(np.uint8)
    channels = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}[mode]
    array = pixels[..., 0] if channels == 1 else pixels[..., :channels]
    Image.fromarray(array, mode).save(path)
    return path


@pytest.fixture(scope="session")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data_dir=tmp_path_factory.mktemp("data"), device="cpu", tile_threads=2)


@pytest.fixture(scope="session")
def session(settings: Settings) -> Session:
    return Session(settings)


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> NetworkRef:
    """A Compact x2 of a few thousand parameters."""
    return write_network(tmp_path_factory.mktemp("networks"), "small", networks.compact())


@pytest.fixture(scope="session")
def planned(session: Session, settings: Settings) -> Callable[..., Plan]:
    """planned(source, network, factor, **request): the Plan of a picture."""

    def plan(source: Path, network: NetworkRef, factor: str = "2", **request: object) -> Plan:
        wish = Request(Decimal(factor), **request)  # type: ignore[arg-type]
        facts = session.facts(network)
        limits = PlanLimits.of(settings)
        return make_plan(probe(source), facts, network, wish, session.device, limits)

    return plan


@pytest.fixture
def order(
    planned: Callable[..., Plan], small: NetworkRef, tmp_path: Path
) -> Callable[..., JobOrder]:
    """order(source, factor, **request): a Job for `small` that writes out.png (or .jpeg, …)."""

    def make(source: Path, factor: str = "2", **request: object) -> JobOrder:
        form = str(request.get("output_format", "png"))
        plan = planned(source, small, factor, **request)
        return JobOrder("job", source, tmp_path / f"out.{form}", plan)

    return make
