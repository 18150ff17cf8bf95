"""HTTP on the wire: uvicorn's protocol, which tells of malformed requests in our shape."""

from __future__ import annotations

import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from upscale.errors import InvalidRequest
from upscale.server.envelope import stamps
from upscale.server.errors import error_body
from upscale.server.ids import request_id


class Protocol(H11Protocol):
    """What is no HTTP never reaches the application, so its error is written here."""

    def send_400_response(self, msg: str) -> None:
        """Answer in the one shape of errors, where an answer can still be begun, and hang up."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            error = InvalidRequest("The request is not valid HTTP/1.1.")
            body = json.dumps(error_body(error)).encode()
            headers = {
                "content-type": "application/json",
                "content-length": str(len(body)),
                "connection": "close",
                "x-should-retry": "false",
                **stamps(request_id()),
            }
            for event in (
                h11.Response(status_code=400, reason=b"Bad Request", headers=[*headers.items()]),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
