"""Request ids are KSUIDs: fixed length, sorted by time, never the same."""

from __future__ import annotations

import pytest

from upscale.server import ids


def test_ids_have_27_digits_of_base_62_and_differ() -> None:
    made = {ids.request_id() for _ in range(1000)} | {ids.random_token() for _ in range(1000)}
    assert len(made) == 2000
    for each in made:
        digits = each.removeprefix("req_")
        assert len(digits) == 27
        assert digits.isascii()
        assert digits.isalnum()


def test_later_ids_sort_after_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    # The first is the clock of a machine that has not been told the time yet.
    for seconds in (0, 1_500_000_000, 1_800_000_000, 1_800_000_001, 5_000_000_000, 1e10):
        monkeypatch.setattr("time.time", lambda now=seconds: now)
        made.append(ids.request_id())
    assert made == sorted(made)
