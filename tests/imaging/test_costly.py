"""Small files made to cost much: each is read or refused in seconds, and in bounded memory."""

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from tests.imaging.conftest import png_chunk
from tests.imaging.samples import samples
from upscale.imaging import exif, xmp
from upscale.imaging.gif_header import count_frames

SECONDS, MEGABYTES = 4.0, 400  # of processor time; of memory

# In a process of its own, which is ended if it does not end.
PROGRAM = """
import json, sys, time
from pathlib import Path
from upscale.errors import UnreadableImage
from upscale.imaging.decode import decode
from upscale.imaging.exif import sized
from upscale.imaging.probing import probe
path = Path(sys.argv[1])
began = time.process_time()
try:
    found = probe(path)
    picture = decode(path, found)
    sized(picture.metadata.exif or b"Exif\\0\\0II*\\0\\0\\0\\0\\0", 1, 1)
    said = "read"
except UnreadableImage as refusal:
    said = refusal.message
# Not getrusage: its peak goes on from that of the process which started this one.
status = Path("/proc/self/status").read_text()
peak = int(status.split("VmHWM:")[1].split()[0]) // 1024
print(json.dumps([said, time.process_time() - began, peak]))
"""


def _png(*chunks: bytes) -> bytes:
    plain = samples("png")["grey"]
    return plain[:33] + b"".join(chunks) + plain[33:]


def _jpeg(*segments: bytes) -> bytes:
    plain = samples("jpeg")["baseline"]
    return plain[:2] + b"".join(segments) + plain[2:]


def _gif(before: bytes = b"", behind: bytes = b"") -> bytes:
    plain = samples("gif")["still"]
    at = 13 + 3 * (2 << (plain[10] & 7))
    return plain[:at] + before + plain[at:-1] + behind + b";"


Entry = tuple[int, int, int, int]


def _directory(entries: Sequence[Entry], following: int = 0) -> bytes:
    packed = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def _plain(side: int = 16, channels: int = 1) -> list[Entry]:
    tags = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 8, 277: channels, 278: side}
    return [(tag, 4, 1, value) for tag, value in (*tags.items(), (279, 256))]


def _tiff(more: Sequence[Entry] = (), following: int = 0, **facts: int) -> bytes:
    head = b"II*\0" + struct.pack("<I", 8 + 256) + bytes(256)
    return head + _directory([*_plain(**facts), *more], following)


def _chain(count: int, entries: Sequence[Entry]) -> bytes:
    data = bytearray(_tiff(following=len(_tiff())))
    size = len(_directory(entries))
    for _ in range(count):
        data += _directory(entries, len(data) + size)
    return bytes(data)


def _endless_exif(tag: int, value: int) -> bytes:
    entry = struct.pack("<HHII", tag, 4, 1, value)
    return b"II*\0" + struct.pack("<IH", 8, 65535) + entry * 65535 + bytes(4)


def _scans() -> bytes:
    """A progressive JPEG of 16 megapixels with its last scan repeated, and an odd marker."""
    file = io.BytesIO()
    Image.new("L", (4096, 4096)).save(file, "jpeg", progressive=True)
    data = file.getvalue()
    scan = data[data.rfind(b"\xff\xda") : -2]
    return data[:2] + b"\xff\xe5\0\0" + data[2:-2] + scan * 5000 + b"\xff\xd9"


_PACKED = zlib.compress(bytes(40 << 20), 9)
_FRAME = b",\0\0\0\0\1\0\1\0\0\2\2L\1\0"
_SHARED = [(40000 + n, 7, 8 << 20, 8) for n in range(4000)]

CASES: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a million texts": (
        "png: more than 262144 chunks",
        lambda: _png(png_chunk(b"tEXt", b"a\0") * 1_000_000),
    ),
    "a million empty pixel chunks": (
        "png: more than 262144 chunks",
        lambda: _png(png_chunk(b"IDAT", b"") * 1_000_000),
    ),
    "texts that inflate to 40 MB each": (
        "png: read",
        lambda: _png(*(png_chunk(b"zTXt", b"%d\0\0" % n + _PACKED) for n in range(300))),
    ),
    "a profile that inflates to 40 MB": (
        "png: read",
        lambda: _png(png_chunk(b"iCCP", b"p\0\0" + _PACKED)),
    ),
    "EXIF as twenty million lines": (
        "png: read",
        lambda: _png(png_chunk(b"tEXt", b"Raw profile type exif\0" + b"\n" * (20 << 20))),
    ),
    "EXIF that points to itself 65535 times": (
        "png: read",
        lambda: _png(png_chunk(b"eXIf", _endless_exif(0x8769, 8))),
    ),
    "four billion frames": (
        "png: read",
        lambda: _png(png_chunk(b"acTL", struct.pack(">II", 0xFFFFFFFF, 0))),
    ),
    "a million comments": (
        "jpeg: more than 4096 segments",
        lambda: _jpeg(b"\xff\xfe\0\3a" * 1_000_000),
    ),
    "a million empty tables": (
        "jpeg: more than 4096 segments",
        lambda: _jpeg(b"\xff\xdb\0\2" * 1_000_000),
    ),
    "64 MB of comments": (
        "jpeg: read",
        lambda: _jpeg((b"\xff\xfe\xff\xff" + b"a" * 65533) * 1000),
    ),
    "60 MB of fill bytes": (
        "jpeg: more than 1 MB of it are no segments",
        lambda: _jpeg(b"\xff" * (60 << 20)),
    ),
    "60 MB of stray bytes": (
        "jpeg: more than 1 MB of it are no segments",
        lambda: _jpeg((b"\xff\xfe\0\2" + bytes(60_000)) * 1000),
    ),
    "thousands of scans behind an odd marker": ("jpeg: more than 100 scans", _scans),
    "a million pictures in a GIF": ("gif: read", lambda: _gif(behind=_FRAME * 1_000_000)),
    "two million parts before the first picture": (
        "gif: more than 262144 blocks",
        lambda: _gif(b"!\xff" + b"\1a" * 2_000_000 + b"\0"),
    ),
    "a hundred thousand pages": (
        "tiff: more than 10000 pictures",
        lambda: _chain(100_000, _plain()),
    ),
    "a million empty pages": ("tiff: more than 10000 pictures", lambda: _chain(1_000_000, [])),
    "a page that is followed by itself": ("tiff: read", lambda: _tiff(following=264)),
    "8 MB that are listed four thousand times": (
        "tiff: list more than the file holds",
        lambda: _tiff(_SHARED) + bytes(8 << 20),
    ),
    "the same in EXIF": (
        "tiff: list more than the file holds",
        lambda: (
            _tiff([(0x8769, 4, 1, len(_tiff([(0x8769, 4, 1, 0)])))])
            + _directory(_SHARED)
            + bytes(8 << 20)
        ),
    ),
    "sixty thousand tags": (
        "tiff: more tags than any picture has",
        lambda: _tiff([(1000 + n, 3, 1, 8) for n in range(60_000)]),
    ),
    "64 megapixels in 256 bytes": ("tiff: broken", lambda: _tiff(side=8000)),
    "a thousand channels": ("tiff: 1000 channels|broken", lambda: _tiff(channels=1000)),
    "a palette of four billion colours": (
        "bmp: broken",
        lambda: (
            samples("bmp")["palette"][:46] + b"\xff\xff\xff\xff" + samples("bmp")["palette"][50:]
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_file_that_is_made_to_cost_much_is_read_or_refused_in_seconds(name, tmp_path):
    expected, make = CASES[name]
    path = tmp_path / "costly"
    path.write_bytes(make())
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).resolve().parents[2],
    )
    assert done.returncode == 0, done.stderr[-500:]
    said, seconds, megabytes = json.loads(done.stdout)
    assert done.stderr == ""
    assert any(phrase in said for phrase in expected.split(": ", 1)[1].split("|")), said
    assert seconds < SECONDS
    assert megabytes < MEGABYTES


def test_pictures_of_a_gif_are_counted_as_pillow_counts_them():
    for data in samples("gif").values():
        with Image.open(io.BytesIO(data)) as image:
            assert count_frames(io.BytesIO(data)) == image.n_frames
        assert count_frames(io.BytesIO(data[:20])) == 1  # cut off


def test_a_thumbnail_without_an_end_is_left_and_those_with_one_are_taken_out():
    whole = b"<rdf:RDF><xmp:Thumbnails>a</xmp:Thumbnails>b<xmp:Thumbnails >c</xmp:Thumbnails >"
    assert xmp.cleaned(whole + b"d</rdf:RDF>") == b"<rdf:RDF>bd</rdf:RDF>"
    endless = b"<rdf:RDF>" + b"<xmp:Thumbnails>" * 100_000 + b"</rdf:RDF>"
    assert xmp.cleaned(endless) == endless


def test_thumbnails_by_the_thousand_are_not_all_wiped():
    pair = struct.pack("<HHIIHHII", 0x0201, 4, 1, 1 << 20, 0x0202, 4, 1, 8 << 20)
    block = b"II*\0" + struct.pack("<IHIH", 8, 0, 14, 65534) + pair * 32767
    assert len(exif.cleaned(block + bytes(10 << 20))) > 10 << 20
