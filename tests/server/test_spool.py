"""The spool: private, emptied after each request, and after processes that died."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path

import pytest

from tests.server.fake import FakeEngine
from tests.server.live import check_error, png, serving
from upscale.errors import OutputFault, SpoolFull, TooLarge
from upscale.server.app import create_app
from upscale.server.spool import Spool, private_file, private_folder, storing
from upscale.settings import Settings


def test_a_request_folder_is_private_and_ends_with_the_request(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.open()
    with spool.request_folder() as folder:
        with private_file(folder.path / "a") as file:
            file.write(b"x")
        assert (folder.path / "a").stat().st_mode & 0o777 == 0o600
        assert folder.path.stat().st_mode & 0o777 == 0o700
    assert not folder.path.exists()
    spool.close()
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_the_dead_left_is_removed_and_what_the_living_use_is_not(tmp_path: Path) -> None:
    dead = tmp_path / "spool" / "dead"
    dead.mkdir(parents=True)
    (dead / "lock").touch()
    (dead / "image").write_bytes(b"x")
    living = Spool(tmp_path / "spool")
    living.open()
    assert not dead.exists()
    with living.request_folder() as folder:
        Spool(tmp_path / "spool").open()
        assert folder.path.exists()
    living.close()


def test_requests_together_stay_within_the_limit_and_give_back_what_they_took(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1000)
    spool.open()
    with spool.request_folder() as one:
        with pytest.raises(TooLarge, match="UPSCALE_MAX_SPOOL_BYTES"):
            one.take(1001)
        one.take(600)
        with spool.request_folder() as other:
            with pytest.raises(SpoolFull) as full:
                other.take(500)
            assert full.value.retry_after <= 60
            with other.ahead(400), pytest.raises(SpoolFull):
                one.take(1)
            one.take(400)
        one.give_back(900)
        assert spool.held == 100
    assert spool.held == 0
    spool.close()


def test_a_file_that_is_still_read_counts_until_it_is_let_go_of(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", max_bytes=1000)
    spool.open()
    with spool.request_folder() as folder:
        file = private_file(folder.path / "a")
        folder.lend(file, 300)
    assert spool.held == 300
    file.close()
    del file
    assert spool.held == 0
    spool.close()


def test_the_last_of_the_disk_stays_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    spool = Spool(tmp_path / "spool", min_free_bytes=300)
    spool.open()
    with spool.request_folder() as folder:
        folder.take(700)
        with pytest.raises(OutputFault, match="nearly full"):
            folder.take(701)
        with folder.ahead(500), pytest.raises(OutputFault):
            folder.take(201)
    spool.close()


def test_a_full_disk_is_our_fault_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(OutputFault, match="No space left"), storing("the upload"):
        raise OSError(28, "No space left on device")
    (tmp_path / "file").touch()
    with pytest.raises(OutputFault):
        private_folder(tmp_path / "file")


def test_a_folder_that_a_cancelled_job_kept_is_removed_a_little_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(data_dir=tmp_path)
    app = create_app(settings, FakeEngine(settings))
    really, left = shutil.rmtree, threading.Event()

    def late_file(folder: Path, ignore_errors: bool = False) -> None:
        """As if the job made its file after the others were removed."""
        really(folder, ignore_errors=ignore_errors)
        if not left.is_set():
            left.set()
            folder.mkdir()
            (folder / "scratch").touch()

    async def one_request() -> None:
        async with app.router.lifespan_context(app):
            monkeypatch.setattr(shutil, "rmtree", late_file)
            with app.state.services.spool.request_folder() as folder:
                pass
            assert left.is_set()
            async with asyncio.timeout(5):
                while folder.path.exists():
                    await asyncio.sleep(0.01)

    monkeypatch.setattr("upscale.server.spool._SWEEP_SECONDS", 0.01, raising=False)
    asyncio.run(one_request())


def test_what_does_not_fit_is_refused_before_work_and_a_dry_run_says_so(
    tmp_path: Path, weights_dir: Path
) -> None:
    settings = Settings(data_dir=tmp_path, weights_dir=weights_dir, max_spool_bytes=2_000_000)
    with serving(settings) as live:
        file = {"image": ("a.png", png() + bytes(3_000_000))}
        assert "UPSCALE_MAX_SPOOL_BYTES" in check_error(live.edit(files=file), 413)
        wide = {"image": ("a.png", png((200, 200)))}
        run = live.edit(files=wide)
        check_error(run, 413)
        assert live.edit(files=wide, params={"dryRun": "1"}).json() == run.json()
        assert not live.engine.jobs
        for _ in range(3):
            assert live.edit({"response_format": "b64_json"}).status_code == 200
        deadline = time.monotonic() + 10
        while live.spool.held and time.monotonic() < deadline:
            time.sleep(0.01)
        assert live.spool.held == 0


def test_a_disk_that_is_nearly_full_is_a_500_that_names_no_folder(
    tmp_path: Path, weights_dir: Path
) -> None:
    settings = Settings(data_dir=tmp_path, weights_dir=weights_dir, min_free_bytes=1 << 60)
    with serving(settings) as live:
        reply = live.edit()
        assert "the disk is nearly full" in check_error(reply, 500, "INTERNAL_ERROR")
        assert reply.headers["x-should-retry"] == "false"
        assert str(tmp_path) not in reply.text


def test_pictures_that_wait_are_in_the_way_of_no_job_where_nothing_else_is_at_work(
    tmp_path: Path,
) -> None:
    spool = Spool(tmp_path, max_bytes=100)
    spool.open()
    spool.count(90, parked=90)
    with pytest.raises(SpoolFull):
        spool.check(50)
    spool.check(50, parked=True)
    with pytest.raises(TooLarge):
        spool.check(101, parked=True)
    spool.count(50, ahead=50)
    with pytest.raises(SpoolFull):  # one at a time beyond the bound
        spool.check(50, parked=True)
    spool.count(-50, ahead=-50)
    spool.count(-90, parked=-90)
    assert spool.held == 0
    spool.close()
