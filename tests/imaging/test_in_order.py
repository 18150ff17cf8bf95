import threading
from functools import partial

import pytest

from upscale.imaging.in_order import InOrder


def test_results_are_taken_in_order_whatever_ends_first():
    taken, second_is_done = [], threading.Event()

    def first():
        assert second_is_done.wait(30)
        return 1

    def second():
        second_is_done.set()
        return 2

    work = InOrder(2, "test", taken.append)
    work.put(first)
    work.put(second)
    work.finish()
    assert taken == [1, 2]


def test_no_more_than_one_piece_beyond_the_threads_is_in_flight():
    taken = []
    work = InOrder(2, "test", taken.append)
    for number in range(10):
        work.put(partial(int, number))
        assert number - len(taken) <= 2
    work.finish()
    assert taken == list(range(10))


def test_what_the_work_raises_comes_out_and_abort_waits():
    work = InOrder(1, "test", lambda _: None)
    work.put(partial(int, "no number"))
    with pytest.raises(ValueError, match="no number"):
        work.finish()
    work.abort()
