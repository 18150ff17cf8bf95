"""Jobs from file to file: sizes, channels, depth, opacity, and what is left when one ends early."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from tests import networks
from tests.engine.conftest import write_network, write_picture
from upscale.engine.assembly import quantise
from upscale.engine.order import JobOrder
from upscale.engine.plan import NetworkRef, Plan
from upscale.engine.receipt import Progress
from upscale.engine.session import Session
from upscale.errors import JobCancelled, OutputFault, UnreadableImage
from upscale.models.loading import load_checkpoint
from upscale.models.runner import Runner

Order = Callable[..., JobOrder]


def _reference(small: NetworkRef, source: Path) -> torch.Tensor:
    """The untiled result, float32 [1, 3, 2H, 2W]."""
    pixels = np.asarray(Image.open(source).convert("RGB"), dtype=np.float32) / 255
    x = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return Runner(load_checkpoint(Path(small.path)))(x)


def test_the_file_equals_the_untiled_network(
    session: Session, order: Order, small: NetworkRef, tmp_path: Path
) -> None:
    source = write_picture(tmp_path / "in.png", 301, 173)
    job = order(source, tile=64, precision="fp32")  # as the reference: auto may be bf16
    receipt = session.run(job)
    ours = np.asarray(Image.open(job.target)).astype(int)
    expected = quantise(_reference(small, source)[0].clone(), np.uint8).astype(int)
    assert np.abs(ours - expected).max() <= 1
    assert receipt.tiles["done"] == receipt.tiles["planned"] > 10
    assert receipt.size == {"width": 602, "height": 346}


@pytest.mark.parametrize("factor", ["1", "1.5", "2", "2.37", "3", "5", "16"])
def test_any_factor_gives_the_size_of_the_rule(
    session: Session, order: Order, tmp_path: Path, factor: str
) -> None:
    source = write_picture(tmp_path / "in.png", 35, 21)
    job = order(source, factor)
    session.run(job)
    expected = tuple(int(side * float(factor) + 0.5) for side in (35, 21))
    assert Image.open(job.target).size == expected


def test_a_fractional_factor_is_the_network_and_one_resample(
    session: Session, order: Order, small: NetworkRef, tmp_path: Path
) -> None:
    source = write_picture(tmp_path / "in.png", 120, 90)
    job = order(source, "1.5", tile=32, precision="fp32")
    session.run(job)
    native = _reference(small, source)
    expected = torch.nn.functional.interpolate(native, (135, 180), mode="bicubic", antialias=True)
    ours = np.asarray(Image.open(job.target)).astype(int)
    assert np.abs(ours - quantise(expected[0], np.uint8).astype(int)).max() <= 1


def test_three_passes_are_the_network_three_times(
    session: Session, order: Order, small: NetworkRef, tmp_path: Path
) -> None:
    source = write_picture(tmp_path / "in.png", 30, 26)
    job = order(source, "8", tile=16, precision="fp32")
    assert len(job.plan.passes) == 3
    session.run(job)
    runner = Runner(load_checkpoint(Path(small.path)))
    pixels = np.asarray(Image.open(source).convert("RGB"), dtype=np.float32) / 255
    y = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    for _ in range(3):
        y = runner(y)
    ours = np.asarray(Image.open(job.target)).astype(int)
    assert np.abs(ours - quantise(y[0].clone(), np.uint8).astype(int)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_modes_are_kept(session: Session, order: Order, tmp_path: Path, mode: str) -> None:
    source = write_picture(tmp_path / "in.png", 40, 30, mode)
    job = order(source)
    session.run(job)
    assert Image.open(job.target).mode == mode


def test_sixteen_bits_stay_sixteen_and_run_in_fp32(
    session: Session, order: Order, tmp_path: Path
) -> None:
    ramp = np.linspace(10_000, 50_000, 64 * 48 * 3).reshape(48, 64, 3).astype(np.uint16)
    source = tmp_path / "deep.png"
    pyvips.Image.new_from_array(ramp, interpretation="rgb16").pngsave(str(source))
    job = order(source)
    receipt = session.run(job)
    result = pyvips.Image.pngload(str(job.target)).numpy()
    assert result.dtype == np.uint16
    # More levels than 8 bits have: nothing went through 8 bits.
    assert len(np.unique(result)) > 1000
    assert receipt.precision == "fp32"


def test_opaque_alpha_is_dropped_and_soft_alpha_resampled(
    session: Session, order: Order, tmp_path: Path
) -> None:
    pixels = np.full((30, 40, 4), 200, np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels, "RGBA").save(tmp_path / "opaque.png")
    job = order(tmp_path / "opaque.png")
    session.run(job)
    assert Image.open(job.target).mode == "RGB"
    pixels[:, :20, 3] = 0
    Image.fromarray(pixels, "RGBA").save(tmp_path / "half.png")
    job = order(tmp_path / "half.png")
    session.run(job)
    result = np.asarray(Image.open(job.target))
    assert result[30, 5, 3] == 0
    assert result[30, 75, 3] == 255
    # No fringe: colour beside the edge is the colour of the visible side.
    assert np.abs(result[30, 36:44, 0].astype(int) - result[30, 70, 0].astype(int)).max() <= 12


def test_progress_ends_with_all_tiles_and_pixels(
    session: Session, order: Order, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    job = order(write_picture(tmp_path / "in.png", 90, 80), tile=32)
    session.run(job, progress=seen.append)
    assert seen[0].stage == "decode"
    assert [p.tiles_done for p in seen] == sorted(p.tiles_done for p in seen)
    assert seen[-1].tiles_done == seen[-1].tiles_total == 9
    assert seen[-1].megapixels == pytest.approx(180 * 160 / 1e6)


def test_a_cancelled_job_leaves_nothing(session: Session, order: Order, tmp_path: Path) -> None:
    source = write_picture(tmp_path / "in.png", 90, 80)
    job = order(source, tile=32)
    seen: list[Progress] = []
    with pytest.raises(JobCancelled):
        session.run(job, progress=seen.append, cancelled=lambda: len(seen) > 3)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.png"]


def test_an_existing_target_is_kept_unless_told(
    session: Session, order: Order, tmp_path: Path
) -> None:
    source = write_picture(tmp_path / "in.png", 20, 20)
    job = replace(order(source), replace=False)
    job.target.write_bytes(b"precious")
    with pytest.raises(OutputFault, match="exists"):
        session.run(job)
    assert job.target.read_bytes() == b"precious"
    session.run(replace(job, replace=True))
    assert Image.open(job.target).size == (40, 40)


def test_a_truncated_picture_is_refused_and_leaves_nothing(
    session: Session, order: Order, tmp_path: Path
) -> None:
    source = write_picture(tmp_path / "in.png", 64, 64)
    job = order(source)
    source.write_bytes(source.read_bytes()[:2000])
    with pytest.raises(UnreadableImage):
        session.run(job)
    assert [p.name for p in tmp_path.iterdir()] == ["in.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_one_clear_line(
    session: Session, order: Order, tmp_path: Path
) -> None:
    job = order(write_picture(tmp_path / "in.png", 20, 20))
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(OutputFault, match="read-only"):
            session.run(job)
    finally:
        tmp_path.chmod(0o700)


def test_a_missing_folder_is_one_clear_line(session: Session, order: Order, tmp_path: Path) -> None:
    job = order(write_picture(tmp_path / "in.png", 20, 20))
    with pytest.raises(OutputFault, match="is not there"):
        session.run(replace(job, target=tmp_path / "nowhere" / "out.png"))


def test_a_denoiser_keeps_the_size_and_its_factor_resamples(
    session: Session, planned: Callable[..., Plan], tmp_path: Path
) -> None:
    network = write_network(tmp_path, "denoiser", networks.dncnn(channels=1))
    source = write_picture(tmp_path / "in.png", 50, 40)
    for factor, size in (("1", (50, 40)), ("3", (150, 120))):
        plan = planned(source, network, factor)
        job = JobOrder("job", source, tmp_path / f"out-{factor}.png", plan)
        session.run(job)
        assert Image.open(job.target).size == size


def test_a_plan_survives_the_pipe(order: Order, tmp_path: Path) -> None:
    job = order(write_picture(tmp_path / "in.png", 70, 50), "2.5")
    assert JobOrder.from_json(job.to_json()) == job
