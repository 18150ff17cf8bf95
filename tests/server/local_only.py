"""The whole API of a server that may make no outgoing connection: `local_only.py FOLDER`.

Run in a process of its own, so that what it connects to can be seen from outside; it also writes
down itself, as JSON, every address that Python was asked to connect to or to look up, and whether
another machine can be reached at all.
"""

from __future__ import annotations

import base64
import fcntl
import json
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.server.live import EDITS, Live, png, serving
from upscale.settings import Settings

OUTSIDE = "192.0.2.1"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _UP = 0x8913, 0x8914, 1

reached: set[str] = set()


def note(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: each host that anything in this process turns to."""
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        address = args[1]
        if isinstance(address, tuple):
            reached.add(str(address[0]))
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        reached.add(str(args[0]))


class House(BaseHTTPRequestHandler):
    """A picture, or a redirect to elsewhere."""

    def do_GET(self) -> None:
        """Answer by the path."""
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", f"http://{OUTSIDE}/a.png")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        self.wfile.write(png())

    def log_message(self, *_: Any) -> None:
        """Silent."""


def loopback_up() -> None:
    """A new network namespace has its loopback switched off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name = struct.pack("16sH14s", b"lo", 0, b"")
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, name))[1]
        if not flags & _UP:
            fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _UP, b""))


def whole_api(live: Live, house: str) -> None:
    """Every route, every way for an image to come, what is refused included."""
    model = {"model": "bundled-x4", "scale_factor": "2"}
    uri = "data:image/png;base64," + base64.b64encode(png()).decode()
    post, get = live.client.post, live.client.get

    link = live.edit(model).json()["data"][0]["url"]
    for image in (uri, f"{house}/a.png", link):
        for reply in (
            post(EDITS, data={**model, "image": image}),
            post(EDITS, json={**model, "image": image}),
        ):
            assert reply.status_code == 200, reply.text
    for image in (
        f"http://{OUTSIDE}/a.png",
        "https://example.com/a.png",
        "http://[2001:db8::1]/a.png",
        f"http://{OUTSIDE}/media/{'0' * 27}.png",
        f"{house}/away",
    ):
        reply = post(EDITS, data={**model, "image": image})
        assert (reply.status_code, "LOCAL_ONLY" in reply.text) == (400, True), reply.text
    assert post(f"{EDITS}?dryRun=true", json={**model, "image": uri}).is_success
    assert live.edit({**model, "response_format": "b64_json", "output_format": "avif"}).is_success
    for path in ("/openai/v1/models", "/openai/v1/models/real-esrgan", "/health", link):
        assert get(path).is_success
    for name in ("topaz-image-upscale", "fal/aura-sr", "nothing"):
        reply = live.edit({"model": name})
        assert reply.status_code == 404, reply.text
    for path in ("/docs", "/openapi.json", "/v1/models", "/nope"):
        get(path)


def main(folder: Path) -> None:
    """Serve, ask, tell."""
    loopback_up()
    sys.addaudithook(note)
    with ThreadingHTTPServer(("127.0.0.1", 0), House) as site:
        threading.Thread(target=site.serve_forever, daemon=True).start()
        settings = Settings(data_dir=folder, local_only=True, local_hosts="127.0.0.1")
        with serving(settings) as live:
            whole_api(live, f"http://127.0.0.1:{site.server_address[1]}")
        site.shutdown()
    told = sorted(reached)
    print(json.dumps({"reached": told, "cut_off": cut_off()}))


def cut_off() -> bool:
    """Whether there is no way to any other machine (nothing is sent: UDP only chooses a route)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((OUTSIDE, 9))
        except OSError:
            return True
    return False


if __name__ == "__main__":
    main(Path(sys.argv[1]))
