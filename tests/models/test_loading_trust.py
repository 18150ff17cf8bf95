"""What is never loaded, and that its error says what it was taken for. Nothing in a file is run."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from spandrel.__helpers.unpickler import safe_list

from tests import networks
from upscale.errors import CheckpointError
from upscale.models.loading import load_checkpoint
from upscale.settings import Settings
from upscale.weights.headers import SAFE_GLOBALS

DATA = Path(os.environ.get("UPSCALE_TEST_DATA", ""), "weights")
real_data = pytest.mark.skipif(
    not (os.environ.get("UPSCALE_TEST_DATA") and (DATA / "hostile").is_dir()),
    reason="UPSCALE_TEST_DATA names no folder with weights/hostile in it",
)


def _state() -> dict[str, torch.Tensor]:
    state = networks.compact().descriptor.model.state_dict()
    return {key: value.contiguous() for key, value in state.items()}


def test_the_header_and_the_loader_allow_the_same_names() -> None:
    assert set(safe_list) == SAFE_GLOBALS


@pytest.mark.parametrize("name", ["net.pt", "net.pth.tar"])
@pytest.mark.parametrize("zipped", [True, False])
def test_other_endings_of_plain_weights_load(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(_state(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    assert load_checkpoint(tmp_path / name).scale == 2


@pytest.mark.parametrize("name", ["net.pth", "net.pt", "net.ckpt"])
def test_torchscript_is_refused_under_any_ending(tmp_path: Path, name: str) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(3, 3, 3)), str(tmp_path / name))
    with pytest.raises(CheckpointError, match="TorchScript"):
        load_checkpoint(tmp_path / name)


class _Hostile:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_beside_good_weights_is_refused_and_not_run(tmp_path: Path, zipped: bool) -> None:
    mark, path = tmp_path / "was-run", tmp_path / "net.pth"
    state = {"params": _state(), "note": _Hostile(mark)}
    torch.save(state, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match="run code"):
        load_checkpoint(path)
    assert not mark.exists()
    path.write_bytes(pickle.dumps(_Hostile(mark)))
    with pytest.raises(CheckpointError, match="run code"):
        load_checkpoint(path)
    assert not mark.exists()


def test_a_whole_module_is_refused_with_advice(tmp_path: Path) -> None:
    torch.save(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3)), tmp_path / "net.pth")
    with pytest.raises(CheckpointError, match=r"whole module .*state dict"):
        load_checkpoint(tmp_path / "net.pth")


def test_the_settings_limit_bytes_and_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_file(_state(), tmp_path / "net.safetensors")
    for limits, told in (
        (Settings(max_checkpoint_bytes=1000), "UPSCALE_MAX_CHECKPOINT_BYTES"),
        (Settings(max_checkpoint_parameters=1000), "UPSCALE_MAX_CHECKPOINT_PARAMETERS"),
    ):
        monkeypatch.setattr("upscale.models.loading.get_settings", lambda limits=limits: limits)
        with pytest.raises(CheckpointError, match=told):
            load_checkpoint(tmp_path / "net.safetensors")


def test_a_tensor_that_only_claims_to_be_large_is_refused(tmp_path: Path) -> None:
    """A view of one number, which loading would lay out in full."""
    state = _state() | {"body.0.weight": torch.zeros(1).expand(10**6, 10**5)}
    torch.save(state, tmp_path / "net.pth")
    assert (tmp_path / "net.pth").stat().st_size < 1 << 20
    with pytest.raises(CheckpointError, match=r"100,000,\d{3},\d{3} parameters"):
        load_checkpoint(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (["down_blocks.0.resnets.0.conv1.weight", "conv_in.weight"], "a diffusers UNet"),
        (["model.diffusion_model.out.0.weight"], "a Stable Diffusion checkpoint"),
        (["mystery.weight"], "a state dict of 1 tensors, first keys mystery.weight"),
    ],
)
def test_what_is_not_supported_is_told_by_what_it_is(
    tmp_path: Path, keys: list[str], told: str
) -> None:
    save_file({key: torch.zeros(3) for key in keys}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not supported") as caught:
        load_checkpoint(tmp_path / "x.safetensors")
    assert told in caught.value.message


@real_data
def test_real_hostile_and_unsupported_files_are_refused_with_a_reason() -> None:
    for path in sorted((DATA / "hostile").iterdir()):
        with pytest.raises(CheckpointError, match="run code"):
            load_checkpoint(path)
    for path in sorted((DATA / "unsupported").iterdir()):
        with pytest.raises(CheckpointError, match=r"a state dict of \d+ tensors, first keys"):
            load_checkpoint(path)
