"""`serve`: bind, refuse what is unsafe, run until asked to stop, finish what was begun."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import uvicorn
from fastapi import FastAPI

from upscale import logs
from upscale.errors import InvalidRequest, ServerFault
from upscale.providers.addresses import is_loopback
from upscale.server.app import create_app
from upscale.server.protocol import Protocol
from upscale.server.records.keys import KeyRing
from upscale.server.spool import private_folder
from upscale.server.storage.choose import choose_storage
from upscale.settings import Settings

log = logs.get("server")

# Clients keep connections open this long between requests, in seconds.
_KEEP_ALIVE = 75


def serve(settings: Settings, ready: Callable[[str, bool], None]) -> None:
    """Serve until SIGINT or SIGTERM, then give what is at work `drain_seconds` to finish.

    `ready` is told the server's address once it answers, and whether it asks for keys. Raises
    InvalidRequest for an address that may not be served, ServerFault when it cannot be bound, or
    the data folder, its database or the bucket for results not be used.
    """
    # Whatever this process and its workers write belongs to this user alone.
    os.umask(0o077)
    private_folder(settings.data_dir / "spool")
    choose_storage(settings).open()
    app = create_app(settings)
    ours = app.state.services
    with contextlib.closing(ours.database):
        ours.database.open()
        keys = KeyRing(ours.database).any()
        check_address(settings, keys=keys)
        with contextlib.closing(_bind(settings.host, settings.port)) as listener:
            url = _url(settings.host, listener.getsockname()[1])
            _join_logs()
            asks = keys and not settings.allow_anonymous
            feeds = ours.recorder.feeds
            server = _Server(_config(app, settings), lambda: ready(url, asks), feeds.close)
            server.run(sockets=[listener])


def _config(app: FastAPI, settings: Settings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=Protocol,
        log_config=None,
        access_log=False,
        server_header=False,
        # Whom to believe is a setting of ours (`proxies`).
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, math.ceil(settings.drain_seconds)),
    )


def check_address(settings: Settings, *, keys: bool) -> None:
    """Raise InvalidRequest for a public address without `keys`, unless that is meant."""
    if keys or settings.allow_anonymous:
        return
    if is_loopback(settings.host):
        log.info("no keys: whoever is on this machine is served, and nobody else")
        return
    raise InvalidRequest(
        f"Refusing to serve {settings.host}: anyone who reaches that address could use this "
        "server, it has no keys yet. Make one (upscale keys create NAME), serve 127.0.0.1, or set "
        "UPSCALE_ALLOW_ANONYMOUS=1 if this is meant.",
        field="host",
    )


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host.strip("[]"), port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
        except BaseException:
            listener.close()
            raise
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise ServerFault(
            f"Cannot listen on {host} port {port}: {reason}. Choose another with --port, or "
            "--port 0 for a free one."
        ) from fault
    return listener


def _url(host: str, port: int) -> str:
    shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)
    if ":" in shown and not shown.startswith("["):
        shown = f"[{shown}]"
    return f"http://{shown}:{port}"


def _join_logs() -> None:
    """uvicorn's warnings go where our log lines go."""
    theirs = logging.getLogger("uvicorn")
    theirs.handlers[:] = logging.getLogger("upscale").handlers
    theirs.setLevel(logging.WARNING)
    theirs.propagate = False


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it is ready and ends without raising its signal again."""

    def __init__(
        self, config: uvicorn.Config, ready: Callable[[], None], ending: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending()
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
