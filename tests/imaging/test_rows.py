import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from upscale.imaging.rows import portions


@given(st.integers(0, 40), st.integers(1, 9), st.data())
def test_portions_fill_blocks_and_hold_every_row_once(count, size, data):
    room = data.draw(st.integers(1, size))
    rows = np.arange(count, dtype=np.uint8).reshape(count, 1, 1)
    parts = list(portions(rows, room, size))
    assert [int(row) for part in parts for row in part.ravel()] == list(range(count))
    whole = [room, *[size] * len(parts)]
    assert [len(part) for part in parts[:-1]] == whole[: max(0, len(parts) - 1)]
    assert all(0 < len(part) <= limit for part, limit in zip(parts, whole, strict=False))
