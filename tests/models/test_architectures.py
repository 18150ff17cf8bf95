"""Every architecture of spandrel that turns a picture into a picture loads and runs.

Random weights, small shapes where the constructor allows it; through detection, as a file would.
The face and inpainting networks (GFPGAN, RestoreFormer, LaMa) are no part of this project.
"""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch

from tests import networks
from upscale.errors import CheckpointError
from upscale.models.loading import load_checkpoint
from upscale.models.runner import Runner, is_seedable
from upscale.models.testcard import draw_card

WINDOWED = {"embed_dim": 24, "depths": [2], "num_heads": [2], "window_size": 8, "img_size": 16}

# architecture -> class and the arguments that it needs, or that keep it small.
ARCHITECTURES: list[tuple[str, str, dict[str, Any]]] = [
    ("Compact", "Compact", {"num_feat": 8, "num_conv": 2}),
    ("SwiftSRGAN", "SwiftSRGAN", {}),
    ("HAT", "HAT", {"embed_dim": 36, "depths": (1,), "num_heads": (2,), "window_size": 8}),
    ("GRL", "GRL", {}),
    ("Swin2SR", "Swin2SR", {**WINDOWED, "upscale": 2, "upsampler": "pixelshuffledirect"}),
    ("SwinIR", "SwinIR", {**WINDOWED, "upscale": 2, "upsampler": "pixelshuffledirect"}),
    ("OmniSR", "OmniSR", {}),
    ("SCUNet", "SCUNet", {"config": [1, 1, 1, 1, 1, 1, 1]}),
    ("FBCNN", "FBCNN", {}),
    ("Uformer", "Uformer", {"embed_dim": 16}),
    ("RGT", "RGT", {"depth": [2], "num_heads": [2], "embed_dim": 32}),
    ("DAT", "DAT", {"depth": [2], "num_heads": [2], "embed_dim": 32, "img_size": 16}),
    ("CRAFT", "CRAFT", {}),
    ("KBNet", "KBNet_l", {}),
    ("DITN", "DITN", {}),
    ("MMRealSR", "MMRealSR", {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 16, "num_block": 1}),
    ("SPAN", "SPAN", {"num_in_ch": 3, "num_out_ch": 3, "feature_channels": 16}),
    ("RealCUGAN", "UpCunet2x", {}),
    ("RealCUGAN", "UpCunet3x", {}),
    ("RealCUGAN", "UpCunet4x", {}),
    ("RealCUGAN", "UpCunet2x_fast", {}),
    ("SAFMN", "SAFMN", {"dim": 16, "n_blocks": 2}),
    ("SAFMNBCIE", "SAFMNBCIE", {"dim": 16}),
    ("DCTLSA", "DCTLSA", {}),
    ("FFTformer", "FFTformer", {"dim": 16}),
    ("ATD", "ATD", {}),
    ("MixDehazeNet", "MixDehazeNet", {}),
    ("DRUNet", "DRUNet", {"in_nc": 4, "out_nc": 3}),
    ("DnCNN", "DnCNN", {}),
    ("DRCT", "DRCT", {"embed_dim": 36, "depths": (6,), "num_heads": (6,), "window_size": 8}),
    ("ESRGAN", "ESRGAN", {"num_filters": 8, "num_blocks": 1}),
    ("PLKSR", "PLKSR", {"dim": 16, "n_blocks": 2}),
    ("PLKSR", "RealPLKSR", {"dim": 16, "n_blocks": 2}),
    ("RetinexFormer", "RetinexFormer", {}),
    ("HVICIDNet", "HVICIDNet", {}),
    ("SeemoRe", "SeemoRe", {}),
    ("MoSR", "MoSR", {"n_block": 2, "dim": 16}),
    ("MoESR", "MoESR", {"n_blocks": 1, "n_block": 1, "dim": 16}),
    ("RCAN", "RCAN", {"n_resgroups": 1, "n_resblocks": 1, "n_feats": 16}),
    ("FDAT", "FDAT", {"embed_dim": 32, "num_groups": 1}),
    (
        "AuraSR",
        "AuraSR",
        {
            "dim": 4,
            "image_size": None,
            "input_image_size": None,
            "style_network": {"dim_in": 16, "dim_out": 64, "depth": 2},
            "self_attn_dim_head": 8,
            "attn_depths": (1, 1, 1, 1, 1),
            "mid_attn_depth": 1,
        },
    ),
]


def _build(package: str, name: str, options: dict[str, Any]) -> torch.nn.Module:
    module = importlib.import_module(f"spandrel.architectures.{package}")
    torch.manual_seed(0)
    network: torch.nn.Module = getattr(module, name)(**options)
    return network.eval()


@pytest.mark.parametrize(
    ("package", "name", "options"), ARCHITECTURES, ids=[name for _, name, _ in ARCHITECTURES]
)
def test_it_loads_and_runs(package: str, name: str, options: dict[str, Any]) -> None:
    network = networks.loaded(_build(package, name, options))
    assert network.descriptor.architecture.id == package
    runner = Runner(network)
    # A size that needs padding wherever a multiple is asked for.
    y = runner(draw_card(51, 43, runner.channels))
    assert y.shape[-2:] == (51 * network.scale, 43 * network.scale)
    assert y.dtype == torch.float32
    assert bool(torch.isfinite(y).all())


def test_no_architecture_was_forgotten() -> None:
    from spandrel import MAIN_REGISTRY

    known = {package for package, _, _ in ARCHITECTURES}
    others = {"GFPGAN", "RestoreFormer", "LaMa", "IPT", "NAFNet"}
    found = {support.architecture.id for support in MAIN_REGISTRY.architectures()}
    assert found == known | others


def test_aurasr_has_one_style_for_all_tiles_of_a_seed_and_draws_no_noise() -> None:
    package, name, options = ARCHITECTURES[-1]
    network = networks.loaded(_build(package, name, options))
    assert is_seedable(network)
    x = draw_card(32, 32, 3)
    first, again, other = (Runner(network, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first(x), first(x))
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))
    # The same style for each picture of a batch.
    pair = first(torch.cat((x, x)))
    assert torch.allclose(pair[0], pair[1], atol=1e-6)


def test_an_inpainting_network_is_refused_by_kind(tmp_path: Any) -> None:
    lama = _build("LaMa", "LaMa", {})
    torch.save(lama.state_dict(), tmp_path / "lama.pth")
    with pytest.raises(CheckpointError, match="mask"):
        load_checkpoint(tmp_path / "lama.pth")
