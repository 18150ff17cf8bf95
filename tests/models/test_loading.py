"""Checkpoints that load, and each way in which a file does not."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests import networks
from upscale.errors import CheckpointError
from upscale.models.inspection import inspect
from upscale.models.loading import load_checkpoint
from upscale.models.runner import Runner
from upscale.models.testcard import draw_card


def _state(**kwargs: int) -> dict[str, torch.Tensor]:
    state = networks.compact(**kwargs).descriptor.model.state_dict()
    return {key: value.contiguous() for key, value in state.items()}


@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors"])
def test_each_kind_of_file_gives_the_same_network(tmp_path: Path, suffix: str) -> None:
    state, path = _state(), tmp_path / f"net{suffix}"
    if suffix == ".safetensors":
        save_file(state, path)
    else:
        torch.save({"params_ema": state}, path)
    loaded = load_checkpoint(path)
    assert loaded.scale == 2
    x = draw_card(20, 20, 3)
    assert torch.equal(Runner(loaded)(x), Runner(networks.compact())(x))


class _Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/upscale-was-hacked",)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"params": _Evil()}))
    with pytest.raises(CheckpointError, match="run code"):
        load_checkpoint(path)
    assert not Path("/tmp/upscale-was-hacked").exists()


def test_torchscript_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "script.pth"
    torch.jit.save(torch.jit.script(torch.nn.Conv2d(3, 3, 3)), str(path))
    with pytest.raises(CheckpointError, match="TorchScript"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.pth", b"", "is empty"),
        ("page.pth", b"<!DOCTYPE html><html>sorry</html>", "web page"),
        ("text.pth", b"hello there, this is text", "cannot be read"),
        ("cut.safetensors", b"\x10\x00\x00\x00\x00\x00\x00\x00{}", "cannot be read"),
        ("model.onnx", b"whatever", "files only"),
    ],
)
def test_other_files_are_one_clear_error(
    tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_checkpoint(path)
    assert name in caught.value.message


def test_a_truncated_checkpoint_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    torch.save(_state(), path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        load_checkpoint(tmp_path / "nowhere.pth")


def test_an_unknown_architecture_is_told(tmp_path: Path) -> None:
    save_file({"mystery.weight": torch.zeros(3)}, tmp_path / "x.safetensors")
    with pytest.raises(CheckpointError, match="not supported"):
        load_checkpoint(tmp_path / "x.safetensors")


def test_a_mix_is_the_weighted_mean_of_two_files(tmp_path: Path) -> None:
    first = _state()
    second = {key: value * 0.5 for key, value in first.items()}
    save_file(first, tmp_path / "a.safetensors")
    save_file(second, tmp_path / "b.safetensors")
    mixed = load_checkpoint(
        tmp_path / "a.safetensors", blend_path=tmp_path / "b.safetensors", blend=0.25
    )
    weights = mixed.descriptor.model.state_dict()
    for key, value in first.items():
        assert torch.allclose(weights[key], value * (0.25 + 0.75 * 0.5), atol=1e-6)


def test_files_of_other_shapes_do_not_mix(tmp_path: Path) -> None:
    save_file(_state(), tmp_path / "a.safetensors")
    save_file(_state(features=8), tmp_path / "b.safetensors")
    with pytest.raises(CheckpointError, match="same tensors"):
        load_checkpoint(
            tmp_path / "a.safetensors", blend_path=tmp_path / "b.safetensors", blend=0.5
        )


def test_wrongly_scaled_weights_fail_the_sanity_check_unless_told(tmp_path: Path) -> None:
    state = _state()
    last = max(key for key in state if key.endswith("bias") and state[key].shape[0] == 12)
    state[last] += 1.5
    path = tmp_path / "scaled.safetensors"
    save_file(state, path)
    with pytest.raises(CheckpointError, match="flat grey"):
        inspect(load_checkpoint(path), name=path.name)
    assert inspect(load_checkpoint(path), name=path.name, sanity=False).scale == 2
