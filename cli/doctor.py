"""`upscale doctor`: what this machine is, what each network may do on it and why, what is set."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from upscale import __version__
from upscale.cli.console import FAILED, OK, complain, say
from upscale.engine.local import LocalEngine
from upscale.errors import UpscaleError
from upscale.models.catalogue import load_catalogue
from upscale.providers.sites import unusable
from upscale.settings import Settings
from upscale.weights.store import Store

_PACKAGES = ("torch", "torchvision", "spandrel", "numpy", "pillow", "isal", "pyvips")


def examine(settings: Settings, *, as_json: bool) -> int:
    """Print the report; returns the exit code, 1 where something is broken.

    Networks that are not known yet are measured, which takes seconds for small ones.
    """
    with LocalEngine(settings) as engine:
        report: dict[str, Any] = {
            "versions": _versions(),
            "machine": {
                "memory_bytes": psutil.virtual_memory().total,
                "memory_free_bytes": psutil.virtual_memory().available,
                "system": f"{platform.system()} {platform.release()} {platform.machine()}",
            },
            "device": engine.device().to_json(),
            "networks": [],
            "folders": [_folder(name, path) for name, path in _folders(settings)],
            "providers": _providers(settings),
            "settings": settings.model_dump(mode="json"),
            "changed": sorted(settings.model_fields_set),
        }
        if not as_json:
            for line in _head(report):
                say(line)
        for network in Store(settings.weights_folder).networks():
            try:
                facts = engine.doctor(network)
            except UpscaleError as error:
                facts = {"network": network.name, "error": error.message}
            report["networks"].append(facts)
            if not as_json:
                say("\n".join(_network(facts)))
    if as_json:
        say(json.dumps(report, indent=2))
    else:
        for line in _tail(report):
            say(line)
    broken = [n for n in report["networks"] if "error" in n]
    broken += [f for f in report["folders"] if not f["writable"]]
    if broken and not as_json:
        complain(f"{len(broken)} of these need attention.")
    return FAILED if broken else OK


def _versions() -> dict[str, str]:
    found = {"upscale": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def _folders(settings: Settings) -> list[tuple[str, Path]]:
    return [
        ("data", settings.data_dir),
        ("weights", settings.weights_folder),
        ("cache", settings.cache_folder),
    ]


def _folder(name: str, path: Path) -> dict[str, Any]:
    """Whether it could be written, or made: the nearest folder above that exists decides."""
    nearest = next(p for p in (path.absolute(), *path.absolute().parents) if p.exists())
    writable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    return {"name": name, "path": str(path), "exists": path.is_dir(), "writable": writable}


def _providers(settings: Settings) -> list[dict[str, Any]]:
    """Of those that have routes: whether pictures may go there, and why not. Nobody is asked."""
    catalogue = load_catalogue()
    routed = {route.provider.id for model in catalogue.models for route in model.routes}
    found = []
    for provider in catalogue.providers:
        if provider.id in routed:
            why = unusable(provider.id, settings)
            told = {"id": provider.id, "name": provider.name, "usable": why is None, "reason": why}
            found.append(told)
    return found


def _head(report: dict[str, Any]) -> list[str]:
    device, machine = report["device"], report["machine"]
    return [
        "  ".join(f"{name} {value}" for name, value in report["versions"].items()),
        f"{machine['system']}, {machine['memory_bytes'] / 1e9:.1f} GB memory, "
        f"{machine['memory_free_bytes'] / 1e9:.1f} GB free",
        f"device {device['device']}: {device['name']}, {device['cores']} cores, "
        f"{device['tile_threads']} tile threads, {device['tile_bytes'] / 1e6:.0f} MB for tiles, "
        f"units for {', '.join(device['precisions'])}",
    ]


def _network(facts: dict[str, Any]) -> list[str]:
    if "error" in facts:
        return ["", f"{facts['network']}: {facts['error']}"]
    contract = facts["contract"]
    context = "global or deeper than measured" if contract["context"] is None else "exact tiles"
    seam = contract["seam_error"]
    seams = "none" if seam is None else f"{seam} levels at overlap {contract['seam_overlap']}"
    return [
        "",
        f"{facts['network']}: {contract['architecture']}, x{contract['scale']}, "
        f"{contract['parameters']:,} parameters, runs in {facts['precision']}",
        f"  context {contract['context']} ({context}), grid {contract['grid']}, "
        f"size multiple {contract['size_multiple']}, minimum {contract['size_minimum']}, "
        f"seam error {seams}",
        *(f"  {_proof(proof)}" for proof in facts["proofs"]),
    ]


def _proof(proof: dict[str, Any]) -> str:
    parts = [f"{proof['precision']:5}", "safe  " if proof["safe"] else "unsafe"]
    parts += [f"{proof['psnr']:.1f} dB"] if proof["psnr"] is not None else []
    parts += [f"{proof['gmacs']:.0f} GMAC/s"] if proof["gmacs"] is not None else []
    return "  ".join([*parts, proof["reason"]])


def _tail(report: dict[str, Any]) -> list[str]:
    lines = [""]
    for folder in report["folders"]:
        state = "writable" if folder["writable"] else "NOT WRITABLE"
        missing = "" if folder["exists"] else ", not there yet"
        lines.append(f"{folder['name']} folder {folder['path']}: {state}{missing}")
    for each in report["providers"]:
        told = "pictures may go there" if each["usable"] else f"off: {each['reason']}"
        lines.append(f"provider {each['name']}: {told}")
    lines.append("")
    for name, value in report["settings"].items():
        mark = "  (set)" if name in report["changed"] else ""
        lines.append(f"UPSCALE_{name.upper()}={'' if value is None else value}{mark}")
    return lines
