"""What a file is, by its first bytes: the kinds that get mistaken for checkpoints. And what a
set of tensors is, by their names: the networks that are not for pictures alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_HEAD = 1024

_STARTS = (
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file, as Keras writes them"),
    (b"7767517", "an ncnn parameter file"),
    (b"\x93NUMPY", "a numpy array"),
    (b"version https://git-lfs", "a pointer of git-lfs, not the file itself: run `git lfs pull`"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"BZh", "a bzip2 archive"),
    (b"\x89PNG", "a picture"),
    (b"\xff\xd8\xff", "a picture"),
)

# By the ending, where the content says little.
_ENDINGS = {
    ".onnx": "an ONNX file",
    ".param": "an ncnn parameter file",
    ".mlmodel": "a Core ML model",
    ".tflite": "a TensorFlow Lite model",
    ".pb": "a TensorFlow graph",
    ".engine": "a TensorRT engine",
    ".gguf": "a GGUF file",
}


def kind_of(path: Path) -> str | None:
    """What else a file is than a checkpoint, in words; None where it may be one. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        return "a web page (was a download page saved?)"
    if head[257:262] == b"ustar":
        return "a tar archive"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model"
    if _is_onnx(head):
        return "an ONNX file"
    return _ENDINGS.get(path.suffix.lower())


def _is_onnx(head: bytes) -> bool:
    """A protocol buffer whose first field is a small version, then the name of what wrote it."""
    producer = rb"\x08[\x01-\x20](\x12[\x01-\x40][\x20-\x7e]+|:)"
    return re.match(producer, head) is not None


# The first that fits; each a word for people and names of tensors that tell it.
_FAMILIES = (
    ("a LoRA", r"\.?lora_(up|down|A|B)\b|lora_unet_|lora_te_"),
    ("a Stable Diffusion XL checkpoint", r"^conditioner\.embedders\."),
    ("a Stable Diffusion checkpoint", r"^model\.diffusion_model\."),
    ("a ControlNet", r"^(control_model|controlnet)[._]|^input_hint_block\."),
    ("a textual inversion embedding", r"^(string_to_param|emb_params)\b"),
    ("a diffusers UNet", r"^down_blocks\.\d+\.(attentions|resnets)\."),
    (
        "a diffusion transformer",
        r"^(double|single|joint|transformer)_blocks\.\d",
    ),
    ("a SeedVR2 transformer", r"^blocks\.\d+\.\w+\.\w+\.(vid|txt|all)\b"),
    ("a VAE", r"^(first_stage_model\.)?(encoder|decoder)\.(down|up|down_blocks|up_blocks)\.\d+\."),
    ("a text encoder", r"^(text_model|transformer\.text_model)\.|^encoder\.block\.\d+\.layer\."),
    ("a language model", r"^(model\.)?layers\.\d+\.(self_attn|mlp)\."),
    ("a training state with an optimiser", r"^optimizer"),
)


def describe_tensors(names: Iterable[str]) -> str:
    """What tensors of these names are, in words."""
    listed = list(names)
    for what, pattern in _FAMILIES:
        if any(re.search(pattern, name) for name in listed):
            return what
    if not listed:
        return "a file without tensors"
    shown = ", ".join(name[:60] for name in listed[:3])
    return f"a state dict of {len(listed)} tensors, first keys {shown}"
