"""Frames of commands beside a job: whole however they are cut, bounded, and the same words as inside a sandbox."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dms.executors.sandbox import exec_agent
from dms_proto.exec_frames import MAX_BODY, Frames, Kind, frame, size

FRAMES = st.lists(st.tuples(st.sampled_from(Kind), st.binary(max_size=40)), max_size=8)


@given(FRAMES, st.integers(1, 20))
def test_frames_come_whole_however_they_are_cut(wanted: list[tuple[Kind, bytes]], piece: int) -> None:
    data = b"".join(frame(kind, body) for kind, body in wanted)
    frames = Frames()
    found = [each for at in range(0, len(data), piece) for each in frames.take(data[at : at + piece])]
    assert found == wanted


def test_a_frame_that_is_longer_than_any_may_be_is_refused() -> None:
    with pytest.raises(ValueError, match="131072 are the most"):
        list(Frames().take(b"\4" + (MAX_BODY + 1).to_bytes(4, "big")))


def test_both_sides_say_the_same() -> None:
    inside = {name: getattr(exec_agent, name) for name in Kind.__members__}
    assert inside == dict(Kind.__members__)
    assert frame(Kind.OUTPUT, b"x") == exec_agent.FRAME.pack(exec_agent.OUTPUT, 1) + b"x"
    assert size(24, 80) == exec_agent.FRAME.pack(exec_agent.SIZE, 4) + bytes((0, 24, 0, 80))
    assert exec_agent.MOST_FRAME == MAX_BODY
