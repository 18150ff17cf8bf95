import pytest

from upscale.errors import UnreadableImage
from upscale.imaging.kinds import kind, read_head


@pytest.mark.parametrize(
    ("head", "said"),
    [
        (b"", "is empty"),
        (b"\0\0\0\x1cftypheic", "looks like a HEIC"),
        (b"%PDF-1.7", "looks like a PDF"),
        (b"Dear sir,\nthis is no picture", "is text"),
        (b"  <svg xmlns='http://www.w3.org/2000/svg'>", "looks like an SVG"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"data:image/png;base64,iVBOR", "data URI"),
        (bytes(64), "only zeros"),
        (b"\x93\x01\xfe\xff", "unknown kind"),
        (b"RIFF\0\0\0\0WAVEfmt ", "looks like a sound"),
    ],
)
def test_other_files_are_named_in_the_refusal(head, said):
    with pytest.raises(UnreadableImage, match=said) as caught:
        kind(head)
    assert "TIFF, BMP and AVIF" in caught.value.message
    assert caught.value.field == "image"


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="No such file"):
        read_head(tmp_path / "nothing.png")
    with pytest.raises(UnreadableImage, match="directory"):
        read_head(tmp_path)
