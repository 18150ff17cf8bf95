"""The card of a trained network: what it was made from, how, how good it is, where it fails.

Works on the folder a training run left and the file that was exported from it. Writes `NAME.json`
(the records, for programs) and `NAME.md` (the same for people) beside the file, never by hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from textwrap import fill, wrap
from typing import Any

import torch
from spandrel import ModelLoader

from upscale.weights.train.checks import Checks, check
from upscale.weights.train.evaluate import Score, evaluate
from upscale.weights.train.measures import MEASURES
from upscale.weights.train.network import macs_of, parameters_of
from upscale.weights.train.recipe import Recipe

POINTS = 200
"""Most points of a curve that are kept in the records."""

HEADS = (
    *("set", "pictures", "PSNR, bicubic", "PSNR", "gain", "SSIM, bicubic", "SSIM"),
    *("MS-SSIM, bicubic", "MS-SSIM", "GMSD, bicubic", "GMSD"),
)
OPTIMISERS = {"adam": "Adam", "muon": "Muon for the body's convolutions and Adam for the rest"}

LIMITS = """## Limits

- Made for clean, sharp sources. It does not remove noise or the blocks of strong JPEG compression;
  it enlarges them.
- Edges that are one pixel sharp, as in screenshots and pixel drawings, get a thin darker and
  lighter seam (the overshoot above): most training pairs come from bicubic reduction, whose own
  seams it has learnt to undo, and it does so where there are none.
- It restores what is there and does not invent texture: foliage, hair and fabric stay softer than
  a generative model would paint them.
- Fine detail of RGB pictures without colour may be tinted a little (the figures are above); flat
  areas are not, and pictures of one channel are kept to one.
- Text whose letters are less than about eight pixels high is sharpened and not made readable.
- Fixed factor of four, RGB, no transparency of its own.
"""


def records(
    run: Path, file: Path, sets: dict[str, Path], colours: Path, machine: str
) -> dict[str, Any]:
    """Everything that is known of `file`, which the run in `run` has made.

    `sets` are measured by name; `colours` is the folder on which a shift of colours is looked for.
    """
    saved = torch.load(run / "checkpoint.pt", map_location="cpu", weights_only=True)
    lessons = run / "lessons.json"
    curve = [json.loads(line) for line in (run / "curve.jsonl").read_text().splitlines()]
    network = ModelLoader(device="cpu").load_from_file(file).model.float().eval()
    validated = [point for point in curve if "validation" in point]
    chosen = max(validated, key=lambda point: point["validation"])["step"] if validated else None
    return {
        "file": file.name,
        "bytes": file.stat().st_size,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "architecture": "Compact",
        "scale": 4,
        "parameters": parameters_of(network),
        "macs": macs_of(network),
        "recipe": saved["recipe"],
        "started_from": started_from(run, saved["recipe"]["start"]),
        "steps": saved["step"],
        "chosen_step": saved["step"] if chosen is None else chosen,
        "minutes": round(saved["seconds"] / 60, 1),
        "machine": machine,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "numpy", "pillow", "spandrel")},
        },
        "figures": {
            name: figures(evaluate(network, folder, measures=tuple(MEASURES)))
            for name, folder in sets.items()
        },
        "checks": asdict(check(network, colours)),
        "data": json.loads((run / "listing.json").read_text()),
        "lessons": json.loads(lessons.read_text()) if lessons.exists() else None,
        "curve": thinned([point for point in curve if "loss" in point]),
        "validation": validated,
    }


def started_from(run: Path, digest: str | None) -> dict[str, Any] | None:
    """How the weights that a run started from were made; ValueError if its records are others'."""
    if digest is None:
        return None
    path = run / "start.json"
    if not path.exists():
        return {"sha256": digest}
    before = json.loads(path.read_text())
    if before["sha256"] != digest:
        raise ValueError("start.json does not describe the weights that the run started from")
    kept = ("sha256", "recipe", "steps", "minutes", "machine", "started_from")
    return {name: before.get(name) for name in kept}


def commands(known: dict[str, Any]) -> list[str]:
    """The training programs' command lines that lead to a file, the first run first."""
    before = known.get("started_from")
    earlier = commands(before) if before and "recipe" in before else []
    options = {k: v for k, v in known["recipe"].items() if v is not None and v is not False}
    if options.pop("taught", 0):
        options |= {"teacher": "TAUGHT", "taught": known["recipe"]["taught"]}
    if options.get("fonts"):
        options["fonts"] = "FONTS"
    if before:
        options["start"] = f"{before['sha256'][:12]}.safetensors"
    words = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f" {value}")
        for name, value in options.items()
    ]
    command = "python -m upscale.weights.train PICTURES --out DIR --validation VALIDATION"
    lines = [command, *wrap(" ".join(words), 90, break_on_hyphens=False)]
    return [*earlier, " \\\n    ".join(lines) + ended(known)]


def ended(known: dict[str, Any]) -> str:
    """A remark behind a command whose run was stopped before its end, else nothing."""
    recipe, steps, minutes = Recipe(**known["recipe"]), known["steps"], known["minutes"]
    if recipe.progress(steps, 60 * minutes) > 0.98:
        return ""
    return f"  # stopped after {steps:,} steps, {minutes:g} minutes"


def figures(scores: list[Score]) -> dict[str, Any]:
    """The means of a set, rounded to four places, and how many pictures it has."""
    mean = scores[-1]
    return {
        "pictures": len(scores) - 1,
        "bicubic": {name: round(value, 4) for name, value in mean.bicubic.items()},
        "network": {name: round(value, 4) for name, value in mean.network.items()},
    }


def rows(known: dict[str, Any]) -> str:
    """The lines of the card's table."""
    lines = []
    for name, found in known["figures"].items():
        a, b = found["bicubic"], found["network"]
        cells = [
            f"{a['psnr']:.2f} | {b['psnr']:.2f} | {b['psnr'] - a['psnr']:+.2f}",
            *(f"{a[m]:.4f} | {b[m]:.4f}" for m in ("ssim", "ms_ssim", "gmsd")),
        ]
        lines.append(f"| {name} | {found['pictures']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def thinned(points: list[dict[str, float]], most: int = POINTS) -> list[dict[str, float]]:
    """At most `most` of the points, evenly chosen, the last one among them."""
    if len(points) <= most:
        return points
    return [points[round((i + 1) * len(points) / most) - 1] for i in range(most)]


def card(known: dict[str, Any], about_data: str) -> str:
    """The records as Markdown. `about_data`: where the pictures come from, and their licence."""
    recipe, found = asdict(Recipe(**known["recipe"])), Checks(**known["checks"])
    photographs, drawn = (100 * recipe[f"averaged_{kind}"] for kind in ("photographs", "drawings"))
    shift = ", ".join(f"{v:+.3f}" for v in found.shift)
    versions = ", ".join(f"{name} {number}" for name, number in known["versions"].items())
    number = "bfloat16" if recipe["bfloat16"] else "float32"
    data = known["data"]
    paragraphs = [
        f"""A small network that enlarges photographs and drawings by four, made by this project
        with `weights/train/`: SRVGGNetCompact ("Compact"), {recipe["features"]} features,
        {recipe["convs"]} body convolutions, {known["parameters"]:,} parameters, float16,
        {known["macs"] / 1000:.0f} thousand multiplications per input pixel, {known["bytes"]:,}
        bytes, sha256 `{known["sha256"]}`.""",
        f"""Flat grey fields come out within {found.grey} level(s) of 255, flat colours up to the
        corners of the colour cube within {found.colour}, borders included;
        {100 * found.grey_share:.3f} and {100 * found.colour_share:.3f} % of the values err at all.
        Smooth ramps keep within
        {found.ramp} levels of the line (rounding alone: 0.5). At a one-pixel edge between
        two greys the output goes {found.overshoot} levels beyond the two sides (bicubic:
        {found.overshoot_bicubic}). Mean shift of red, green, blue: {shift} levels. The channels of
        pictures without colour differ by {found.tint_mean:.2f} levels in the mean and
        {found.tint} at most. Measured with
        `evaluate.py` and `checks.py`.""",
        f"""{len(data["files"])} files; the digest over their sha256 and names is
        `{data["digest"]}`, the list is in the records. {recipe["drawn"]} drawings (ramps,
        shapes, text, panels{", pages, plans" if recipe["fonts"] else ""}) are made from the seed.
        No picture is part of this project.""",
        f"""L1 between output and {target(known)} alone: no adversarial or perceptual term, so
        nothing is invented. Crops of {recipe["side"]} x {recipe["side"]} small pixels in eight
        orientations, reduced by MATLAB-compatible bicubic; {photographs:g} % of those of
        photographs and {drawn:g} % of those of drawings by averaging, which leaves no dark and
        light seams along edges. Batches of {recipe["batch"]};
        {OPTIMISERS[recipe["optimiser"]]}, {recipe["rate"]:g} falling along a cosine; averaged
        weights ({recipe["average"]:g});
        {number}. {known["steps"]:,} steps in {known["minutes"]:g} minutes on {known["machine"]};
        the weights of step {known["chosen_step"]:,} were best on the validation pictures, which
        were not trained on, and are the ones kept. {versions}.""",
    ]
    newline = "\n"
    about, flat, files, how = (fill(" ".join(p.split()), 100) for p in paragraphs)
    return f"""# {known["file"]}

{about}

## Figures

Of the luminance, 4 pixels cut from each border, bicubic reduction by 4, float32, 8-bit output; each
measure for bicubic enlargement and for this network. PSNR in dB; GMSD is better where smaller.

| {" | ".join(HEADS)} |
|{"---|" * len(HEADS)}
{rows(known)}

{flat}

## Pictures

{about_data.strip()}

{files}

## Recipe

```
{newline.join(commands(known))}
```

{how}

{LIMITS}"""


def target(known: dict[str, Any]) -> str:
    """What the output is compared with, in words."""
    lessons, share = known["lessons"], Recipe(**known["recipe"]).taught
    if not lessons or not share:
        return "original"
    teacher = lessons["teacher"]
    return (
        f"a blend of {100 - 100 * share:g} % original and {100 * share:g} % of what a larger "
        f"network, {teacher['file']} (sha256 `{teacher['sha256'][:12]}`), makes of the bicubic "
        f"reduction of {lessons['pictures']} of the pictures (elsewhere the original)"
    )


def main(argv: list[str] | None = None) -> None:
    """Write the records and the card beside the file."""
    parser = argparse.ArgumentParser(prog="upscale.weights.train.card", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder of the training run")
    parser.add_argument("file", type=Path, help="the exported .safetensors")
    parser.add_argument("--about-data", type=Path, required=True, help="Markdown on the pictures")
    parser.add_argument("--machine", required=True, help="in generic words")
    parser.add_argument("--colours", type=Path, required=True, help="folder for the colour check")
    parser.add_argument("--measure", action="append", default=[], metavar="NAME=FOLDER")
    options = parser.parse_args(argv)
    sets = {name: Path(folder) for name, folder in (m.split("=", 1) for m in options.measure)}
    known = records(options.run, options.file, sets, options.colours, options.machine)
    options.file.with_suffix(".json").write_text(json.dumps(known, indent=1) + "\n")
    options.file.with_suffix(".md").write_text(card(known, options.about_data.read_text()))


if __name__ == "__main__":
    main()
