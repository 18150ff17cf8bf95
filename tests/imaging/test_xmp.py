import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.imaging.xmp import NAMESPACE, cleaned, orientation, sized, with_note

PACKET = b"""<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"
 tiff:ImageWidth='40' xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5">
<exif:PixelYDimension>30</exif:PixelYDimension>
<xmp:Thumbnails><rdf:Alt>secret face</rdf:Alt></xmp:Thumbnails>
</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>"""


def test_the_orientation_is_found_as_attribute_and_as_element():
    assert orientation(PACKET) == 6
    assert orientation(b"<tiff:Orientation>3</tiff:Orientation>") == 3
    assert orientation(b'<rdf:Description tiff:Orientation="9"/>') == 1
    assert orientation(b"") == 1


def test_orientation_and_thumbnail_go_and_the_rest_stays():
    clean = cleaned(PACKET + bytes(20))
    assert orientation(clean) == 1
    assert b"secret face" not in clean
    assert b'xmp:Rating="5"' in clean


def test_sizes_that_are_stated_are_set():
    larger = sized(PACKET, 160, 120)
    assert b"tiff:ImageWidth='160'" in larger
    assert b"<exif:PixelYDimension>120<" in larger
    assert b"PixelXDimension" not in larger


@pytest.mark.parametrize("packet", [b"", b"no packet", b"\xff\xfe<rdf:RDF"])
def test_what_is_no_packet_is_a_value_error(packet):
    with pytest.raises(ValueError, match=r"\w"):
        cleaned(packet)


@given(st.dictionaries(st.sampled_from(["Model", "Scale"]), st.text(max_size=20), min_size=1))
def test_a_note_is_well_formed_and_replaces_an_earlier_one(facts):
    import xml.etree.ElementTree as tree

    facts = {k: re.sub(r"[^\x20-\x7e]", "", v) for k, v in facts.items()}
    for packet in (None, PACKET.replace(b"<exif:", b"<tiff:").replace(b"</exif:", b"</tiff:")):
        noted = with_note(with_note(packet, {"Model": "earlier"}), facts)
        assert noted.count(b"urn:upscale") == 1
        body = re.search(rb"<x:xmpmeta.*</x:xmpmeta>", noted, re.DOTALL)
        found = {
            name.split("}")[1]: value
            for node in tree.fromstring(body[0]).iter()
            for name, value in node.attrib.items()
            if NAMESPACE in name
        }
        assert found == facts
