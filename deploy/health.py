"""Exit 0 if the server on this machine is well, 1 with a word about it if not: for containers and
monitors. Needs nothing but Python, and asks no proxy; UPSCALE_PORT names the port.
"""

from __future__ import annotations

import http.client
import json
import os
import sys

# Less than the time that the container's engine gives.
_SECONDS = 8.0


def main() -> str | None:
    """What is wrong; None if nothing is."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(os.environ.get("UPSCALE_PORT", "8000")), timeout=_SECONDS
    )
    try:
        connection.request("GET", "/health")
        reply = connection.getresponse()
        status = json.load(reply)["status"] if reply.status == 200 else f"HTTP {reply.status}"
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as fault:
        return f"no answer: {fault}"
    finally:
        connection.close()
    return None if status == "ok" else str(status)


if __name__ == "__main__":
    sys.exit(main())
