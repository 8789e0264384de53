"""The laws of a transfer from several holders, whatever they do and in whatever order."""

from hypothesis import given
from hypothesis import strategies as st

from dms_proto.data.transfer import MOST_TWICE, Transfer

HOLDERS = ("ann", "bob", "cid")
STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "send", "send", "send", "end", "lie"]), st.sampled_from(HOLDERS)), max_size=200
)
CHUNKS = st.sets(st.integers(0, 60))


def step(transfer: Transfer[str], what: str, holder: str, sent: list[int]) -> None:
    owed = transfer.owes(holder)
    if what == "ask":
        transfer.ask(holder)
    elif what == "send" and owed:
        sent.append(owed.start)
        transfer.arrived(owed.start)
    elif what == "end":
        transfer.ended(holder)
    elif what == "lie":
        transfer.was_wrong(holder)


def check(transfer: Transfer[str], missing: set[int]) -> None:
    owed = [transfer.owes(holder) for holder in HOLDERS]
    for index in missing:
        assert sum(index in run for run in owed) <= MOST_TWICE
    assert set().union(*owed) <= missing
    assert transfer.is_whole is (not missing)
    for liar in transfer.wrong:
        assert not transfer.owes(liar)
        assert not transfer.ask(liar)


@given(CHUNKS, STEPS)
def test_what_is_owed_is_missing_and_owed_by_two_at_most(chunks, steps):
    transfer: Transfer[str] = Transfer(chunks, len(HOLDERS))
    sent: list[int] = []
    for what, holder in steps:
        step(transfer, what, holder, sent)
        check(transfer, chunks - set(sent))


@given(CHUNKS, STEPS)
def test_one_honest_holder_is_enough(chunks, steps):
    transfer: Transfer[str] = Transfer(chunks, len(HOLDERS))
    sent: list[int] = []
    for what, holder in steps:
        step(transfer, what if holder != "ann" else "ask", holder, sent)
    for liar in ("bob", "cid"):
        transfer.was_wrong(liar)
    while not transfer.is_whole:
        assert transfer.ask("ann"), "something is missing, and nobody is asked for it"
        while transfer.owes("ann"):
            step(transfer, "send", "ann", sent)
    assert set(sent) == chunks


@given(CHUNKS, st.lists(st.sampled_from(HOLDERS), min_size=1, max_size=300))
def test_honest_holders_send_each_chunk_once_at_whatever_pace(chunks, turns):
    transfer: Transfer[str] = Transfer(chunks, len(HOLDERS))
    sent: list[int] = []
    while not transfer.is_whole:
        for holder in turns:
            if not transfer.owes(holder):
                transfer.ask(holder)
            step(transfer, "send", holder, sent)
    assert sorted(sent) == sorted(chunks)


def test_the_missing_are_dealt_out_in_equal_runs():
    transfer: Transfer[str] = Transfer(range(30), 3)
    assert [transfer.ask(holder) for holder in HOLDERS] == [range(10), range(10, 20), range(20, 30)]


def test_one_holder_is_asked_for_all_at_once():
    assert Transfer(range(1000), 1).ask("ann") == range(1000)


def test_a_run_ends_where_something_is_here_already():
    transfer: Transfer[str] = Transfer({0, 1, 5, 6}, 1)
    assert transfer.ask("ann") == range(2)


def test_who_is_done_takes_over_half_of_what_the_slowest_owes():
    transfer: Transfer[str] = Transfer(range(40), 2)
    slow, fast = transfer.ask("ann"), transfer.ask("bob")
    for index in fast:
        transfer.arrived(index)
    assert transfer.ask("bob") == range(10, 20)
    assert transfer.owes("ann") == slow[:10]


def test_the_last_chunk_of_a_slow_holder_is_asked_of_one_more_and_whoever_is_first_ends_it():
    transfer: Transfer[str] = Transfer({7}, 3)
    assert transfer.ask("ann") == transfer.ask("bob") == range(7, 8)
    assert not transfer.ask("cid")
    transfer.arrived(7)
    assert transfer.is_whole
    assert not transfer.owes("ann")


def test_who_was_cut_off_gives_back_what_it_owed_and_may_be_asked_again():
    transfer: Transfer[str] = Transfer(range(8), 1)
    transfer.ask("ann")
    transfer.arrived(0)
    transfer.ended("ann")
    assert transfer.ask("ann") == range(1, 8)
