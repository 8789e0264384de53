import hashlib
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms_proto.data.chunks import CHUNK_BYTES, LISTED_FROM, NO_LIST, ChunkList, Content, Hashing, chunks_in, list_bytes
from dms_proto.ids import digest_of

SIZES = st.sampled_from([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, LISTED_FROM, LISTED_FROM + 17])


def hashed(data: bytes, step: int = CHUNK_BYTES) -> Hashing:
    hashing = Hashing()
    for start in range(0, len(data), step):
        hashing.update(data[start : start + step])
    return hashing


@given(SIZES, st.sampled_from([100_003, CHUNK_BYTES, 5 * CHUNK_BYTES]))
def test_a_content_is_the_same_however_its_bytes_come(size, step):
    data = random.Random(size).randbytes(size)
    hashing = hashed(data, step)
    listed = b"".join(hashlib.sha256(data[n : n + CHUNK_BYTES]).digest() for n in range(0, size, CHUNK_BYTES))
    assert hashing.chunk_list() == listed
    assert len(listed) == list_bytes(size) == 32 * chunks_in(size)
    assert hashing.content() == Content(digest_of(data), size, digest_of(listed) if size > LISTED_FROM else NO_LIST)


@given(SIZES.filter(bool))
def test_each_chunk_is_right_in_its_place_alone(size):
    data = random.Random(size).randbytes(size)
    chunks = ChunkList(hashed(data).chunk_list(), size)
    places = [chunks.place(index) for index in range(len(chunks))]
    assert places[0][0] == 0
    assert places[-1][1] == size
    assert all(before[1] == after[0] for before, after in itertools.pairwise(places))
    digests = [hashlib.sha256(data[start:end]).digest() for start, end in places]
    right = [[chunks.is_right(index, digest) for digest in digests] for index in range(len(chunks))]
    assert right == [[index == other for other in range(len(chunks))] for index in range(len(chunks))]


def test_a_list_of_another_length_is_refused():
    with pytest.raises(ValueError, match=r"of 262145 bytes has 2 chunks, its list has 32 bytes"):
        ChunkList(bytes(32), CHUNK_BYTES + 1)
