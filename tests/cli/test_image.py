"""`upscale image` as a process, with the bundled network: names, refusals, interrupts."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.conftest import Run, command, draw, environment, visible


def _left(folder: Path) -> set[str]:
    """Names in a folder that a finished command must not leave."""
    return {p.name for p in folder.rglob("*") if p.name.endswith(".part")}


def test_a_folder_with_awkward_names_is_upscaled_with_its_tree(run: Run, tmp_path: Path) -> None:
    names = ["-x.png", "100%.png", "with space.png", "ünï.png", "[a] {b}.png", "deep/er/y.png"]
    for name in names:
        draw(tmp_path / "in" / name)
    raw = os.fsencode(tmp_path / "in") + b"/caf\xe9.png"
    Path(os.fsdecode(raw)).write_bytes((tmp_path / "in/-x.png").read_bytes())
    long = "l" * 251 + ".png"
    draw(tmp_path / "in" / long)
    draw(tmp_path / "in" / "._x.png")
    done = run("image", "in", "-o", "out", env={"LC_ALL": "C", "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0, done.stderr
    made = {os.fsencode(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.png")}
    expected = {os.fsencode(name.replace(".png", "-4x.png")) for name in names}
    assert expected | {b"caf\xe9-4x.png"} <= made
    assert len(made) == len(names) + 2
    with Image.open(tmp_path / "out/deep/er/y-4x.png") as image:
        assert (image.format, image.size) == ("PNG", (48, 36))
    assert not _left(tmp_path)


def test_one_bad_file_does_not_stop_the_others(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "in/a.png")
    draw(tmp_path / "in/a.jpg")
    (tmp_path / "in/broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    (tmp_path / "in/notes.txt").write_text("words")
    done = call("image", "in", "missing.png", "-o", "out", "--receipt", "-s", "1.5")
    assert done.returncode == 1
    assert visible(tmp_path / "out") == [
        "a-jpg-1.5x.png",
        "a-jpg-1.5x.png.json",
        "a-png-1.5x.png",
        "a-png-1.5x.png.json",
    ]
    assert "in/broken.png: " in done.stderr
    assert "missing.png: there is no such file." in done.stderr
    assert "2 done, 2 failed, 1 passed over." in done.stderr
    assert "Traceback" not in done.stderr
    receipt = json.loads((tmp_path / "out/a-jpg-1.5x.png.json").read_text())
    assert receipt["size"] == {"width": 18, "height": 14}
    assert receipt["network"]["name"] == "bundled-x4"


def test_results_are_never_overwritten_unasked_and_inputs_never(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "there.png").write_bytes(b"mine")
    done = call("image", "a.png", "-o", "there.png")
    assert (done.returncode, (tmp_path / "there.png").read_bytes()) == (1, b"mine")
    assert "--overwrite" in done.stderr
    before = (tmp_path / "a.png").read_bytes()
    os.link(tmp_path / "a.png", tmp_path / "hard.png")
    os.symlink("a.png", tmp_path / "soft.png")
    for target in ("a.png", "./a.png", "hard.png", "soft.png"):
        done = call("image", "a.png", "-o", target, "--overwrite")
        assert done.returncode == 1
        assert "never overwritten" in done.stderr
        assert (tmp_path / "a.png").read_bytes() == before
    assert (tmp_path / "soft.png").is_symlink()


def test_in_one_folder_earlier_results_are_not_upscaled_again(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    draw(tmp_path / "a-4x.png", (1, 1))
    done = call("image", ".", "-o", ".", "--overwrite")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "a-4x.png") as image:
        assert image.size == (48, 36)
    assert visible(tmp_path) == ["a-4x.png", "a.png"]


def test_a_dry_run_writes_nothing(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "in/a.png")
    done = call("image", "in/*.png", "-o", "out", "--dry-run", "-s", "16")
    assert done.returncode == 0, done.stderr
    assert "192x144 png" in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_a_name_after_two_dashes_is_a_name(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "-o.png")
    done = call("image", "-o", "x.jpg", "--quality", "80", "--", "-o.png")
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.format == "JPEG"


@pytest.mark.parametrize(
    "arguments",
    [
        ("image", "a.png"),
        ("image", "a.png", "-o", "b.png", "--format", "jpeg"),
        ("image", "a.png", "-o", "out", "-s", "17"),
        ("image", "a.png", "-o", "out", "-s", "nan"),
        ("image", "a.png", "-o", "out", "-m", "no-such-model"),
        ("image", "a.png", "-o", "out", "--denoise", "0.5"),
        ("image", "a.png", "-o", "out", "--precision", "fp8"),
        ("nonsense",),
    ],
)
def test_wrong_usage_ends_with_2(call: Run, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    draw(tmp_path / "a.png")
    done = call(*arguments)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_setting_that_is_not_allowed_is_named(
    call: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(tmp_path / "a.png")
    monkeypatch.setenv("UPSCALE_PORT", "many")
    done = call("image", "a.png", "-o", "b.png")
    assert done.returncode == 2
    assert "UPSCALE_PORT" in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_one_line(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    (tmp_path / "closed").mkdir(mode=0o500)
    done = call("image", "a.png", "-o", "closed/b.png")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_output_that_is_no_file_is_refused(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    done = call("image", "a.png", "-o", "/dev/full", "--overwrite", "--format", "png")
    assert done.returncode == 2
    assert os.path.exists("/dev/full")


def test_an_interrupt_leaves_no_half_file(tmp_path: Path, shared_data_dir: Path) -> None:
    draw(tmp_path / "big.png", (1000, 1000))
    process = subprocess.Popen(
        command("image", "big.png", "-o", "out", "--tile", "64"),
        cwd=tmp_path,
        env=environment(shared_data_dir),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert _writing(tmp_path / "out", lambda: process.poll() is None)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted" in complaint
    assert "Traceback" not in complaint
    assert list((tmp_path / "out").iterdir()) == []


def test_a_request_to_end_stops_the_rest_too(call: Run, tmp_path: Path) -> None:
    draw(tmp_path / "in/big.png", (1000, 1000))
    draw(tmp_path / "in/later.png")

    def _end() -> None:
        if _writing(tmp_path / "out", lambda: threading.main_thread().is_alive()):
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=_end, daemon=True)
    thread.start()
    done = call("image", "in", "-o", "out", "--tile", "64")
    thread.join()
    assert done.returncode == 143
    assert visible(tmp_path / "out") == []


def _writing(folder: Path, alive: Callable[[], bool]) -> bool:
    """Waits until the engine has begun to write; False if it ended before."""
    while alive():
        if folder.is_dir() and any(name.endswith(".part") for name in os.listdir(folder)):
            return True
        time.sleep(0.02)
    return False
