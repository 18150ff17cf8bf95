import pytest

from tests.imaging.conftest import noise
from upscale.errors import ServerFault
from upscale.imaging.limits import FORMATS
from upscale.imaging.metadata import Metadata
from upscale.imaging.picture import OutputSpec
from upscale.imaging.probing import probe
from upscale.imaging.sinks import open_sink


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
