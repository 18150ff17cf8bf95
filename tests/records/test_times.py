"""Times as people write them."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from upscale.errors import InvalidParameter
from upscale.server.records.times import iso, now_ms, read_span, read_time


@example(131_305_759)  # as a float of seconds it is a little less
@given(st.integers(0, 253_402_300_799_999))
def test_a_time_is_read_as_it_was_written(ms: int) -> None:
    assert abs(read_time("x", iso(ms)) - ms) == 0


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-11-25", 1_795_564_800_000),
        ("2026-11-25T00:00:00", 1_795_564_800_000),
        ("2026-11-25T01:00:00+01:00", 1_795_564_800_000),
        # A plus that a query has unescaped.
        ("2026-11-25T01:00:00 01:00", 1_795_564_800_000),
        ("2026-11-25 01:00:00.000 0100", 1_795_564_800_000),
        ("2026-11-25 00:00", 1_795_564_800_000),
        ("2026-11-25 00:00:00", 1_795_564_800_000),
        ("1795564800", 1_795_564_800_000),
        ("1795564800.5", 1_795_564_800_500),
    ],
)
def test_forms_of_a_time(text: str, ms: int) -> None:
    assert read_time("x", text) == ms


@pytest.mark.parametrize("text", ["", "yesterday", "-5", "1e400", "999999999999", "2026-13-01"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="created_after"):
        read_time("created_after", text)


def test_spans() -> None:
    assert read_span("30d") == 30 * 86_400_000
    assert read_span("45s") == 45_000
    assert read_span(" 2W ") == 14 * 86_400_000
    assert read_span("2026-11-25") is None
    assert read_span("d") is None
    assert now_ms() > 1_700_000_000_000
