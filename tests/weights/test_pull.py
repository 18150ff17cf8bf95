"""Pulling over real connections: cut, stalled, lied to, redirected, changed under way, twice at
once, onto a full disk. Nothing but the right file ever takes its place.
"""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import shutil
import socket
import threading
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.weights.conftest import Reply, Site, known, puller, safetensors
from upscale.errors import CheckpointError, InvalidRequest, OutputFault, PullFault
from upscale.weights import transfer
from upscale.weights.headers import Limits
from upscale.weights.known import KnownFile
from upscale.weights.store import Store

CONTENT = safetensors()
TAG = {"ETag": '"one"'}


def installed(store: Store) -> list[str]:
    return [network.name for network in store.networks() if not network.bundled]


def leftovers(store: Store) -> list[str]:
    folder = store.folder / ".pulling"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_file_is_pulled_checked_and_recorded(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT)]
    wanted = known(site, CONTENT)
    pulled = puller(store).pull(wanted, consent=False)
    assert pulled.path.read_bytes() == CONTENT
    assert pulled.proof == "recorded"
    assert installed(store) == ["net-a"]
    record = json.loads((store.folder / "net-a.json").read_text())
    assert record["url"] == wanted.url
    assert (record["licence"], record["author"], record["known"]) == ("MIT", "somebody", "net-a")
    assert leftovers(store) == ["net-a.lock"]
    assert site.seen[0].headers["accept-encoding"] == "identity"


def test_what_is_there_is_not_pulled_again(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT)]
    wanted = known(site, CONTENT, checked=True)
    assert puller(store).pull(wanted, consent=False).proof == "checked"
    assert puller(store).pull(wanted, consent=False).proof == "there already"
    assert len(site.seen) == 1


def test_a_licence_that_forbids_use_or_is_not_stated_asks_for_consent(
    site: Site, store: Store
) -> None:
    site.replies = [Reply(CONTENT)]
    for facts, told in (
        ({"licence": "CC-BY-NC-4.0", "commercial": False}, "CC-BY-NC-4.0"),
        ({"licence": None, "commercial": None}, "no licence"),
        ({"licence": "Odd-1.0", "commercial": None}, "Odd-1.0"),
    ):
        wanted = known(site, CONTENT, **facts)
        with pytest.raises(InvalidRequest, match=told) as caught:
            puller(store).pull(wanted, consent=False)
        assert "--accept-license" in caught.value.message
    assert site.seen == []
    assert puller(store).pull(wanted, consent=True).path.exists()


def test_a_cut_connection_is_taken_up_where_it_broke(site: Site, store: Store) -> None:
    site.replies = [
        Reply(CONTENT, cut=150_000, headers=TAG),
        Reply(CONTENT, cut=100_000, headers=TAG),
        Reply(CONTENT, headers=TAG),
    ]
    pulled = puller(store).pull(known(site, CONTENT), consent=False)
    assert pulled.path.read_bytes() == CONTENT
    assert [s.headers.get("range") for s in site.seen] == [None, "bytes=150000-", "bytes=250000-"]
    assert site.seen[1].headers["if-range"] == '"one"'


def test_a_later_process_goes_on_from_what_an_earlier_one_kept(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT, cut=150_000, headers=TAG), Reply(status=503)]
    with pytest.raises(PullFault, match="150,000 bytes are kept"):
        puller(store).pull(known(site, CONTENT), consent=False)
    assert installed(store) == []
    site.replies = [Reply(CONTENT, headers=TAG)]
    puller(Store(store.folder)).pull(known(site, CONTENT), consent=False)
    assert site.seen[-1].headers["range"] == "bytes=150000-"
    assert installed(store) == ["net-a"]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.lists(st.integers(0, len(CONTENT)), min_size=1, max_size=3),
    tagged=st.booleans(),
    ranges=st.booleans(),
    chunked=st.booleans(),
)
def test_wherever_and_however_it_is_cut_the_file_is_whole_in_the_end(
    site: Site,
    tmp_path_factory: pytest.TempPathFactory,
    cuts: list[int],
    tagged: bool,
    ranges: bool,
    chunked: bool,
) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    more = {"headers": TAG if tagged else {}, "ranges": ranges, "chunked": chunked}
    site.replies = [Reply(CONTENT, cut=cut, **more) for cut in cuts]  # type: ignore[arg-type]
    site.replies.append(Reply(CONTENT, **more))  # type: ignore[arg-type]
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_for_the_whole_again(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT, cut=150_000, ranges=False), Reply(CONTENT, ranges=False)]
    pulled = puller(store).pull(known(site, CONTENT), consent=False)
    assert pulled.path.read_bytes() == CONTENT
    assert site.seen[1].headers["range"] == "bytes=150000-"


def test_a_range_that_begins_elsewhere_is_not_joined(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT, cut=150_000), Reply(CONTENT, skip=7), Reply(CONTENT)]
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT
    assert "range" not in site.seen[2].headers


def test_a_file_that_changes_between_attempts_is_pulled_anew(site: Site, store: Store) -> None:
    other = safetensors(seed=1)
    site.replies = [
        Reply(CONTENT, cut=150_000, headers=TAG),
        Reply(other, headers={"ETag": '"two"'}),
    ]
    pulled = puller(store).pull(known(site, other), consent=False)
    assert pulled.path.read_bytes() == other
    assert len(site.seen) == 2


def test_pieces_of_two_files_without_tags_are_found_out_by_the_hash(
    site: Site, store: Store
) -> None:
    other = safetensors(seed=1)
    site.replies = [Reply(other, cut=150_000), Reply(CONTENT), Reply(CONTENT)]
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT
    assert [s.headers.get("range") for s in site.seen] == [None, "bytes=150000-", None]


def test_without_a_hash_and_without_tags_pieces_are_never_joined(site: Site, store: Store) -> None:
    other = safetensors(seed=1)
    site.replies = [Reply(other, cut=150_000), Reply(CONTENT)]
    assert puller(store).pull(known(site, None), consent=False).path.read_bytes() == CONTENT
    assert "range" not in site.seen[1].headers


@pytest.mark.parametrize(
    "reply", [Reply(CONTENT, cut=9, stall=True), Reply(CONTENT[:9], drip=True)]
)
def test_a_connection_that_stalls_or_drips_is_given_up_and_tried_again(
    site: Site, store: Store, reply: Reply
) -> None:
    reply.claim = len(CONTENT)
    site.replies = [reply, Reply(CONTENT)]
    pulled = puller(store, stall_seconds=0.3).pull(known(site, CONTENT), consent=False)
    assert pulled.path.read_bytes() == CONTENT
    assert len(site.seen) >= 2


def test_a_stall_without_end_is_an_error(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT, cut=0, stall=True, claim=len(CONTENT))]
    with pytest.raises(PullFault, match="nothing arrives"):
        puller(store, stall_seconds=0.1).pull(known(site, CONTENT), consent=False)
    assert len(site.seen) == 5


def test_another_content_shows_both_hashes_and_keeps_nothing(site: Site, store: Store) -> None:
    other = safetensors(seed=1)
    site.replies = [Reply(other)]
    with pytest.raises(CheckpointError) as caught:
        puller(store).pull(known(site, CONTENT), consent=False)
    for content in (CONTENT, other):
        assert hashlib.sha256(content).hexdigest() in caught.value.message
    assert installed(store) == []
    assert leftovers(store) == ["net-a.lock"]


def test_a_hash_of_which_the_beginning_is_known_is_held_to_it(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT)]
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    with pytest.raises(CheckpointError, match=r"0123\.\.\. was expected"):
        puller(store).pull(known(site, None, sha256_prefix="0123"), consent=False)
    pulled = puller(store).pull(known(site, None, sha256_prefix=sha256[:8]), consent=False)
    assert pulled.proof == "first seen"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(CONTENT + b"more"), "has 400,09. bytes there"),
        (Reply(CONTENT[:-5]), "bytes there"),
        (Reply(CONTENT + b"more", chunked=True), "sends more than"),
        (Reply(CONTENT, claim=10**15), "bytes there"),
        (Reply(b"<html>", headers={"Content-Type": "text/html; charset=x"}), "web page"),
        (Reply(CONTENT, headers={"Content-Encoding": "gzip"}), "encoding"),
        (Reply(status=404), "answers 404"),
        (Reply(status=403), "answers 403"),
    ],
)
def test_what_can_not_be_the_file_is_refused_at_once(
    site: Site, store: Store, reply: Reply, told: str
) -> None:
    site.replies = [reply]
    with pytest.raises(PullFault, match=told):
        puller(store).pull(known(site, CONTENT), consent=False)
    assert len(site.seen) == 1
    assert installed(store) == []


def test_a_short_reply_that_claims_to_be_whole_is_tried_again(site: Site, store: Store) -> None:
    site.replies = [Reply(CONTENT[:1000], chunked=True), Reply(CONTENT)]
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT


def test_a_file_of_unknown_size_is_held_to_the_largest_allowed(site: Site, store: Store) -> None:
    small = Limits(bytes=1000, parameters=10**9)
    for reply in (Reply(CONTENT), Reply(CONTENT, chunked=True)):
        site.replies = [reply]
        with pytest.raises(PullFault):
            puller(store, limits=small).pull(known(site, None), consent=False)


def test_a_file_known_to_be_too_large_is_not_sent_for(site: Site, store: Store) -> None:
    small = Limits(bytes=1000, parameters=10**9)
    with pytest.raises(CheckpointError, match="UPSCALE_MAX_CHECKPOINT_BYTES"):
        puller(store, limits=small).pull(known(site, CONTENT), consent=False)
    assert site.seen == []


def test_a_busy_server_is_asked_again_when_it_says(site: Site, store: Store) -> None:
    pauses: list[float] = []
    site.replies = [
        Reply(status=429, headers={"Retry-After": "7"}),
        Reply(status=503),
        Reply(status=503, headers={"Retry-After": "999999"}),
        Reply(CONTENT),
    ]
    puller(store, pause=pauses.append).pull(known(site, CONTENT), consent=False)
    assert pauses[0] == 7
    assert pauses[1] < 7
    assert pauses[2] == 30


def test_redirects_are_followed_with_the_range(site: Site, store: Store) -> None:
    site.paths["/net-a.safetensors"] = Reply(status=302, headers={"Location": "/elsewhere"})
    site.replies = [Reply(CONTENT, cut=1000, headers=TAG), Reply(CONTENT, headers=TAG)]
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT
    assert site.seen[-1].path == "/elsewhere"
    assert site.seen[-1].headers["range"] == "bytes=1000-"


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("/net-a.safetensors", "redirects more than"),
        ("file:///etc/passwd", "not an http"),
        ("ftp://127.0.0.1/x", "not an http"),
    ],
)
def test_redirects_in_circles_or_elsewhere_than_the_web_are_refused(
    site: Site, store: Store, location: str, told: str
) -> None:
    site.replies = [Reply(status=302, headers={"Location": location})]
    with pytest.raises(PullFault, match=told):
        puller(store).pull(known(site, CONTENT), consent=False)


def test_a_mirror_is_asked_instead_of_the_address(site: Site, store: Store) -> None:
    site.paths["/base/net-a.safetensors"] = Reply(CONTENT)
    wanted = known(site, CONTENT, url="https://nowhere.invalid/x", file="Odd Name.safetensors")
    pulled = puller(store, mirror=f"{site.url}/base/").pull(wanted, consent=False)
    assert pulled.path.read_bytes() == CONTENT
    by_hand = known(site, CONTENT, id="net-b", url=None, page="https://nowhere.invalid/page")
    with pytest.raises(InvalidRequest, match=r"https://nowhere.invalid/page .*weights import"):
        puller(store).pull(by_hand, consent=False)


def test_local_only_allows_hosts_of_the_house_alone(site: Site, store: Store) -> None:
    site.replies = [Reply(status=302, headers={"Location": "http://nowhere.invalid/x"})]
    with pytest.raises(PullFault, match="UPSCALE_LOCAL_ONLY"):
        puller(store, local_only=True).pull(known(site, CONTENT), consent=False)
    assert site.seen == []
    house = {"local_only": True, "local_hosts": frozenset({"127.0.0.1"})}
    with pytest.raises(PullFault, match=r"nowhere\.invalid"):
        puller(store, **house).pull(known(site, CONTENT), consent=False)
    site.replies = [Reply(CONTENT)]
    assert puller(store, **house).pull(known(site, CONTENT), consent=False).path.exists()


def test_an_unreachable_host_is_told_soon(site: Site, store: Store) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        wanted = known(site, CONTENT, url=f"http://127.0.0.1:{port}/x")
        with pytest.raises(PullFault, match="offline"):
            puller(store).pull(wanted, consent=False)


def test_a_hash_that_nobody_published_is_noted_and_held_to(site: Site, store: Store) -> None:
    wanted = known(site, None)
    site.replies = [Reply(CONTENT)]
    assert puller(store).pull(wanted, consent=False).proof == "first seen"
    assert puller(store).pull(wanted, consent=False).proof == "there already"
    store.remove("net-a")
    assert puller(store).pull(wanted, consent=False).proof == "seen before"
    store.remove("net-a")
    site.replies = [Reply(safetensors(seed=1))]
    with pytest.raises(CheckpointError, match="--new-hash"):
        puller(store).pull(wanted, consent=False)
    assert puller(store).pull(wanted, consent=False, new_hash=True).proof == "first seen"


def test_a_right_hash_makes_no_good_file_of_a_bad_one(site: Site, store: Store) -> None:
    for content, told in ((b"GGUF" + bytes(99), "GGUF"), (b"words words", "cannot be read")):
        site.replies = [Reply(content)]
        with pytest.raises(CheckpointError, match=told):
            puller(store).pull(known(site, content), consent=False)
        assert installed(store) == []
        assert leftovers(store) == ["net-a.lock"]


def test_another_network_of_its_name_is_left_alone(
    site: Site, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "net-a.safetensors").write_bytes(b"mine")
    store.register(tmp_path / "net-a.safetensors", name=None, serves=None, replace=False)
    with pytest.raises(CheckpointError, match="upscale weights remove net-a"):
        puller(store).pull(known(site, CONTENT), consent=False)
    assert site.seen == []


def test_a_part_is_kept_apart_from_the_networks(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b'{"dim": 64}'
    part = known(
        site, None, id="p", file="config.json", kind="part", family="aura-sr", role="config"
    )
    site.replies = [Reply(content)]
    pulled = puller(store).pull(part, consent=False)
    assert pulled.path == store.folder / "parts" / "p.json"
    assert pulled.path.read_bytes() == content
    assert installed(store) == []
    assert store.part(part) is not None
    assert puller(store).pull(part, consent=False).proof == "there already"
    store.remove("p")
    assert store.part(part) is None


Usage = namedtuple("Usage", "total used free")


def test_a_disk_without_room_is_told_before_anything_is_sent(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.replies = [Reply(CONTENT)]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 1000))
    with pytest.raises(OutputFault, match="are free"):
        puller(store).pull(known(site, CONTENT), consent=False)
    monkeypatch.undo()
    assert not (store.folder / ".pulling" / "net-a.part").exists()


def test_a_disk_that_fills_up_keeps_what_arrived(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, file: object) -> None:
            self.file, self.room = file, 100_000

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *rest: object) -> None:
            self.file.close()  # type: ignore[attr-defined]

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            self.room -= len(data)
            if self.room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self.file.write(data))  # type: ignore[attr-defined]

    real = Path.open

    def full(path: Path, mode: str = "r", *rest: object, **more: object) -> object:
        file = real(path, mode, *rest, **more)  # type: ignore[call-overload]
        return Full(file) if path.name == "net-a.part" and mode != "rb" else file

    site.replies = [Reply(CONTENT, headers=TAG)]
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OutputFault, match="disk is full"):
        puller(store).pull(known(site, CONTENT), consent=False)
    monkeypatch.undo()
    kept = (store.folder / ".pulling" / "net-a.part").stat().st_size
    assert 0 < kept <= 100_000
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT
    assert site.seen[-1].headers["range"] == f"bytes={kept}-"


def _pull_elsewhere(folder: Path, wanted: KnownFile, told: multiprocessing.Queue[str]) -> None:
    told.put(puller(Store(folder)).pull(wanted, consent=False).proof)


def test_two_processes_that_pull_the_same_file_send_for_it_once(site: Site, store: Store) -> None:
    """The server holds the first back until the second waits at the door."""
    site.replies = [Reply(CONTENT)]
    first_asked, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        first_asked.set()
        go_on.wait(20)

    site.on_request = hold
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[str] = context.Queue()
    wanted = known(site, CONTENT)
    processes = [
        context.Process(target=_pull_elsewhere, args=(store.folder, wanted, told)) for _ in range(2)
    ]
    for process in processes:
        process.start()
    assert first_asked.wait(30)
    go_on.set()
    proofs = sorted(told.get(timeout=30) for _ in processes)
    for process in processes:
        process.join(20)
    assert proofs == ["recorded", "there already"]
    assert len(site.seen) == 1
    assert installed(store) == ["net-a"]


def test_an_interrupted_pull_leaves_a_beginning_to_go_on_from(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.replies = [Reply(CONTENT, headers=TAG)]
    asked = puller(store)
    count = 0

    def interrupt(done: int, total: int | None) -> None:
        nonlocal count
        count += 1
        if done > 100_000:
            raise KeyboardInterrupt

    monkeypatch.setattr(asked._watcher, "progress", interrupt)
    with pytest.raises(KeyboardInterrupt):
        asked.pull(known(site, CONTENT), consent=False)
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT
    assert site.seen[-1].headers["range"].startswith("bytes=1")


def test_a_server_that_cuts_for_ever_is_given_up(
    site: Site, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.replies = [Reply(CONTENT, cut=10, headers=TAG)]
    with pytest.raises(PullFault, match="broke off"):
        puller(store).pull(known(site, CONTENT), consent=False)
    assert len(site.seen) == 5
    # With progress between the cuts it goes on for as long as it takes.
    monkeypatch.setattr(transfer, "_PROGRESS", 1000)
    site.seen.clear()
    site.replies = [Reply(CONTENT, cut=50_000, headers=TAG)]
    assert puller(store).pull(known(site, CONTENT), consent=False).path.read_bytes() == CONTENT
    assert len(site.seen) > 5
