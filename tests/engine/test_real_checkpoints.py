"""Real weights against the plain call of the loader: a grey level at most where tiling is exact.

They are found by UPSCALE_TEST_DATA, a folder with `weights/` and `images/`; absent, these skip.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from upscale.engine.assembly import quantise
from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef, Plan
from upscale.engine.session import Session
from upscale.errors import CheckpointError
from upscale.models.loading import load_checkpoint
from upscale.models.spandrel_import import ModelLoader

DATA = Path(os.environ.get("UPSCALE_TEST_DATA", ""))
WEIGHTS = DATA / "weights"

pytestmark = pytest.mark.skipif(
    not os.environ.get("UPSCALE_TEST_DATA") or not WEIGHTS.is_dir(),
    reason="UPSCALE_TEST_DATA names no folder with real checkpoints",
)

EXACT = [
    "4xLSDIRCompactC3.safetensors",
    "realesr-animevideov3.safetensors",
    "realesr-general-x4v3.safetensors",
    "SPAN28_x4_ntire2024.safetensors",
    "dncnn_25.pth",
]
# Global or deep: the largest seam allowed is the one that the self-test measured, with room.
BLENDED = ["realcugan-pro-2x-conservative.safetensors"]


def _reference(path: Path) -> NetworkRef:
    return NetworkRef(path.stem, str(path), hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph small enough to run whole, large enough for several tiles."""
    source = sorted((DATA / "images" / "kodak" / "LRx4").iterdir())[0]
    path = tmp_path_factory.mktemp("pictures") / "in.png"
    Image.open(source).convert("RGB").crop((0, 0, 150, 110)).save(path)
    return path


def _plainly(path: Path, picture: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """What the loader's own call gives for the whole picture."""
    descriptor = ModelLoader(device="cpu").load_from_file(path)
    x = torch.from_numpy(np.asarray(Image.open(picture), np.float32) / 255).permute(2, 0, 1)[None]
    if descriptor.input_channels == 1:
        y = descriptor(x.transpose(0, 1).contiguous()).transpose(0, 1)
    else:
        y = descriptor(x)
    return quantise(y[0].clone(), np.uint8)  # type: ignore[return-value]


@pytest.mark.parametrize(
    "name", [*EXACT, *(pytest.param(n, marks=pytest.mark.slow) for n in BLENDED)]
)
def test_tiled_is_what_the_loader_gives_untiled(
    session: Session,
    planned: Callable[..., Plan],
    picture: Path,
    tmp_path: Path,
    name: str,
) -> None:
    path = WEIGHTS / name
    scale = str(load_checkpoint(path).scale)
    plan = planned(picture, _reference(path), scale, precision="fp32", tile=48)
    target = tmp_path / "out.png"
    session.run(JobOrder("job", picture, target, plan))
    ours = np.asarray(Image.open(target)).astype(int)
    largest = np.abs(ours - _plainly(path, picture).astype(int)).max()
    if name in EXACT:
        assert plan.passes[0].tiles.mode == "exact"
        assert largest <= 1
    else:
        assert plan.contract.seam_error is not None
        assert largest <= 4 * plan.contract.seam_error + 8


def test_the_mix_of_general_and_wdn_lies_between_them(
    session: Session, planned: Callable[..., Plan], picture: Path, tmp_path: Path
) -> None:
    general, wdn = (WEIGHTS / f"realesr-general-{n}x4v3.safetensors" for n in ("", "wdn-"))
    results = []
    for share in (1.0, 0.5, 0.0):
        ref = NetworkRef("mix", str(general), f"mix-{share}", str(wdn), share)
        plan = planned(picture, ref, "4", precision="fp32")
        target = tmp_path / f"{share}.png"
        session.run(JobOrder("job", picture, target, plan))
        results.append(np.asarray(Image.open(target)).astype(float))
    ends = np.abs(results[0] - results[2]).mean()
    assert 0 < np.abs(results[0] - results[1]).mean() < ends
    assert 0 < np.abs(results[2] - results[1]).mean() < ends


@pytest.mark.parametrize("folder", ["hostile", "unsupported"])
def test_hostile_and_unknown_files_are_refused(folder: str) -> None:
    for path in sorted((WEIGHTS / folder).iterdir()):
        with pytest.raises(CheckpointError):
            load_checkpoint(path)
