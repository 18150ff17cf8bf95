"""From the pixels that a file stores to those that we work on: 8 or 16 bits, grey or RGB, straight.

Works on a lazily computed libvips image and the file's Header; says in `notes` what was changed.
Knows nothing of files and of how rows are fetched.
"""

from __future__ import annotations

import math

from upscale.imaging import profiles, vips
from upscale.imaging.header import Header

# Light brighter than white, as renderers and raw developers write it, is cut off; beyond that the
# numbers are a measurement, and their range is spread.
_BRIGHTEST, _DARKEST = 16.0, -0.5


def prepared(
    image: vips.Image, header: Header, *, srgb: bool, notes: list[str]
) -> tuple[vips.Image, bytes | None]:
    """The image as uchar or ushort with 1 or 3 channels of colour, and one of alpha if the Probe
    says so; and the profile that describes it, None for sRGB.

    `srgb`: convert through the profile, whatever it is. `image` may be read once more for its
    range where its numbers are 32 bits wide.
    """
    probe = header.probe
    stored = 4 if header.space == "cmyk" else 3 if header.space == "lab" else probe.channels
    wanted = stored + probe.alpha
    if image.bands > wanted:
        image = image[:wanted]
    if image.bands < wanted:
        raise ValueError(f"{image.bands} channels came out of it")
    if header.space == "lab":
        notes.append("LAB was converted to sRGB.")
        if header.reader == "pillow":  # which has done it
            return image, None
        return profiles.lab_to_srgb(image, deep=probe.depth == 16), None
    image = _whole_numbers(image, notes)
    if header.space == "cmyk":
        # Opacity goes apart: libvips would scale it as ink.
        inks = _from_cmyk(image[:4], header, notes)
        return inks.bandjoin(image[4]) if probe.alpha else inks, None
    return _described(image, header, srgb=srgb, notes=notes)


def _whole_numbers(image: vips.Image, notes: list[str]) -> vips.Image:
    """uchar or ushort from any real numbers."""
    kind = image.format
    if kind in ("uchar", "ushort"):
        return image
    if kind == "char":  # hardly ever meant: the bits are those of whole numbers from 0 to 255
        return (image < 0).ifthenelse(image + 256, image).cast("uchar")
    if kind == "short":
        return (image + 32768).cast("ushort") if image.min() < 0 else (image * 2).cast("ushort")
    if kind not in ("uint", "int", "float", "double"):
        raise ValueError(f"its numbers are of a kind ({kind}) that is no picture")
    low, high = image.min(), image.max()  # which pass over what is no number
    strange = kind in ("float", "double") and (image != image).max() > 0
    if strange or not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError("it holds values that are no numbers")
    if kind in ("float", "double") and low >= _DARKEST and high <= _BRIGHTEST:
        if low < 0 or high > 1:
            notes.append("Values below 0 and above 1 were cut off.")
        low, high = 0.0, 1.0
    else:
        notes.append(f"Its 32-bit values from {low:g} to {high:g} were spread over 16 bits.")
    gain = 65535.0 / (high - low) if high > low else 0.0
    return ((image - low) * gain + 0.5).floor().cast("ushort")


def _from_cmyk(image: vips.Image, header: Header, notes: list[str]) -> vips.Image:
    icc = header.metadata.icc
    image = image.copy(interpretation="cmyk")
    # libvips would quietly take a profile of its own for one that cannot be used.
    if icc is not None and profiles.is_for(icc, b"CMYK") and profiles.opens(icc, "CMYK"):
        notes.append("CMYK was converted to sRGB through the picture's own colour profile.")
        return profiles.to_srgb(image, icc)
    how = "it has no colour profile" if icc is None else "its colour profile cannot be used"
    notes.append(
        f"CMYK was converted to sRGB through a general profile, as {how}: colours are approximate."
    )
    return profiles.to_srgb(image, None)


def _described(
    image: vips.Image, header: Header, *, srgb: bool, notes: list[str]
) -> tuple[vips.Image, bytes | None]:
    probe, icc = header.probe, header.metadata.icc
    deep = image.format == "ushort"
    names = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    image = image.copy(interpretation=names[probe.channels == 3])
    if header.encoding is not None:
        notes.append("The PNG's gAMA and cHRM values were applied: colours are now sRGB.")
        return profiles.decoded(image, header.encoding, alpha=probe.alpha), None
    if probe.channels == 1 and profiles.matching(icc, 3)[0] is not None:
        notes.append("Grey pixels with a profile for RGB were converted to sRGB.")
        wide = profiles.three_channels(image, alpha=probe.alpha)
        return profiles.one_channel(profiles.to_srgb(wide, icc), alpha=probe.alpha), None
    usable, note = profiles.matching(icc, probe.channels)
    if note:
        notes.append(note)
    if usable is not None and srgb:
        notes.append("Colours were converted to sRGB: the result cannot have the profile.")
        return profiles.to_srgb(image, usable), None
    return image, usable
