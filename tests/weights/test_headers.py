"""Headers of checkpoints, made by hand: what is read of them, and what is refused before anything
of its size is allocated. No torch here.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.weights.conftest import LIMITS, safetensors
from upscale.errors import CheckpointError
from upscale.weights.headers import Limits, read_header
from upscale.weights.magic import describe_tensors

DATA = Path(os.environ.get("UPSCALE_TEST_DATA", ""), "weights")
real_data = pytest.mark.skipif(
    not (os.environ.get("UPSCALE_TEST_DATA") and DATA.is_dir()),
    reason="UPSCALE_TEST_DATA names no folder with weights",
)


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def number(value: int) -> bytes:
    raw = value.to_bytes(9, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def tensor(shape: tuple[int, ...], numbers: int, *, storage: str = "FloatStorage") -> bytes:
    """The opcodes of one tensor, as torch pickles it."""
    persistent = text("storage") + f"ctorch\n{storage}\n".encode() + text("0") + text("cpu")
    sides = b"(" + b"".join(number(side) for side in shape) + b"t"
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n(("
        + persistent
        + number(numbers)
        + b"tQ"
        + number(0)
        + sides
        + sides
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def table(**items: bytes) -> bytes:
    """The opcodes of a dict."""
    return b"}" + b"".join(text(key) + value + b"s" for key, value in items.items())


def archive(
    path: Path, content: bytes, numbers: int = 12, *, extra: str | None = None, packed: bool = False
) -> Path:
    """A zip archive as torch.save writes them."""
    how = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", how) as file:
        file.writestr("net/data.pkl", b"\x80\x02" + content + b".")
        file.writestr("net/data/0", bytes(4 * numbers))
        file.writestr("net/version", "3\n")
        if extra:
            file.writestr(extra, b"x")
    return path


def legacy(path: Path, content: bytes, numbers: int = 12) -> Path:
    """What torch.save wrote before it wrote archives."""
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"a": 1})]
    path.write_bytes(b"".join(head) + b"\x80\x02" + content + b"." + bytes(4 * numbers))
    return path


@pytest.mark.parametrize("write", [archive, legacy])
def test_names_and_shapes_are_read(tmp_path: Path, write: object) -> None:
    inner = table(weight=tensor((3, 4), 12), bias=tensor((), 12))
    path = write(tmp_path / "a.pth", table(params=inner, step=number(7)))  # type: ignore[operator]
    header = read_header(path, LIMITS)
    assert header.tensors == {"params.weight": (3, 4), "params.bias": ()}
    assert header.parameters == 13


def test_safetensors_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(safetensors(1000))
    assert read_header(path, LIMITS).tensors == {"a.weight": (1000,)}
    path.rename(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=r"rename it to end in \.safetensors"):
        read_header(tmp_path / "a.pth", LIMITS)


@pytest.mark.parametrize("name", ["a.pt", "a.pth.tar", "A.PTH", "a.ckpt"])
def test_these_endings_are_read_as_what_torch_saves(tmp_path: Path, name: str) -> None:
    assert read_header(archive(tmp_path / name, table(a=tensor((2,), 2))), LIMITS).parameters == 2


@pytest.mark.parametrize("write", [archive, legacy])
@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"cos\nsystem\n(" + text("true") + b"tR", "os.system"),
        (b"cbuiltins\neval\n(" + text("1") + b"tR", "builtins.eval"),
        (b"c__main__\nNet\n)\x81}b", "__main__.Net"),
        (b"ctorch.nn.modules.conv\nConv2d\n)\x81}b", "torch.nn.modules.conv.Conv2d"),
        (b"ctorch.jit\nload\n(" + text("x") + b"tR", "torch.jit.load"),
    ],
)
def test_what_wants_code_is_refused_by_name(
    tmp_path: Path, write: object, content: bytes, named: str
) -> None:
    path = write(tmp_path / "a.pth", table(a=content))  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="run code") as caught:
        read_header(path, LIMITS)
    assert named in caught.value.message


def test_a_plain_pickle_is_refused_with_or_without_code(tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    path.write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(CheckpointError, match="none of weights"):
        read_header(path, LIMITS)
    path.write_bytes(b"cposix\nsystem\n(" + text("true") + b"tR.")
    with pytest.raises(CheckpointError, match=r"posix\.system"):
        read_header(path, LIMITS)


def test_code_archives_and_other_archives_are_told(tmp_path: Path) -> None:
    content = table(a=tensor((2,), 2))
    for extra in ("net/constants.pkl", "net/code/__torch__.py"):
        with pytest.raises(CheckpointError, match="TorchScript"):
            read_header(archive(tmp_path / "a.pt", content, extra=extra), LIMITS)
    with zipfile.ZipFile(tmp_path / "b.pth", "w") as file:
        file.writestr("model_index.json", "{}")
    with pytest.raises(CheckpointError, match=r"zip archive \(model_index\.json\)"):
        read_header(tmp_path / "b.pth", LIMITS)


def test_sizes_are_judged_before_anything_is_read(tmp_path: Path) -> None:
    wide = archive(tmp_path / "wide.pth", table(a=tensor((10**6, 10**6), 12)))
    with pytest.raises(CheckpointError, match=r"1,000,000,000,000 parameters"):
        read_header(wide, LIMITS)
    bomb = archive(tmp_path / "bomb.pth", table(a=tensor((2,), 2)), 10**6, packed=True)
    assert bomb.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="UPSCALE_MAX_CHECKPOINT_BYTES"):
        read_header(bomb, Limits(100_000, 10**9))
    large = tmp_path / "large.safetensors"
    with large.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointError, match="UPSCALE_MAX_CHECKPOINT_BYTES"):
        read_header(large, LIMITS)


def test_a_safetensors_header_may_claim_any_number(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    entry = {"dtype": "F32", "shape": [1 << 40, 1 << 40], "data_offsets": [0, 4]}
    text_ = json.dumps({"a": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(text_)) + text_ + bytes(4))
    with pytest.raises(CheckpointError, match="parameters"):
        read_header(path, LIMITS)
    path.write_bytes(struct.pack("<Q", 1 << 62) + bytes(100))
    with pytest.raises(CheckpointError, match="its header claims"):
        read_header(path, LIMITS)


@pytest.mark.parametrize("write", [archive, legacy])
def test_storages_larger_than_the_file_are_refused(tmp_path: Path, write: object) -> None:
    path = write(tmp_path / "a.pth", table(a=tensor((2,), 10**14)))  # type: ignore[operator]
    with pytest.raises(CheckpointError, match="bytes of numbers"):
        read_header(path, LIMITS)


def test_a_pickle_that_claims_a_far_place_is_refused(tmp_path: Path) -> None:
    far = b"}r\xff\xff\xff\x7f"
    with pytest.raises(CheckpointError, match="all memory"):
        read_header(archive(tmp_path / "a.pth", far), LIMITS)


def test_tables_in_tables_without_end_are_refused(tmp_path: Path) -> None:
    content = number(1)
    for _ in range(50):
        content = table(a=content)
    with pytest.raises(CheckpointError, match="nested"):
        read_header(archive(tmp_path / "a.pth", content), LIMITS)
    itself = b"}q\x00" + text("a") + b"h\x00s"
    assert read_header(archive(tmp_path / "b.pth", itself), LIMITS).tensors == {}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("a.pth", b"", "is empty"),
        ("a.pth", b"GGUF\3\0\0\0", "a GGUF file"),
        ("a.gguf", b"GGUF\3\0\0\0", "a GGUF file"),
        ("a.onnx", b"\x08\x07\x12\x07pytorch", "an ONNX file"),
        ("a.pth", b"\x08\x07\x12\x07pytorch\x1a\x05", "an ONNX file"),
        ("a.h5", b"\x89HDF\r\n", "an HDF5 file"),
        ("a.pth", b"version https://git-lfs.github.com/spec/v1\noid", "git-lfs"),
        ("a.pth", b"<!DOCTYPE html><html>", "a web page"),
        ("a.pth", b"7767517\n3 3\n", "ncnn"),
        ("a.pth", b"\x1f\x8b\x08", "gzip"),
        ("a.pth", b"\x89PNG\r\n\x1a\n", "a picture"),
        ("a.txt", b"words", "files only"),
    ],
)
def test_other_files_are_told_by_what_they_are(
    tmp_path: Path, name: str, content: bytes, told: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as caught:
        read_header(tmp_path / name, LIMITS)
    assert name in caught.value.message


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["down_blocks.0.attentions.0.norm.weight"], "a diffusers UNet"),
        (["model.diffusion_model.input_blocks.0.0.weight", "x"], "a Stable Diffusion checkpoint"),
        (["conditioner.embedders.0.x", "model.diffusion_model.x"], "Stable Diffusion XL"),
        (["lora_unet_down_blocks_0.lora_up.weight"], "a LoRA"),
        (["control_model.input_hint_block.0.weight"], "a ControlNet"),
        (["encoder.down_blocks.0.resnets.0.conv1.weight"], "a VAE"),
        (["text_model.encoder.layers.0.x"], "a text encoder"),
        (["model.layers.0.self_attn.q_proj.weight"], "a language model"),
        (["blocks.0.attn.proj_qkv.vid.weight"], "SeedVR2"),
        ([], "without tensors"),
        (["one.weight", "two.weight"], "2 tensors, first keys one.weight, two.weight"),
    ],
)
def test_sets_of_tensors_are_told_by_their_names(names: list[str], told: str) -> None:
    assert told in describe_tensors(names)


def _samples() -> list[tuple[str, bytes]]:
    content = table(params=table(a=tensor((3, 4), 12)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("net/data.pkl", b"\x80\x02" + content + b".")
        file.writestr("net/data/0", bytes(48))
    head = [pickle.dumps(value, 2) for value in (0x1950A86A20F9469CFC6C, 1001, {"a": 1})]
    old = b"".join(head) + b"\x80\x02" + content + b"." + bytes(48)
    return [(".pth", buffer.getvalue()), (".pth", old), (".safetensors", safetensors(10))]


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_is_one_clear_error_or_still_good(
    tmp_path: Path, data: st.DataObject
) -> None:
    suffix, content = data.draw(st.sampled_from(_samples()))
    damaged = bytearray(content)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(damaged[: data.draw(st.integers(1, len(damaged)))])
    with contextlib.suppress(CheckpointError):
        read_header(path, LIMITS)


@real_data
def test_real_checkpoints_have_readable_headers_and_hostile_ones_are_refused() -> None:
    for path in sorted(p for p in DATA.rglob("*") if p.is_file()):
        if path.parent.name == "hostile":
            with pytest.raises(CheckpointError, match="run code"):
                read_header(path, LIMITS)
        else:
            header = read_header(path, LIMITS)
            assert 10_000 < header.parameters < 10_000_000
