"""The OpenAPI description of the routes, written as data: what FastAPI would guess from functions
that read bodies themselves is next to nothing.

A module for each group of routes has their `PATHS`; `schemas` has the shapes of bodies, `headers`
those of headers, `operations` how an operation is put together, failures included. A new group is a
module with `PATHS` and a line in `document`. Tests hold all of it against the application and run
every example. Nothing here serves a request: `docs_page` does.
"""

from upscale.server.openapi.document import document
from upscale.server.openapi.edits import EDITS

__all__ = ["EDITS", "document"]
