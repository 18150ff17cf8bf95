"""What the benchmarks report: their picture, likeness, memory and page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks.likeness import psnr
from benchmarks.memory import PeakSampler
from benchmarks.picture import photograph
from benchmarks.readme import update_readme
from benchmarks.report import render, write_report

RESULTS: dict[str, Any] = {
    "date": "2026-01-02",
    "command": "python -m benchmarks.run",
    "machine": {
        "cpu": "Some CPU (R) 9000",
        "cores": 2,
        "flags": ["avx2"],
        "memory_gib": 16.0,
        "gpu": [],
        "system": "Linux 6",
        "python": "3.11.7",
        "packages": {"torch": "2.14.1", "isal": "absent"},
        "commit": "abc1234",
    },
    "checkpoint": "Compact 64/16, x4",
    "side": 1024,
    "rounds": 3,
    "contenders": {
        "ours": {
            "label": "upscale",
            "precision": "fp32",
            "times": [2.0, 1.0, 3.0],
            "median": 2.0,
            "peak": 500e6,
            "bytes": 20e6,
            "startup": 2.0,
            "first_startup": 9.0,
            "psnr": None,
        },
        "peer": {"label": "RealESRGANer", "skipped": "not installed"},
    },
    "http": {"times": [2.1], "median": 2.1, "overhead": 0.02},
    "large": [
        {
            "side": 4096,
            "command": {"seconds": 90.0, "peak": 900e6},
            "http": {"seconds": 88.0, "peak": 950e6},
        }
    ],
}


def test_the_picture_is_the_same_each_time_and_no_noise() -> None:
    first, again = (np.asarray(photograph(128)) for _ in range(2))
    assert np.array_equal(first, again)
    steps = np.abs(np.diff(first.astype(int), axis=1))
    assert 1 < np.median(steps) < 8
    assert steps.max() > 60


def test_likeness_is_none_for_equal_pictures_and_known_for_a_level(tmp_path: Path) -> None:
    for name, value in (("a", 100), ("b", 101)):
        Image.new("RGB", (8, 600), (value,) * 3).save(tmp_path / f"{name}.png")
    assert psnr(tmp_path / "a.png", tmp_path / "a.png") is None
    assert psnr(tmp_path / "a.png", tmp_path / "b.png") == pytest.approx(48.13, abs=0.01)


def test_memory_of_this_process_is_seen() -> None:
    with PeakSampler(os.getpid(), every=0.01) as sampler:
        kept = np.ones(1 << 23)
    assert sampler.peak > kept.nbytes / 2


def test_the_page_has_the_figures_and_says_what_was_skipped(tmp_path: Path) -> None:
    page = render(RESULTS)
    assert "| upscale | fp32 | 2.00 [1.00-3.00] | 1.00 | 500 | equal | 20.0 | 2.0 |" in page
    assert "skipped: not installed" in page
    assert "20 ms" in page
    assert "| 16384 x 16384 | 90.0 | 900 | 88.0 | 950 |" in page
    assert write_report(RESULTS, tmp_path).name == "2026-01-02-some-cpu-9000-2-cores.md"


def test_the_readme_gets_its_table_and_keeps_the_rest(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("above\n<!-- figures -->\nold\n<!-- end of figures -->\nbelow\n")
    page = write_report(RESULTS, tmp_path / "results")
    for _ in range(2):
        update_readme(RESULTS, page, readme)
    text = readme.read_text()
    assert text.startswith("above\n<!-- figures -->\n")
    assert text.endswith("<!-- end of figures -->\nbelow\n")
    assert "old" not in text
    assert "| 1024 to 4096 pixels a side | upscale (fp32) | 2.0 | 500 |" in text
    assert "(results/2026-01-02-some-cpu-9000-2-cores.md)" in text


def test_the_readme_of_the_project_has_the_marks() -> None:
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert text.count("<!-- figures -->") == text.count("<!-- end of figures -->") == 1
