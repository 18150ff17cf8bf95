import sys

import numpy as np
import pytest

from upscale.imaging.guard import memory_limit

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no limit on memory here")


def test_more_than_the_limit_is_a_memory_error_and_the_limit_ends_with_the_block():
    with memory_limit(300 << 20):
        assert np.empty(200 << 20, np.uint8).size
        with pytest.raises(MemoryError):
            np.empty(400 << 20, np.uint8)
    assert np.empty(400 << 20, np.uint8).size


def test_a_limit_that_is_there_is_not_raised():
    with memory_limit(300 << 20), memory_limit(1 << 40), pytest.raises(MemoryError):
        np.empty(400 << 20, np.uint8)


def test_a_limit_ends_with_an_error_too():
    with pytest.raises(ZeroDivisionError), memory_limit(100 << 20):
        print(1 // 0)
    assert np.empty(200 << 20, np.uint8).size
