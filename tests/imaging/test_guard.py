import mmap
import sys

import pytest

from upscale.imaging.guard import memory_limit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no limit on memory here")


def _map(megabytes: int) -> None:
    """Ask the system itself: the heap of a process that ran networks may have room left."""
    mmap.mmap(-1, megabytes << 20).close()


def test_more_than_the_limit_is_refused_and_the_limit_ends_with_the_block():
    with memory_limit(300 << 20):
        _map(200)
        with pytest.raises(OSError, match="memory"):
            _map(400)
    _map(400)


def test_a_limit_that_is_there_is_not_raised():
    with memory_limit(300 << 20), memory_limit(1 << 40), pytest.raises(OSError, match="memory"):
        _map(400)


def test_a_limit_ends_with_an_error_too():
    with pytest.raises(ZeroDivisionError), memory_limit(100 << 20):
        print(1 // 0)
    _map(200)
