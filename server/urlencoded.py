"""An urlencoded body, piece by piece as it arrives, into a Form. Long values of image fields (data
URIs) go to the disk, those of other fields are cut.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote_to_bytes

from upscale.errors import InvalidRequest
from upscale.server.forms import Form
from upscale.server.parts import Gatherer, Part

_MAX_FIELDS = 1000
_MAX_NAME = 1000


class UrlencodedReader:
    """Feed it the body, then call `finish`. `folder` takes the long values."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._gatherer = Gatherer()
        self._fields = self._separators = 0
        self._rest = b""
        self._value: Part | None = None

    def feed(self, data: bytes) -> None:
        """The next piece of the body, of any length. Raises InvalidRequest or OutputFault."""
        # Before anything is done for them: twenty million of them fit a body.
        self._separators += data.count(b"&")
        if self._separators >= _MAX_FIELDS:
            raise InvalidRequest(f"The form has more than {_MAX_FIELDS} fields.")
        first, *others = data.split(b"&")
        self._more(first)
        for piece in others:
            self._end()
            self._more(piece)

    def finish(self) -> Form:
        """The Form, once the whole body was fed."""
        self._end()
        return self._gatherer.form

    def close(self) -> None:
        """Close what is open; the files are the folder's owner's to remove."""
        if self._value is not None:
            self._value.close()

    def _more(self, data: bytes) -> None:
        data = self._rest + data
        self._rest = b""
        if self._value is None:
            name, found, data = data.partition(b"=")
            if len(name) > _MAX_NAME:
                raise InvalidRequest("The form has a name that is longer than any field's.")
            if not found:
                self._rest = name
                return
            self._begin(name)
        assert self._value is not None
        # An escape that is cut waits for its end.
        cut = data.rfind(b"%", max(0, len(data) - 2))
        if cut >= 0:
            data, self._rest = data[:cut], data[cut:]
        self._value.write(_plain(data))

    def _begin(self, name: bytes) -> None:
        self._fields += 1
        shown = _plain(name).decode("utf-8", "replace")
        self._value = Part(shown, None, self._folder / f"value-{self._fields}")

    def _end(self) -> None:
        value, self._value = self._value, None
        rest, self._rest = self._rest, b""
        if value is None:
            if not rest:
                return
            self._begin(rest)  # a name without a value
            value, self._value = self._value, None
            assert value is not None
        else:
            value.write(_plain(rest))
        self._gatherer.take(value)


def _plain(data: bytes) -> bytes:
    return unquote_to_bytes(data.replace(b"+", b" "))
