"""A server process that may be killed, its keys, and clients that do not give up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
from PIL import Image

from tests.server.live import EDITS
from upscale.server.records.database import Database
from upscale.server.records.keys import KeyRing
from upscale.server.records.requests import RequestLog
from upscale.server.records.rows import Row
from upscale.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
END = ("completed", "upstream_failure", "rejected", "cancelled")


class Box:
    """Server processes, one after the other, on one data folder."""

    def __init__(self, folder: Path, program: str = "program", **options: Any) -> None:
        self.folder, self.options = folder / "data", options
        self._module = f"tests.chaos.{program}"
        self.ledger = folder / "ledger"
        self._log = folder / "log"
        self.url = ""
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """A new process, which is not ready yet."""
        arguments = [str(self.folder), str(self.ledger), json.dumps(self.options)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self._module, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=ROOT,
            )

    def wait(self) -> None:
        """Until it answers; at the same port ever after."""
        assert self.process is not None
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()
        assert self.url.startswith("http"), self._log.read_text()[-3000:]
        self.options["port"] = int(self.url.rpartition(":")[2])

    def kill(self) -> None:
        """At once, without a word."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)

    def stop(self) -> None:
        """In order."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(60)
            finally:
                self.process.kill()

    def __enter__(self) -> Box:
        self.start()
        self.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def make_keys(self, **limits: dict[str, Any]) -> dict[str, tuple[str, str]]:
        """Id and token of a new key for each name."""
        with closing(Database.of(Settings(data_dir=self.folder))) as database:
            database.open()
            ring = KeyRing(database)
            made = {name: ring.create(name, **each) for name, each in limits.items()}
        return {name: (key.id, token) for name, (key, token) in made.items()}

    def rows(self) -> list[Row]:
        """All records, with the server there or not."""
        with closing(Database.of(Settings(data_dir=self.folder))) as database:
            database.open()
            log = RequestLog(database)
            page = log.page(limit=100)
            found = list(page.rows)
            while page.older:
                page = log.page(limit=100, starting_after=found[-1].id)
                found += page.rows
        return found

    def money(self, key_id: str) -> tuple[int, int]:
        """What a key has spent, and what is still put aside."""
        with closing(Database.of(Settings(data_dir=self.folder))) as database:
            database.open()
            key = KeyRing(database).get(key_id)
        return key.spent_micros, key.reserved_micros

    def resident_mb(self) -> float:
        """Memory of the server's own process."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def leftovers(self) -> list[str]:
        """What no server that stopped in order leaves in its folders."""
        left = [path for path in (self.folder / "jobs").iterdir() if path.is_dir()]
        left += (self.folder / "spool").iterdir()
        left += self.folder.rglob("*.part")
        left += (self.folder / "media").glob(".*")
        return sorted(str(path.relative_to(self.folder)) for path in left)

    def at_work(self) -> bool:
        """Whether this process has begun a job."""
        assert self.process is not None
        return str(self.process.pid) in {process for _, process in self.made("begun")}

    def made(self, wanted: str = "made") -> list[tuple[str, str]]:
        """Request and process of each result that was made (or "begun"), in that order."""
        if not self.ledger.exists():
            return []
        lines = [line.split() for line in self.ledger.read_text().splitlines()]
        return [(request, process) for what, request, process in lines if what == wanted]


@dataclass
class Wish:
    """One edit that a client wants done, and what it got."""

    number: int
    token: str = ""
    background: bool = True
    status: int = 0
    request_id: str = ""
    url: str = ""
    tries: int = 0

    @property
    def name(self) -> str:
        """Its idempotency key."""
        return f"wish-{self.number}"

    @property
    def colour(self) -> tuple[int, int, int]:
        """No other wish has it."""
        return (self.number % 256, self.number // 256, 77)

    @property
    def headers(self) -> dict[str, str]:
        """What it sends besides its form."""
        shown = {"Idempotency-Key": self.name}
        return shown | ({"Authorization": f"Bearer {self.token}"} if self.token else {})

    def picture(self) -> bytes:
        """Eight by eight pixels of its colour."""
        file = BytesIO()
        Image.new("RGB", (8, 8), self.colour).save(file, "png")
        return file.getvalue()

    def post(self, client: httpx.Client, url: str) -> httpx.Response:
        """Ask once."""
        form = {"model": "bundled-x4"} | ({"background": "true"} if self.background else {})
        files = {"image": ("a.png", self.picture(), "image/png")}
        return client.post(url + EDITS, data=form, files=files, headers=self.headers)

    def insist(self, client: httpx.Client, box: Box, over: threading.Event) -> None:
        """Ask until there is an answer that a client takes for one."""
        while not over.is_set():
            self.tries += 1
            try:
                reply = self.post(client, box.url)
            except httpx.TransportError:
                time.sleep(0.05)
                continue
            if reply.status_code in (429, 500, 503):
                time.sleep(min(0.3, float(reply.headers.get("retry-after", 0.2))))
                continue
            self.status = reply.status_code
            body = reply.json()
            if reply.status_code == 202:
                self.request_id = body["id"]
            elif reply.status_code == 200:
                self.url = body["data"][0]["url"]
            return

    def get(self, client: httpx.Client, box: Box) -> dict[str, Any]:
        """Its request object."""
        found: dict[str, Any] = client.get(
            f"{box.url}/v1/requests/{self.request_id}", headers=self.headers
        ).json()
        return found

    def check(self, client: httpx.Client, url: str) -> None:
        """What lies behind the link is its own."""
        with Image.open(BytesIO(client.get(url).content)) as result:
            assert result.size == (32, 32)
            assert result.convert("RGB").getcolors() == [(1024, self.colour)], self
