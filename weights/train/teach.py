"""What a larger network makes of the training pictures: `python -m upscale.weights.train.teach`.

Each picture of a folder is reduced by bicubic and enlarged again by the teacher, once; the results
are PNG files of the same names in another folder. They hold what can be known of a picture from its
small version, without the detail that no network can guess, so that a gradient towards them is far
less noisy than one towards the originals. Files that are there already are left as they are;
`teacher.json` says who the teacher was.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from torch import nn

from upscale.weights.train.bicubic import reduce
from upscale.weights.train.data import picture_paths, read
from upscale.weights.train.evaluate import enlarge_by

TEACHER = "teacher.json"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def teach(teacher: nn.Module, pictures: Path, out: Path, scale: int = 4) -> None:
    """Write the teacher's output for each of `pictures`; sides are cut to multiples of `scale`."""
    out.mkdir(parents=True, exist_ok=True)
    for path in picture_paths(pictures):
        target = (out / path.relative_to(pictures)).with_suffix(".png")
        if target.exists():
            continue
        picture = read(path)
        height, width = (side // scale * scale for side in picture.shape[:2])
        made = enlarge_by(teacher, reduce(picture[:height, :width], scale))
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting = target.with_suffix(".part")
        Image.fromarray(made).save(waiting, "PNG", compress_level=1)
        waiting.replace(target)


def main(argv: list[str] | None = None) -> None:
    """Read the arguments and teach."""
    from spandrel import ModelLoader

    parser = argparse.ArgumentParser(prog="upscale.weights.train.teach", description=__doc__)
    parser.add_argument("teacher", type=Path, help="a x4 checkpoint of any kind spandrel knows")
    parser.add_argument("pictures", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(argv)
    torch.set_num_threads(options.threads)
    network = ModelLoader(device="cpu").load_from_file(options.teacher).model.float().eval()
    options.out.mkdir(parents=True, exist_ok=True)
    who = {"file": options.teacher.name, "sha256": digest(options.teacher)}
    (options.out / TEACHER).write_text(json.dumps(who, indent=1) + "\n")
    teach(network, options.pictures, options.out)
    sys.stdout.write(f"{options.out}: {len(picture_paths(options.out))} files\n")


if __name__ == "__main__":
    main()
