"""Callers without a key: one where they are all on this machine, strangers elsewhere."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.server.live import check_error, serving
from tests.server.test_background import ended, later, post
from tests.server.test_keys import edit, keyed_server
from upscale.settings import Settings

THEIRS = {"X-Forwarded-For": "203.0.113.7"}
OTHERS = {"X-Forwarded-For": "203.0.113.8"}


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_strangers_see_what_they_have_the_id_of_and_no_list(tmp_path: Path, host: str) -> None:
    settings = Settings(data_dir=tmp_path, host=host, allow_anonymous=True)
    with serving(settings) as box, httpx.Client(base_url=box.url, headers=OTHERS) as other:
        made = later(box, **THEIRS)["id"]
        for query in ("", "?summary=true", f"?starting_after={made}", f"?ending_before={made}"):
            message = check_error(other.get(f"/v1/requests{query}"), 401, "AUTHENTICATION_FAILED")
            assert "by its id" in message
        # Whoever was given the id may have it, and use it.
        ended(box, made)
        assert other.get(f"/v1/requests/{made}").json()["status"] == "completed"
        assert other.delete(f"/v1/requests/{made}/payloads").json()["purged"]


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_strangers_do_not_share_names_of_repeats(tmp_path: Path, host: str) -> None:
    settings = Settings(data_dir=tmp_path, host=host, allow_anonymous=True)
    with serving(settings) as box:
        one = [post(box, Idempotency_Key="a", **THEIRS) for _ in range(2)]
        two = post(box, {"scale_factor": "2"}, Idempotency_Key="a", **OTHERS)
        assert one[0].json() == one[1].json()
        assert two.json()["size"] != one[0].json()["size"]
        assert len(box.engine.jobs) == 2


def test_on_this_machine_callers_without_a_key_are_one(tmp_path: Path) -> None:
    with serving(Settings(data_dir=tmp_path)) as box:
        first, again = (post(box, Idempotency_Key="a") for _ in range(2))
        assert again.json() == first.json()
        assert len(box.client.get("/v1/requests").json()["data"]) == 1


def test_a_key_on_a_public_address_has_its_list(tmp_path: Path) -> None:
    with keyed_server(tmp_path, host="0.0.0.0", allow_anonymous=True) as server:
        _, client = server.make("one")
        assert edit(client).is_success
        assert edit(server.live.client).is_success
        assert len(client.get("/v1/requests").json()["data"]) == 1
        check_error(server.live.client.get("/v1/requests"), 401, "AUTHENTICATION_FAILED")
