"""The customary reduction: against MATLAB's own results, and by its properties."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from upscale.weights.train.bicubic import enlarge, reduce, resize_matrix
from upscale.weights.train.data import read

SET5 = Path(os.environ.get("UPSCALE_TEST_DATA", ""), "images", "set5")


@pytest.mark.skipif(
    not (os.environ.get("UPSCALE_TEST_DATA") and SET5.is_dir()),
    reason="UPSCALE_TEST_DATA names no folder with images/set5",
)
@pytest.mark.parametrize("factor", [2, 3, 4])
def test_reduction_equals_matlab_to_the_last_level(factor: int) -> None:
    for path in sorted((SET5 / f"LRx{factor}").glob("*.png")):
        given = read(path)
        height, width = (side * factor for side in given.shape[:2])
        large = read(SET5 / "HR" / path.name)[:height, :width]
        np.testing.assert_array_equal(reduce(large, factor), given, err_msg=path.name)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_constant_stays_constant(level: int) -> None:
    flat = np.full((24, 36, 3), level, dtype=np.uint8)
    assert (reduce(flat) == level).all()
    assert (enlarge(flat) == level).all()


def test_ramp_stays_a_ramp_inside() -> None:
    ramp = np.broadcast_to(np.arange(0, 256, 2, dtype=np.uint8)[None, :, None], (32, 128, 3))
    small = reduce(np.ascontiguousarray(ramp)).astype(int)
    assert (np.diff(small[:, 3:-3], axis=1) == 8).all()


def test_rows_of_the_matrix_sum_to_one_and_mirror_each_other() -> None:
    for length, wanted in ((64, 16), (16, 64), (192, 48), (10, 7), (3, 12)):
        matrix = resize_matrix(length, wanted)
        np.testing.assert_allclose(matrix.sum(axis=1), 1)
        np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-12)


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 4, got 9 x 8"):
        reduce(np.zeros((8, 9, 3), dtype=np.uint8))
