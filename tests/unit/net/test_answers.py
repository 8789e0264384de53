"""What is read from streams of blobs and tunnels is what it should be, or a clear error: however deep it is nested."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from dms.net.blob_items import MAX_HEAD, Offer, Request, TransferError, check_offer, read_request
from dms.net.tunnels import MAX_ANSWER, Answer, RefusedError, read_answer


def nested(longest: int) -> bytes:
    """A field that nobody knows, as deep as there is room."""
    return b"\x81\xa1x" + b"\x91" * (longest - 4) + b"\xc0"


def test_what_was_written_is_read() -> None:
    assert read_request(msgspec.msgpack.encode(Request("sha256:x", 1, 2))) == Request("sha256:x", 1, 2)
    assert read_answer(msgspec.msgpack.encode(Answer("busy", "later"))) == Answer("busy", "later")
    check_offer(msgspec.msgpack.encode(Offer(3)), "sha256:x", 3)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([1]), nested(MAX_HEAD)])
@pytest.mark.parametrize("read", [read_request, lambda data: check_offer(data, "sha256:x", 3)])
def test_garbage_is_no_request_and_no_offer(read: Callable[[bytes], object], data: bytes) -> None:
    with pytest.raises(TransferError, match=r"^not an? (request|offer): ") as caught:
        read(data)
    assert (caught.value.code, caught.value.retryable) == ("bad_frame", False)


@pytest.mark.parametrize("data", [b"", b"\xc1", msgspec.msgpack.encode([1]), nested(MAX_ANSWER)])
def test_garbage_is_no_answer_to_an_opening(data: bytes) -> None:
    with pytest.raises(RefusedError, match=r"^not an answer to an opening: "):
        read_answer(data)
