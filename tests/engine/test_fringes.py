"""No dark or light fringe around what is cut out: against upscaling the picture on its background.

Alpha is resampled, the composite goes through the network, which draws edges sharper: so at a hard
edge single pixels differ by much, both ways. A fringe would be a difference that keeps its sign.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef, Plan
from upscale.engine.session import Session
from upscale.weights.store import Store

Floats = npt.NDArray[np.float64]
Upscaled = Callable[[str, npt.NDArray[np.uint8]], Floats]

SIDE, SCALE = 64, 4
RADIUS = np.hypot(*(np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2))
ALPHA = {
    "hard": np.where(RADIUS < 22, 255, 0),
    "soft": np.rint(np.clip((30 - RADIUS) / 20, 0, 1) * 255).astype(int),
}
# Largest difference in levels of the mean over the 4 x 4 pixels of a source pixel, and of all.
BOUNDS = {"hard": (48, 0.5), "soft": (8, 0.2)}


@pytest.fixture
def upscaled(planned: Callable[..., Plan], session: Session, tmp_path: Path) -> Upscaled:
    """upscaled(name, pixels): the bundled network's result as floats [H, W, C]."""
    network = NetworkRef.of(Store(tmp_path).networks()[0])

    def run(name: str, pixels: npt.NDArray[np.uint8]) -> Floats:
        source = tmp_path / f"{name}.png"
        Image.fromarray(pixels).save(source)
        target = tmp_path / f"{name}-large.png"
        session.run(JobOrder("job", source, target, planned(source, network, str(SCALE))))
        return np.asarray(Image.open(target)).astype(float)

    return run


def _cut_out(edge: str, *, hidden: tuple[int, int, int], flat: bool) -> npt.NDArray[np.uint8]:
    """Stripes, or one colour, under an alpha; where nothing shows the colour is `hidden`."""
    colour = np.zeros((SIDE, SIDE, 3), np.uint8)
    colour[:] = (200, 120, 60)
    if not flat:
        y, x = np.mgrid[:SIDE, :SIDE]
        colour[(x + y) % 16 < 8] = (60, 140, 220)
    alpha = ALPHA[edge]
    colour[alpha == 0] = hidden
    return np.dstack([colour, alpha]).astype(np.uint8)


def _over(pixels: Floats, background: int) -> Floats:
    alpha = pixels[..., 3:] / 255
    return np.asarray(pixels[..., :3] * alpha + background * (1 - alpha))


@pytest.mark.parametrize("edge", ["hard", "soft"])
def test_the_composite_is_that_of_upscaling_on_the_background(
    upscaled: Upscaled, edge: str
) -> None:
    cut = _cut_out(edge, hidden=(0, 255, 0), flat=False)
    ours = upscaled("cut", cut)
    for background in (0, 255):
        composite = np.rint(_over(cut.astype(float), background)).astype(np.uint8)
        difference = _over(ours, background) - upscaled(f"on-{background}", composite)
        a_source_pixel, everywhere = BOUNDS[edge]
        blocks = difference.reshape(SIDE, SCALE, SIDE, SCALE, 3).mean(axis=(1, 3))
        assert np.abs(blocks).max() < a_source_pixel
        assert abs(difference.mean()) < everywhere


@pytest.mark.parametrize("edge", ["hard", "soft"])
def test_what_is_hidden_never_shows(upscaled: Upscaled, edge: str) -> None:
    results = [
        upscaled(f"hidden-{n}", _cut_out(edge, hidden=hidden, flat=False))
        for n, hidden in enumerate([(0, 0, 0), (255, 255, 255), (0, 255, 0)])
    ]
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()


@pytest.mark.parametrize("edge", ["hard", "soft"])
def test_one_colour_stays_between_itself_and_the_background(upscaled: Upscaled, edge: str) -> None:
    ours = upscaled("flat", _cut_out(edge, hidden=(0, 0, 0), flat=True))
    colour = np.array((200, 120, 60))
    for background in (0, 255):
        shown = _over(ours, background)
        low, high = np.minimum(colour, background), np.maximum(colour, background)
        # Two levels of the network on a flat field, and rounding.
        assert (shown >= low - 4).all()
        assert (shown <= high + 4).all()
