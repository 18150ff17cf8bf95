"""Folders that are upscaled in several goes, with the bundled network: what is done again, what is
not, and what is never touched.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run, command, draw, environment, visible
from upscale.cli.record import LOCK, NAME, Record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three small pictures."""
    for name in ("a", "b", "deep/c"):
        draw(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def _states(out: Path) -> list[tuple[str, str]]:
    """State and source of each line of the record, its first aside."""
    lines = [json.loads(line) for line in (out / NAME).read_text().splitlines()]
    return [(line["state"], line["source"]["name"]) for line in lines if "source" in line]


def _times(out: Path) -> dict[str, int]:
    found = sorted(path for path in out.rglob("*-4x.*"))
    return {str(path.relative_to(out)): path.stat().st_mtime_ns for path in found}


def _wait(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 90
    while not condition():
        assert process.poll() is None, "it ended too early"
        assert time.monotonic() < until
        time.sleep(0.005)


def test_what_is_done_is_not_done_again(call: Run, tmp_path: Path, folder: Path) -> None:
    assert call("image", "in", "-o", "out").returncode == 0
    before = _times(tmp_path / "out")
    done = call("image", "in", "-o", "out")
    assert (done.returncode, done.stdout) == (0, "")
    assert "0 done, 3 done before." in done.stderr
    assert _times(tmp_path / "out") == before
    done = call("image", "in", "-o", "out", "--again")
    assert "3 done." in done.stderr
    assert all(_times(tmp_path / "out")[name] > made for name, made in before.items())


def test_a_batch_goes_on_after_kill_9(
    call: Run, tmp_path: Path, folder: Path, shared_data_dir: Path
) -> None:
    for index in range(4):
        draw(folder / f"z{index}.png", (256, 256))
    out = tmp_path / "out"
    process = subprocess.Popen(
        command("image", "in", "-o", "out", "--tile", "64"),
        cwd=tmp_path,
        env=environment(shared_data_dir),
        stdout=subprocess.DEVNULL,
    )
    # In the middle of a large one: some are finished, the next one grows.
    _wait(lambda: (out / "z0-4x.png").exists() and any(out.glob("*.part")), process)
    process.kill()
    process.wait()
    before = _times(out)
    assert 1 <= len(before) < 7
    done = call("image", "in", "-o", "out", "--tile", "64")
    assert done.returncode == 0, done.stderr
    assert f"{7 - len(before)} done, {len(before)} done before." in done.stderr
    after = _times(out)
    assert len(after) == 7
    assert {name: after[name] for name in before} == before
    assert not list(out.rglob("*.part"))
    finished = [name for state, name in _states(out) if state == "done"]
    assert len(set(finished)) == 7
    for path in out.rglob("*.png"):
        with Image.open(path) as image:
            image.load()


def test_changed_new_and_lost_ones_are_done(call: Run, tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    call("image", "in", "-o", "out")
    before = _times(out)
    draw(folder / "a.png", (20, 10), "red")
    draw(folder / "d.png")
    (out / "deep" / "c-4x.png").unlink()
    os.utime(folder / "b.png")
    done = call("image", "in", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "3 done, 1 done before." in done.stderr
    with Image.open(out / "a-4x.png") as image:
        assert image.size == (80, 40)
    assert _times(out)["b-4x.png"] == before["b-4x.png"]


def test_changed_settings_are_other_results(call: Run, tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    call("image", "in", "-o", "out", "--format", "jpg", "--quality", "90")
    before = _times(out)
    done = call("image", "in", "-o", "out", "--format", "jpg", "--quality", "50")
    assert "3 done." in done.stderr, done.stderr
    assert all(_times(out)[name] > made for name, made in before.items())
    done = call("image", "in", "-o", "out", "--format", "jpg", "--quality", "50", "-s", "2")
    assert "3 done." in done.stderr
    done = call("image", "in", "-o", "out", "--format", "jpg", "--quality", "50")
    assert "0 done, 3 done before." in done.stderr
    # A png has no quality, so it is the same.
    call("image", "in", "-o", "png")
    assert "3 done before" in call("image", "in", "-o", "png", "--quality", "50").stderr


def test_files_of_others_are_never_replaced_unasked(
    call: Run, tmp_path: Path, folder: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a-4x.png").write_bytes(b"mine")
    done = call("image", "in", "-o", "out")
    assert done.returncode == 1
    assert "a-4x.png exists; --overwrite replaces it." in done.stderr
    assert "2 done, 1 failed." in done.stderr
    # What was made here and worked on since is somebody's, too: with a new source, or --again.
    (out / "b-4x.png").write_bytes(b"retouched")
    draw(folder / "b.png", (20, 10))
    done = call("image", "in", "-o", "out", "--again")
    assert "1 done, 2 failed." in done.stderr
    assert (out / "a-4x.png").read_bytes() == b"mine"
    assert (out / "b-4x.png").read_bytes() == b"retouched"
    done = call("image", "in", "-o", "out", "--overwrite")
    assert "2 done, 1 done before." in done.stderr
    assert "3 done before" in call("image", "in", "-o", "out", "--overwrite").stderr
    assert not list(out.glob("*.part"))


def test_a_torn_record_costs_one_picture_and_no_other(
    call: Run, tmp_path: Path, folder: Path
) -> None:
    record = tmp_path / "out" / NAME
    call("image", "in", "-o", "out")
    record.write_bytes(record.read_bytes()[:-30])
    (tmp_path / "out" / "deep" / "c-4x.png").unlink()
    done = call("image", "in", "-o", "out")
    assert "1 done, 2 done before." in done.stderr, done.stderr
    assert "3 done before" in call("image", "in", "-o", "out").stderr


def test_failed_ones_are_tried_again(call: Run, tmp_path: Path, folder: Path) -> None:
    (folder / "b.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    done = call("image", "in", "-o", "out")
    assert (done.returncode, "2 done, 1 failed." in done.stderr) == (1, True)
    assert ("failed", "../in/b.png") in _states(tmp_path / "out")
    draw(folder / "b.png")
    done = call("image", "in", "-o", "out")
    assert (done.returncode, "1 done, 2 done before." in done.stderr) == (0, True)


def test_two_commands_do_not_share_a_folder(call: Run, tmp_path: Path, folder: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with Record.opened(out):
        done = call("image", "in", "-o", "out")
    assert done.returncode == 1
    assert "Another upscale command is at work in out." in done.stderr
    assert visible(out) == []


def test_a_picture_keeps_its_name_when_others_come(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "in/a.png")
    call("image", "in", "-o", "out")
    draw(tmp_path / "in/a.jpg")
    done = call("image", "in", "-o", "out")
    assert "1 done, 1 done before." in done.stderr
    assert visible(tmp_path / "out") == ["a-4x.png", "a-jpg-4x.png"]


def test_in_one_folder_results_of_other_factors_are_not_upscaled(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    call("image", ".", "-o", ".")
    done = call("image", ".", "-o", ".", "-s", "2")
    assert done.returncode == 0, done.stderr
    assert visible(tmp_path) == ["a-2x.png", "a-4x.png", "a.png"]


def test_a_result_whose_receipt_is_missing_is_made_again(
    call: Run, tmp_path: Path, folder: Path
) -> None:
    out = tmp_path / "out"
    call("image", "in", "-o", "out", "--receipt")
    assert "3 done before" in call("image", "in", "-o", "out", "--receipt").stderr
    (out / "a-4x.png.json").unlink()
    done = call("image", "in", "-o", "out", "--receipt")
    assert "1 done, 2 done before." in done.stderr
    assert json.loads((out / "a-4x.png.json").read_text())["source"] == "in/a.png"
    # A file of that name that is no receipt of ours stays.
    call("image", "in", "-o", "plain")
    (tmp_path / "plain" / "a-4x.png.json").write_text("mine")
    done = call("image", "in", "-o", "plain", "--receipt", "--again")
    assert done.returncode == 1
    assert (tmp_path / "plain" / "a-4x.png.json").read_text() == "mine"


def test_a_dry_run_plans_what_is_left_and_writes_nothing(
    call: Run, tmp_path: Path, folder: Path
) -> None:
    call("image", "in", "-o", "out")
    (tmp_path / "out" / "a-4x.png").unlink()
    os.utime(folder / "b.png")
    before = (tmp_path / "out" / NAME).read_bytes()
    done = call("image", "in", "-o", "out", "--dry-run")
    assert "1 planned, 2 done before." in done.stderr
    assert (tmp_path / "out" / NAME).read_bytes() == before


def test_one_named_file_leaves_no_record_and_heeds_one(
    call: Run, tmp_path: Path, folder: Path
) -> None:
    call("image", "in/a.png", "-o", "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a-4x.png"]
    call("image", "in", "-o", "all")
    done = call("image", "in/a.png", "-o", "all")
    assert (done.returncode, done.stdout) == (0, "")
    draw(folder / "a.png", (20, 10))
    assert call("image", "in/a.png", "-o", "all").returncode == 0
    assert "3 done before" in call("image", "in", "-o", "all").stderr


def test_an_interrupt_says_how_to_go_on(
    tmp_path: Path, folder: Path, shared_data_dir: Path, call: Run
) -> None:
    draw(folder / "z.png", (1000, 1000))
    process = subprocess.Popen(
        command("image", "in", "-o", "out", "--tile", "64"),
        cwd=tmp_path,
        env=environment(shared_data_dir),
        stderr=subprocess.PIPE,
    )
    out = tmp_path / "out"
    _wait(lambda: (out / "deep" / "c-4x.png").exists() and any(out.glob("*.part")), process)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"3 done, 1 left." in complaint
    assert b"The same command goes on from there." in complaint
    assert sorted(path.name for path in out.iterdir()) == [
        NAME,
        LOCK,
        *("a-4x.png", "b-4x.png", "deep"),
    ]
    (folder / "z.png").unlink()
    done = call("image", "in", "-o", "out", "--tile", "64")
    assert "0 done, 3 done before." in done.stderr
