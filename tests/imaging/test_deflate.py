import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from upscale.imaging import deflate


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_adler_of_joined_texts(first, second):
    joined = deflate.join_adler(zlib.adler32(first), zlib.adler32(second), len(second))
    assert joined == zlib.adler32(first + second)


@pytest.mark.parametrize("compress", [deflate.compress, deflate.compress_by_zlib])
@given(st.lists(st.binary(min_size=1, max_size=2000), min_size=1, max_size=5))
def test_pieces_join_into_one_stream_that_zlib_checks(compress, texts):
    stream, adler = deflate.HEADER, 1
    for index, text in enumerate(texts):
        piece = compress(memoryview(text), index == len(texts) - 1)
        stream += piece.data
        adler = deflate.join_adler(adler, piece.adler, piece.size)
    assert zlib.decompress(stream + adler.to_bytes(4, "big")) == b"".join(texts)
