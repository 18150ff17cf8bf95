"""Results behind their links: whole, in parts, or word that the caller has them already."""

from __future__ import annotations

from upscale.imaging.limits import FORMATS
from upscale.server.openapi.operations import public, reply, sent

_FILE = {
    facts.mime: {"schema": {"type": "string", "format": "binary"}} for facts in FORMATS.values()
}

_ALWAYS = ("ETag", "Last-Modified", "Cache-Control", "Accept-Ranges")
_WHOLE = (*_ALWAYS, "Content-Length", "Content-Disposition", "X-Content-Type-Options")

_NAME = {
    "name": "name",
    "in": "path",
    "required": True,
    "description": "As in the link: nobody can guess it.",
    "schema": {"type": "string"},
    "example": "0GeKauzqKTBQozIa2SvxEwAPOVx.png",
}

_TAG, _DATE = '"3f5d0c"', "Wed, 21 Oct 2026 07:28:00 GMT"

PATHS = {
    "/media/{name}": public(
        "getMedia",
        "The file of a media link, until it expires",
        {
            "200": reply("All of it", _FILE, _WHOLE),
            "206": reply("The part that Range names", _FILE, (*_WHOLE, "Content-Range")),
            "304": reply("The caller has it already", None, _ALWAYS),
        },
        404,
        412,
        416,
        parameters=(
            _NAME,
            sent("Range", "One part of the file; several are answered with all.", "bytes=0-1023"),
            sent("If-Range", "The part only if this is its tag or date, else all.", _TAG),
            sent("If-Match", "412 if none of these is its tag.", _TAG),
            sent("If-Unmodified-Since", "412 if it was made after this.", _DATE),
            sent("If-None-Match", "304 if one of these is its tag.", _TAG),
            sent("If-Modified-Since", "304 if it was not made after this.", _DATE),
        ),
        only_get=("206", "416", "Range", "If-Range"),
    )
}
