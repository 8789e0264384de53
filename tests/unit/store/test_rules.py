import pytest

from dms.store.rules import MAX_BODY_BYTES, MAX_EVENTS_PER_APPEND, MAX_NAME_CHARS, check_events
from dms_actors.ports import NewEvent
from dms_proto.errors import UserError

GOOD = NewEvent("r-1", "bid_made", "", b"")


def test_a_plain_event_without_a_cause_is_fine():
    check_events([GOOD, NewEvent("r" * MAX_NAME_CHARS, "ä", "m", bytes(MAX_BODY_BYTES))])


@pytest.mark.parametrize(
    ("bad", "named"),
    [
        (NewEvent("", "k", "c", b""), "stream of event 1 is ''"),
        (NewEvent("s", "", "c", b""), "kind of event 1"),
        (NewEvent("s" * 257, "k", "c", b""), "stream of event 1"),
        (NewEvent("s", "k", "c\n", b""), "cause_id of event 1"),
        (NewEvent("s\ud800", "k", "c", b""), "stream of event 1"),
        (NewEvent("s\0", "k", "c", b""), "stream of event 1"),
        (NewEvent("s", "k", "c", bytes(MAX_BODY_BYTES + 1)), f"body of event 1 is {MAX_BODY_BYTES + 1} bytes"),
        (NewEvent("s", "k", "c", bytearray(b"x")), "body of event 1 is bytearray"),
    ],
)
def test_a_refusal_names_place_field_and_value(bad, named):
    with pytest.raises(UserError) as refused:
        check_events([GOOD, bad])
    assert refused.value.code == "bad_argument"
    assert named in refused.value.message


def test_an_append_has_a_largest_number_of_events():
    check_events([GOOD] * MAX_EVENTS_PER_APPEND)
    with pytest.raises(UserError, match="events in one append"):
        check_events([GOOD] * (MAX_EVENTS_PER_APPEND + 1))
