"""What a file says beside its pixels, and what of it still holds once the picture is larger.

Plain data, the same for every format: readers fill it, sinks write what their format can hold.
Knows EXIF and XMP only through their own modules; knows nothing of files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from upscale.imaging import exif as exif_block
from upscale.imaging import xmp as xmp_packet

METADATA_LIMIT = 32 << 20
"""Bytes of metadata that are taken from a file, also of inflated ones; the rest is left out."""

COMMENT = "Comment"
"""The keyword under which comments of JPEG and GIF go."""


_KNOWN_AS = {"exif": "EXIF", "xmp": "XMP", "iptc": "IPTC", "dpi": "dots an inch"}


@dataclass(frozen=True)
class Text:
    """A text chunk of a PNG: Latin-1 keyword of 1 to 79 characters, any text."""

    keyword: str
    text: str
    language: str = ""
    translated: str = ""


@dataclass(frozen=True)
class Metadata:
    """Metadata that belongs to a picture. None or empty: the file has none.

    `icc`: an ICC profile that describes the pixels; `exif`: `Exif\\0\\0` and a TIFF structure, its
    orientation 1, without thumbnail; `xmp`: a packet, UTF-8; `iptc`: an IIM record (resource 0x0404
    of Photoshop); `dpi`: pixels an inch, across and down; `text`: PNG texts, and comments of JPEG
    and GIF under the keyword `COMMENT`; `cicp`: the four bytes of a PNG's cICP chunk.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    dpi: tuple[float, float] | None = None
    text: tuple[Text, ...] = ()
    cicp: bytes | None = None

    def sized(self, width: int, height: int) -> Metadata:
        """The same for a picture of `width` x `height` pixels: sizes that it states are set."""
        return replace(
            self,
            exif=exif_block.sized(self.exif, width, height) if self.exif else None,
            xmp=xmp_packet.sized(self.xmp, width, height) if self.xmp else None,
        )

    def noted(self, facts: Mapping[str, str], *, as_comment: bool) -> Metadata:
        """The same with `facts` on how the picture was made, in the XMP packet or as a comment."""
        if as_comment:
            words = ", ".join(f"{name}: {fact}" for name, fact in facts.items())
            return replace(self, text=(*self.text, Text(COMMENT, words)))
        return replace(self, xmp=xmp_packet.with_note(self.xmp, facts))

    def unplaced(self, name: str, holds: Collection[str]) -> list[str]:
        """Notes on what a format called `name` has no place for: it `holds` some of the fields,
        and maybe `comment`.
        """
        notes = []
        lost = [
            known
            for field, known in _KNOWN_AS.items()
            if getattr(self, field) is not None and field not in holds
        ]
        if lost:
            notes.append(f"{name} has no place for {', '.join(lost)}: left out.")
        keywords = dict.fromkeys(
            text.keyword
            for text in self.text
            if not ("text" in holds or (text.keyword == COMMENT and "comment" in holds))
        )
        if keywords:
            notes.append(f"{name} has no place for these texts, left out: {', '.join(keywords)}.")
        if self.cicp and "cicp" not in holds:
            notes.append(
                f"Colour codes (CICP) are not written to {name}: colours will look different."
            )
        return notes

    def stripped(self) -> Metadata:
        """Only what is needed to see the pixels rightly: the profile and how they are coded."""
        return Metadata(icc=self.icc, cicp=self.cicp)


def stated_orientation(exif: bytes | None, xmp: bytes | None) -> int:
    """The orientation, 1 to 8, of a file with these blocks: EXIF goes before XMP."""
    if exif:
        return exif_block.orientation(exif)
    return xmp_packet.orientation(xmp) if xmp else 1
