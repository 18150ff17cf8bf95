import json
import subprocess
import sys

import pytest
import pyvips

from tests.imaging.conftest import noise
from upscale.errors import OutputFault, ServerFault
from upscale.imaging.limits import FORMATS
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import OutputSpec
from upscale.imaging.probing import probe
from upscale.imaging.sinks import open_sink

BANDED = [name for name, facts in FORMATS.items() if not facts.whole_bytes]


@pytest.mark.parametrize("format", sorted(FORMATS))
def test_every_format_of_the_table_can_be_written(tmp_path, format):
    path = tmp_path / "result.part"
    sink = open_sink(path, OutputSpec(format, 12, 9, 3, 8), Metadata())
    sink.write(noise(5, 12, 3))
    sink.write(noise(4, 12, 3))
    sink.close()
    found = probe(path)
    assert (found.format, found.width, found.height) == (format, 12, 9)


@pytest.mark.parametrize(
    "spec",
    [
        OutputSpec("bmp", 9, 9, 3, 8),
        OutputSpec("jpeg", 9, 9, 3, 16),
        OutputSpec("png", 9, 9, 5, 8),
        OutputSpec("png", 0, 9, 3, 8),
        OutputSpec("webp", 16384, 9, 3, 8),
    ],
)
def test_what_a_format_cannot_hold_is_a_fault_before_a_file_is_made(tmp_path, spec):
    with pytest.raises(ServerFault):
        open_sink(tmp_path / "a", spec, Metadata())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", BANDED)
def test_too_few_too_many_and_wrong_rows_are_faults(tmp_path, format):
    sink = open_sink(tmp_path / "a", OutputSpec(format, 4, 3, 3, 8), Metadata())
    sink.write(noise(2, 4, 3))
    with pytest.raises(ServerFault, match="Only 2 of 3"):
        sink.close()
    for wrong in (noise(1, 5, 3), noise(1, 4, 4), noise(1, 4, 3, 16), noise(2, 4, 3)):
        with pytest.raises(ServerFault, match="came for a picture"):
            sink.write(wrong)
    sink.abort()


@pytest.mark.parametrize("format", BANDED)
def test_abort_removes_the_file_and_may_be_repeated(tmp_path, format):
    sink = open_sink(tmp_path / "a", OutputSpec(format, 4, 3, 3, 8), Metadata())
    sink.write(noise(2, 4, 3))
    sink.abort()
    sink.abort()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("side", [3, 500, 900])
@pytest.mark.parametrize("format", BANDED)
def test_a_full_disk_is_one_clear_line(tmp_path, format, side):
    path = tmp_path / "a"
    path.symlink_to("/dev/full")
    sink = open_sink(path, OutputSpec(format, side, side, 3, 8), Metadata())
    with pytest.raises(OutputFault, match="the disk is full"):
        _fill(sink, side)
    sink.abort()
    assert list(tmp_path.iterdir()) == []


def _fill(sink, side):
    sink.write(noise(side, side, 3))
    sink.close()


_BIG = """
import json, sys
from pathlib import Path
import numpy as np
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import OutputSpec
from upscale.imaging.sinks import open_sink

def peak():
    # Not getrusage: its peak goes on from that of the process which started this one.
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) << 10

noise = np.random.default_rng(0).integers(0, 6, (256, 16384, 3), np.uint8)
band = np.arange(16384 * 3, dtype=np.uint16).reshape(-1, 3).astype(np.uint8) // 2 + noise
base = peak()
sink = open_sink(Path(sys.argv[1]), OutputSpec(**json.loads(sys.argv[2])), Metadata())
for _ in range(64):
    sink.write(band)
sink.close()
print(peak() - base)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "more"),
    [
        ("png", {}),
        ("jpeg", {"quality": 80}),
        ("jpeg", {"quality": 95}),
        ("tiff", {}),
        ("tiff", {"tile": 256}),
    ],
)
def test_a_picture_of_sixteen_thousand_squared_takes_little_memory(tmp_path, format, more):
    path = tmp_path / "a"
    spec = OutputSpec(format, 16384, 16384, 3, 8, **more)
    command = [sys.executable, "-c", _BIG, str(path), json.dumps(spec.to_json())]
    used = int(subprocess.run(command, check=True, capture_output=True).stdout)
    assert used < 300 << 20
    load = getattr(pyvips.Image, f"{format}load")
    seen = load(str(path), fail_on="warning", access="sequential")
    assert (seen.width, seen.height) == (16384, 16384)
    assert seen.avg() > 50
