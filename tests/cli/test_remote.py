"""Batches by a running server: the real server with an engine that makes pictures of one colour,
and a server of given answers for what the real one seldom does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from tests.cli.conftest import Run, command, draw, environment, visible
from tests.server.live import Live, serving, wait_for
from upscale.cli import client
from upscale.cli.record import NAME
from upscale.engine.order import JobOrder
from upscale.errors import InvalidRequest, QueueFull
from upscale.settings import Settings

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("server"))) as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index in range(6):
        draw(tmp_path / "in" / f"p{index}.png", (12 + index, 9))
    return tmp_path / "in"


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "CONNECT_PAUSES", (0.01, 0.02, 0.03))
    monkeypatch.setattr(client, "BREAK_PAUSE", 0.01)
    monkeypatch.setattr(client, "FULL_PAUSE", 0.01)


def test_a_folder_is_upscaled_by_a_server_and_once(
    call: Run, tmp_path: Path, folder: Path, live: Live
) -> None:
    draw(folder / "deep" / "x.jpg", (10, 10))
    done = call("image", "in", "-o", "out", "--server", live.url, "--receipt")
    assert done.returncode == 0, done.stderr
    assert "7 done." in done.stderr
    with Image.open(tmp_path / "out/deep/x-4x.png") as image:
        assert image.size == (40, 40)
    receipt = json.loads((tmp_path / "out/p0-4x.png.json").read_text())
    assert receipt["network"]["name"] == "bundled-x4"
    assert receipt["server"] == live.url
    assert not list((tmp_path / "out").rglob("*.part"))
    jobs = len(live.engine.jobs)
    assert jobs == 7
    done = call("image", "in", "-o", "out", "--server", f"{live.url}/openai/v1/", "--receipt")
    assert "0 done, 7 done before." in done.stderr
    assert len(live.engine.jobs) == jobs


def test_what_a_server_began_goes_on_here(
    call: Run, tmp_path: Path, folder: Path, live: Live
) -> None:
    call("image", "in", "-o", "out", "--server", live.url)
    draw(folder / "new.png")
    done = call("image", "in", "-o", "out")
    assert "1 done, 6 done before." in done.stderr, done.stderr


def test_all_options_reach_the_server(call: Run, tmp_path: Path, live: Live) -> None:
    draw(tmp_path / "a.png")
    done = call(
        *("image", "a.png", "-o", "b.jpg", "--server", live.url, "-s", "2.5", "--quality", "70"),
        *("--background", "#102030", "--strip-metadata", "--seed", "9"),
    )
    assert done.returncode == 0, done.stderr
    plan = live.engine.jobs[0].plan
    assert (plan.scale_factor, plan.seed) == ("2.5", 9)
    output = plan.output
    assert (output.format, output.quality, output.strip) == ("jpeg", 70, True)
    assert output.background == "#102030"
    assert visible(tmp_path) == ["a.png", "b.jpg"]


def test_several_are_in_flight(
    call: Run, folder: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_work: list[str] = []
    most: list[int] = []
    run = live.engine.run

    async def _counted(job: JobOrder, *more: Any, **names: Any) -> Any:
        at_work.append(job.id)
        most.append(len(at_work))
        # The first ones wait for each other: they come together, or never.
        live.engine.held = len(most) < 3
        try:
            return await run(job, *more, **names)
        finally:
            at_work.remove(job.id)

    monkeypatch.setattr(live.engine, "run", _counted)
    done = call("image", "in", "-o", "out", "--server", live.url, "--in-flight", "3")
    assert done.returncode == 0, done.stderr
    assert max(most) == 3


def test_a_busy_server_is_waited_for(
    call: Run, folder: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    real = asyncio.sleep

    async def _sleep(seconds: float) -> None:
        if seconds >= 1:
            pauses.append(seconds)
            live.engine.failure = None
        await real(min(seconds, 0.01))

    # The client's alone: the server beside it sleeps, too.
    its_own = SimpleNamespace(**{**vars(asyncio), "sleep": _sleep})
    monkeypatch.setattr(client, "asyncio", its_own)
    live.engine.failure = QueueFull("The queue is full.", retry_after=7)
    done = call("image", "in", "-o", "out", "--server", live.url, "--in-flight", "1")
    assert done.returncode == 0, done.stderr
    assert pauses == [7]
    assert "is busy; trying again in 7 s." in done.stderr


def test_a_server_that_stays_busy_ends_the_batch(
    call: Run, folder: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PATIENCE", 0.0)
    live.engine.failure = QueueFull("The queue is full.", retry_after=1)
    done = call("image", "in", "-o", "out", "--server", live.url)
    assert done.returncode == 1
    assert "it is busy" in done.stderr
    assert "6 left" in done.stderr
    assert "The same command goes on from there." in done.stderr


def test_one_bad_picture_does_not_stop_the_others(
    call: Run, tmp_path: Path, folder: Path, live: Live
) -> None:
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nrubbish")
    done = call("image", "in", "-o", "out", "--server", live.url)
    assert done.returncode == 1
    assert "in/broken.png: The image file begins like a PNG but is broken" in done.stderr
    assert "6 done, 1 failed." in done.stderr
    live.engine.failure = InvalidRequest("It ends in the middle.", field="image")
    done = call("image", "in/p0.png", "-o", "other.png", "--server", live.url)
    assert "in/p0.png: It ends in the middle." in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("-m", "nonsense"), "Model 'nonsense' not found."),
        (("-m", "real-esrgan"), "upscale weights pull"),
        (("-s", "99"), "scale_factor"),
        (("--tile", "64"), "--tile is for the server"),
        (("--precision", "fp32"), "--precision is for the server"),
        (("--key", "with blanks"), "--key"),
        (("--key-file", "missing"), "--key-file"),
    ],
)
def test_wrong_usage_is_told_before_any_work(
    call: Run, tmp_path: Path, folder: Path, live: Live, arguments: tuple[str, ...], told: str
) -> None:
    done = call("image", "in", "-o", "out", "--server", live.url, *arguments)
    assert done.returncode == 2, done.stderr
    assert told in done.stderr
    assert "blanks" not in done.stderr.replace("without blanks", "")
    assert not (tmp_path / "out").exists()
    assert live.engine.jobs == []


@pytest.mark.parametrize(
    "url", ["ftp://host", "http://", "http://me:secret@host", "http://[bad", "http://a b"]
)
def test_an_address_that_is_none_is_refused(call: Run, folder: Path, url: str) -> None:
    done = call("image", "in", "-o", "out", "--server", url)
    assert done.returncode == 2, done.stderr
    assert "--server" in done.stderr
    assert "secret" not in done.stderr


def test_no_picture_leaves_a_local_only_house(
    call: Run, folder: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UPSCALE_LOCAL_ONLY", "1")
    done = call("image", "in", "-o", "out", "--server", "http://upscale.example.com")
    assert done.returncode == 2
    assert "UPSCALE_LOCAL_ONLY" in done.stderr
    assert call("image", "in", "-o", "out", "--server", live.url).returncode == 0


def test_a_dry_run_tells_plan_and_cost(
    call: Run, tmp_path: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = Settings(data_dir=tmp_path_factory.mktemp("paid"), price_per_image="0.25")
    with serving(settings) as live:
        done = call("image", "in", "-o", "out", "--server", live.url, "--dry-run", "-s", "2")
        assert live.engine.jobs == []
    assert done.returncode == 0, done.stderr
    assert "12x9 png -> 24x18 png" in done.stdout
    assert "costs 0.250000 USD" in done.stdout
    assert "6 planned." in done.stderr
    assert "All of it costs 1.500000 USD." in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_server_that_is_not_there_is_one_line(call: Run, tmp_path: Path, folder: Path) -> None:
    done = call("image", "in", "-o", "out", "--server", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert "http://127.0.0.1:1 cannot be reached. Is it running?" in done.stderr
    assert not (tmp_path / "out").exists()


SERVER = """
import asyncio, sys
from pathlib import Path
from types import SimpleNamespace
from tests.server import fake
from tests.server.live import serving
from upscale.settings import Settings

run = fake.FakeEngine.run
async def slow(self, job, *more, **names):
    await asyncio.sleep(0.3)
    return await run(self, job, *more, **names)
fake.FakeEngine.run = slow
with serving(Settings(data_dir=Path(sys.argv[1]))) as live:
    print(live.url, flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def _server_process(data: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(data)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_a_batch_goes_on_after_its_server_was_killed(
    call: Run, tmp_path: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path / "out"
    with _server_process(tmp_path_factory.mktemp("data")) as (process, url):

        def _kill() -> None:
            wait_for(lambda: len(list(out.glob("*-4x.png"))) >= 2, 60)
            process.kill()

        thread = threading.Thread(target=_kill)
        thread.start()
        done = call("image", "in", "-o", "out", "--server", url, "--in-flight", "2")
        thread.join()
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
    assert "The same command goes on from there." in done.stderr
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("*-4x.png")}
    assert 2 <= len(before) < 6
    assert not list(out.glob("*.part"))
    with _server_process(tmp_path_factory.mktemp("data")) as (_, url):
        done = call("image", "in", "-o", "out", "--server", url)
    assert done.returncode == 0, done.stderr
    assert f"{6 - len(before)} done, {len(before)} done before." in done.stderr
    after = {path.name: path.stat().st_mtime_ns for path in out.glob("*-4x.png")}
    assert len(after) == 6
    assert after | before == after


def test_an_interrupt_cancels_at_the_server_and_leaves_nothing_half_done(
    tmp_path: Path, folder: Path, live: Live, shared_data_dir: Path
) -> None:
    live.engine.held = True
    process = subprocess.Popen(
        command("image", "in", "-o", "out", "--server", live.url),
        cwd=tmp_path,
        env=environment(shared_data_dir),
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: live.engine.waiting == 4, 60)
    process.send_signal(signal.SIGINT)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "0 done, 6 left." in complaint
    assert "The same command goes on from there." in complaint
    assert "Traceback" not in complaint
    wait_for(lambda: live.engine.waiting == 0)
    assert visible(tmp_path / "out") == []


def test_the_client_of_a_server_never_loads_torch(
    tmp_path: Path, folder: Path, live: Live, shared_data_dir: Path
) -> None:
    code = (
        "import sys; from upscale.cli import main\n"
        "try: main()\n"
        "finally: print({'torch', 'spandrel', 'fastapi'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "image", "in", "-o", "out"],
        cwd=tmp_path,
        env=environment(shared_data_dir) | {"UPSCALE_SERVER": live.url},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "6 done." in done.stderr
    assert done.stdout.splitlines()[-1] == "set()"


class _Answers(ThreadingHTTPServer):
    """A server of given answers: to each POST the next of `edits`, to each GET that of `links`.

    An answer is a status, headers, and a body; a dict is sent as JSON. The last one is repeated.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.edits: list[tuple[int, dict[str, str], Any]] = []
        self.links: list[tuple[int, dict[str, str], Any]] = []
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.cut = 0

    def ready(self, link: str = "") -> None:
        """Edits are answered with a link."""
        self.edits.append((200, {}, {"data": [{"url": link or "/media/x.png"}], "size": "4x4"}))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Answers

    def do_POST(self) -> None:
        left = int(self.headers["content-length"])
        while left:
            left -= len(self.rfile.read(min(left, 65536)))
        if "dryRun" in self.path:
            quote = {"estimated": True, "model": "any", "provider": "p", "total_cost_micros": 1}
            self._answer((200, {}, quote), "DRY")
            return
        edits = self.server.edits
        self._answer(edits.pop(0) if len(edits) > 1 else edits[0], "POST")

    def do_GET(self) -> None:
        links = self.server.links
        self._answer(links.pop(0) if len(links) > 1 else links[0], "GET")

    def _answer(self, answer: tuple[int, dict[str, str], Any], kind: str) -> None:
        status, headers, body = answer
        self.server.seen.append((kind, {k.lower(): v for k, v in self.headers.items()}))
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        told = {"Content-Length": str(len(data)), **headers}
        for name, value in told.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)
        if int(told["Content-Length"]) != len(data):
            self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def _answering() -> Iterator[_Answers]:
    server = _Answers()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def answers() -> Iterator[_Answers]:
    with _answering() as server:
        yield server


def _error(status: int, message: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    body = {"error": {"message": message, "type": "t", "code": "C", "param": None}}
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, body


def _go(call: Run, server: _Answers, *more: object) -> subprocess.CompletedProcess[str]:
    return call("image", "in", "-o", "out", "--server", server.url, "-s", "4", *more)


def test_the_key_goes_to_the_server_and_nowhere_else(
    call: Run, tmp_path: Path, folder: Path, answers: _Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key.txt").write_text("sk-from-file\n")
    with _answering() as elsewhere:
        elsewhere.links = answers.links = [(200, {}, b"picture")]
        answers.ready(f"{elsewhere.url}/media/x.png")
        answers.ready()
        monkeypatch.setenv("UPSCALE_API_KEY", "sk-from-environment")
        done = _go(call, answers, "--key-file", "key.txt")
        assert done.returncode == 0, done.stderr
        assert "authorization" not in elsewhere.seen[0][1]
    keys = {headers.get("authorization") for _, headers in answers.seen}
    assert keys == {"Bearer sk-from-file"}
    answers.seen.clear()
    assert _go(call, answers, "--again").returncode == 0
    assert answers.seen[0][1]["authorization"] == "Bearer sk-from-environment"
    assert "sk-from" not in done.stdout + done.stderr + (tmp_path / "out" / NAME).read_text()


@pytest.mark.parametrize(
    ("status", "told"), [(401, "UPSCALE_API_KEY"), (402, "No credit."), (403, "No credit.")]
)
def test_what_concerns_the_key_stops_the_batch(
    call: Run, tmp_path: Path, folder: Path, answers: _Answers, status: int, told: str
) -> None:
    answers.ready()
    answers.edits.append(_error(status, "No credit."))
    answers.links = [(200, {}, b"picture")]
    done = _go(call, answers, "--in-flight", "1", "--key", "sk-secret")
    assert done.returncode == 1
    assert "Stopped: No credit." in done.stderr
    assert told in done.stderr
    assert "1 done, 5 left." in done.stderr
    assert "sk-secret" not in done.stderr
    assert len([kind for kind, _ in answers.seen if kind == "POST"]) == 2


def test_a_result_that_breaks_off_goes_on_from_there(
    call: Run, tmp_path: Path, answers: _Answers
) -> None:
    draw(tmp_path / "in/a.png")
    whole, tag = os.urandom(1000), {"ETag": '"one"'}
    answers.ready()
    rest = {**tag, "Content-Range": "bytes 400-999/1000"}
    answers.links = [
        (200, {**tag, "Content-Length": "1000"}, whole[:400]),
        (206, rest, whole[400:]),
    ]
    done = _go(call, answers)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/a-4x.png").read_bytes() == whole
    last = answers.seen[-1][1]
    assert (last["range"], last["if-range"]) == ("bytes=400-", '"one"')
    assert len([kind for kind, _ in answers.seen if kind == "POST"]) == 1


def test_another_result_under_the_link_starts_anew(
    call: Run, tmp_path: Path, answers: _Answers
) -> None:
    draw(tmp_path / "in/a.png")
    answers.ready()
    answers.links = [
        (200, {"ETag": '"one"', "Content-Length": "9"}, b"first"),
        (200, {"ETag": '"two"'}, b"other"),
    ]
    assert _go(call, answers).returncode == 0
    assert (tmp_path / "out/a-4x.png").read_bytes() == b"other"


def test_a_server_that_cannot_do_its_work_is_not_waited_for(
    call: Run, tmp_path: Path, answers: _Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not say when to come back, as one does that is busy or shuts down."""
    monkeypatch.setattr(client, "PATIENCE", 0.0)
    draw(tmp_path / "in/a.png")
    answers.edits = [_error(503, "The records are damaged.")]
    done = _go(call, answers)
    assert done.returncode == 1
    assert "Given up after 4 attempts: The records are damaged." in done.stderr
    assert [kind for kind, _ in answers.seen].count("POST") == 4


def test_a_result_that_never_comes_whole_is_no_result(
    call: Run, tmp_path: Path, answers: _Answers
) -> None:
    draw(tmp_path / "in/a.png")
    answers.ready()
    answers.links = [(200, {"Content-Length": "9"}, b"part")]
    done = _go(call, answers)
    assert done.returncode == 1
    assert "Given up after 4 attempts" in done.stderr
    assert visible(tmp_path / "out") == []


def test_an_expired_link_means_another_edit(call: Run, tmp_path: Path, answers: _Answers) -> None:
    draw(tmp_path / "in/a.png")
    answers.ready()
    answers.links = [_error(404, "It has expired."), (200, {}, b"picture")]
    assert _go(call, answers).returncode == 0
    assert [kind for kind, _ in answers.seen] == ["DRY", "POST", "GET", "POST", "GET"]


def test_a_repeat_says_that_it_is_one(call: Run, tmp_path: Path, answers: _Answers) -> None:
    draw(tmp_path / "in/a.png")
    draw(tmp_path / "in/b.png")
    answers.links = [(200, {}, b"picture")]
    answers.edits.append((200, {"Content-Length": "99"}, b"{"))
    answers.ready()
    answers.edits.append(_error(502, "Bad gateway."))
    answers.edits.append(_error(400, "The request that this one repeats was given up."))
    answers.ready()
    done = _go(call, answers, "--in-flight", "1")
    assert done.returncode == 0, done.stderr
    posts = [headers for kind, headers in answers.seen if kind == "POST"]
    first, again, other, repeated, anew = (headers["idempotency-key"] for headers in posts)
    assert first == again
    assert other == repeated
    assert len({first, other, anew}) == 3


@pytest.mark.parametrize(
    ("first", "posts"),
    [
        (_error(503, "Shutting down.", Retry_After="0"), 2),
        (_error(502, "Bad gateway."), 2),
        (_error(507, "No room."), 2),
        (_error(500, "Crashed."), 2),
        (_error(500, "Crashed.", x_should_retry="false"), 1),
        (_error(413, "Too large."), 1),
    ],
)
def test_only_what_may_go_better_is_tried_again(
    call: Run, tmp_path: Path, answers: _Answers, first: tuple[int, Any, Any], posts: int
) -> None:
    draw(tmp_path / "in/a.png")
    answers.edits.append(first)
    answers.ready()
    answers.links = [(200, {}, b"picture")]
    done = _go(call, answers)
    assert [kind for kind, _ in answers.seen].count("POST") == posts
    assert (done.returncode == 0) == (posts == 2)
    if posts == 1:
        assert f"in/a.png: {first[2]['error']['message']}" in done.stderr


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}, b"<html>"),
        (200, {}, {"data": []}),
        (200, {}, {"data": [{"url": "file:///etc/passwd"}]}),
        (404, {}, b"<html>"),
    ],
)
def test_answers_of_something_else_are_told_as_such(
    call: Run, tmp_path: Path, answers: _Answers, answer: tuple[int, Any, Any]
) -> None:
    draw(tmp_path / "in/a.png")
    answers.edits.append(answer)
    done = _go(call, answers)
    assert done.returncode == 1
    assert "in/a.png: The server" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_server_that_does_not_tell_its_factor_is_given_one(
    call: Run, tmp_path: Path, folder: Path, answers: _Answers
) -> None:
    answers.links = [(200, {}, {"id": "any", "scale_factor": {"default": None}})]
    done = call("image", "in", "-o", "out", "--server", answers.url)
    assert done.returncode == 2
    assert "--scale" in done.stderr
