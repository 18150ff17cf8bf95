"""Conditions and ranges, as RFC 9110 has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.server.ranges import Answer, answer, http_date

TAG, MADE, SIZE = '"tag"', 1_700_000_000.5, 100


def ask(**headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return answer(named, SIZE, TAG, MADE)


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=90-", 90, 100),
        ("bytes=90-999999999999999999", 90, 100),
        ("bytes=-10", 90, 100),
        ("bytes=-1000", 0, 100),
        ("Bytes = 5 - 6 ", 5, 7),
    ],
)
def test_one_part_is_sent(wanted: str, start: int, stop: int) -> None:
    assert ask(range=wanted) == Answer(206, start, stop)


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=200-300", "bytes=-0"])
def test_a_part_that_is_not_there(wanted: str) -> None:
    assert ask(range=wanted).status == 416


@pytest.mark.parametrize(
    "wanted", ["", "nonsense", "bytes=", "bytes=-", "bytes=5-4", "bytes=0-1,4-5", "lines=0-1"]
)
def test_what_makes_no_sense_or_asks_for_several_parts_gets_all(wanted: str) -> None:
    assert ask(range=wanted) == Answer(200, 0, SIZE)


@pytest.mark.parametrize("known", [TAG, "*", f'"a", W/{TAG}', f'"a",{TAG},"b"'])
def test_a_known_tag_is_enough(known: str) -> None:
    assert ask(if_none_match=known, range="bytes=0-1").status == 304


def test_dates_count_where_no_tag_was_sent() -> None:
    assert ask(if_modified_since=http_date(MADE)).status == 304
    assert ask(if_modified_since=http_date(MADE - 1)).status == 200
    assert ask(if_modified_since="yesterday").status == 200
    assert ask(if_none_match='"other"', if_modified_since=http_date(MADE)).status == 200


@pytest.mark.parametrize(
    ("condition", "status"),
    [(TAG, 206), (http_date(MADE), 206), ('"other"', 200), (f"W/{TAG}", 200), ("nonsense", 200)],
)
def test_a_part_only_of_what_the_caller_has(condition: str, status: int) -> None:
    assert ask(range="bytes=0-9", if_range=condition).status == status


@pytest.mark.parametrize(
    ("wanted", "status"),
    [(TAG, 206), ("*", 206), (f'"a", {TAG}', 206), ('"a"', 412), (f"W/{TAG}", 412), ("", 412)],
)
def test_only_the_one_that_the_caller_means(wanted: str, status: int) -> None:
    assert ask(range="bytes=0-9", if_match=wanted).status == status
    # Neither a date nor a tag that is known counts where If-Match has spoken against it.
    assert ask(if_match='"a"', if_unmodified_since=http_date(MADE)).status == 412
    assert ask(if_match='"a"', if_none_match=TAG).status == 412


def test_only_what_was_not_changed_since() -> None:
    assert ask(if_unmodified_since=http_date(MADE)).status == 200
    assert ask(if_unmodified_since=http_date(MADE - 1)).status == 412
    assert ask(if_unmodified_since="yesterday").status == 200


@given(st.text(max_size=30), st.text(max_size=30), st.integers(0, 1000))
def test_any_header_gets_an_answer_within_the_thing(wanted: str, known: str, size: int) -> None:
    headers = {"range": wanted, "if-none-match": known, "if-range": known, "if-match": known}
    what = answer(headers, size, TAG, MADE)
    assert what.status in (200, 206, 304, 412, 416)
    assert 0 <= what.start <= what.stop <= size
