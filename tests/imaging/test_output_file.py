import pytest

from upscale.errors import OutputFault
from upscale.imaging.output_file import OutputFile


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(OutputFault, match="folder does not exist"):
        OutputFile(tmp_path / "none" / "a.png")
    with pytest.raises(OutputFault, match="a folder of that name"):
        OutputFile(tmp_path)


@pytest.mark.parametrize(
    ("code", "said"),
    [("EROFS", "read-only"), ("EACCES", "may not be written"), ("ENOSPC", "disk is full")],
)
def test_the_faults_of_a_disk_are_named(tmp_path, monkeypatch, code, said):
    import errno
    import pathlib

    def refuse(*_arguments):
        raise OSError(getattr(errno, code), "no")

    monkeypatch.setattr(pathlib.Path, "open", refuse)
    with pytest.raises(OutputFault, match=said) as caught:
        OutputFile(tmp_path / "a.png")
    assert caught.value.retry is False


def test_abort_after_close_removes_the_file(tmp_path):
    file = OutputFile(tmp_path / "a.png")
    file.write(b"one", b"two")
    file.close()
    assert (tmp_path / "a.png").read_bytes() == b"onetwo"
    file.abort()
    assert not (tmp_path / "a.png").exists()
