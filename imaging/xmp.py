"""XMP packets as bytes: reading and correcting what they state of orientation and size.

Works on the text with patterns, so that whatever else a packet holds stays as it is, a namespace
that nobody here knows included. Knows nothing of the files that carry packets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

NAMESPACE = "urn:upscale:provenance"
"""Of what we note ourselves; a name, not an address."""

JPEG_HEAD = b"http://ns.adobe.com/xap/1.0/\0"
"""What stands before a packet in a segment of a JPEG."""

_ORIENTATION = "tiff:Orientation"
_SIZES = {
    "tiff:ImageWidth": 0,
    "tiff:ImageLength": 1,
    "exif:PixelXDimension": 0,
    "exif:PixelYDimension": 1,
}
_END = b"</rdf:RDF>"
_EMPTY = (
    b'<?xpacket begin="\xef\xbb\xbf" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/">\n'
    b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n'
    b'</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="w"?>'
)
_THUMBNAILS = re.compile(rb"<xmp:Thumbnails\b")
_THUMBNAILS_END = re.compile(rb"</xmp:Thumbnails\s*>")


def orientation(xmp: bytes) -> int:
    """The orientation that a packet states, 1 to 8; 1 where it states none."""
    found = _pattern(_ORIENTATION, b"[1-8]").search(xmp)
    return int(found[2]) if found else 1


def cleaned(xmp: bytes) -> bytes:
    """The packet with orientation 1 and without thumbnails.

    Raises ValueError, with a phrase that says why, if it is no packet in UTF-8.
    """
    packet = xmp.strip(b"\0 \r\n\t")
    packet.decode("utf-8")  # UnicodeDecodeError is a ValueError
    if b"<rdf:RDF" not in packet:
        raise ValueError("it holds no RDF")
    return _without_thumbnails(_stated(packet, _ORIENTATION, 1))


def _without_thumbnails(packet: bytes) -> bytes:
    """In one pass; one pattern for both ends would search to the end again for each beginning."""
    kept, at = [], 0
    while begin := _THUMBNAILS.search(packet, at):
        end = _THUMBNAILS_END.search(packet, begin.end())
        if end is None:
            break
        kept.append(packet[at : begin.start()])
        at = end.end()
    return b"".join([*kept, packet[at:]])


def sized(xmp: bytes, width: int, height: int) -> bytes:
    """The packet with the sizes in pixels that it states set to `width` and `height`."""
    for name, axis in _SIZES.items():
        xmp = _stated(xmp, name, (width, height)[axis])
    return xmp


def with_note(xmp: bytes | None, facts: Mapping[str, str]) -> bytes:
    """The packet, or a new one, with `facts` as properties of our own namespace.

    Facts of an earlier note are replaced.
    """
    packet = re.sub(_DESCRIPTION, b"", xmp or _EMPTY, flags=re.DOTALL)
    end = packet.rfind(_END)
    if end < 0:
        packet, end = _EMPTY, _EMPTY.rfind(_END)
    properties = "".join(f"\n upscale:{name}={quoteattr(fact)}" for name, fact in facts.items())
    note = f'<rdf:Description rdf:about="" xmlns:upscale="{NAMESPACE}"{properties}/>\n'
    return packet[:end] + note.encode() + packet[end:]


_DESCRIPTION = (
    rb'<rdf:Description rdf:about="" xmlns:upscale="' + NAMESPACE.encode() + rb'"[^<>]*/>\n?'
)


def _stated(xmp: bytes, name: str, value: int) -> bytes:
    return _pattern(name, rb"\d+").sub(rb"\g<1>%d\g<3>" % value, xmp)


def _pattern(name: str, value: bytes) -> re.Pattern[bytes]:
    """A property with a value, as an attribute or as an element."""
    return re.compile(
        rb"(" + name.encode() + rb"\s*(?:=\s*[\"']|>)\s*)(" + value + rb")(\s*[\"'<])"
    )
