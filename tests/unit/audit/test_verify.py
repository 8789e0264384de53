"""A file of an audit: whatever is changed in it, by whomever, is named."""

from collections.abc import Callable, Sequence
from io import BytesIO
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dms.audit.faults import FaultCode
from dms.audit.lines import Entry, Header
from dms.audit.logs import compare
from dms.audit.verify import verify
from dms.testing.audit_story import AGREED, ALLOCATION, BID, JOB, LOG, Story, sealed_again
from dms.testing.samples import NOW, PROVIDER, REQUESTER, STRANGER
from dms_proto.ids import Digest, digest_of, request_id
from dms_proto.machine import Event
from dms_proto.market.auction_events import AllocationFinished
from dms_proto.market.proofs import FrameKept
from dms_proto.messages import AllocationStatus, Commit
from dms_proto.work import EndReason, Logs

FILE = Story().file()
LINES = FILE.splitlines()
PLACES = range(len(LINES))
EVENTS = range(1, len(LINES) - 1)


def codes(data: bytes) -> set[FaultCode]:
    """What is wrong with a file."""
    found = verify(data)
    assert found.sound == (not found.faults)
    return {fault.code for fault in found.faults}


def joined(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def test_a_file_that_nobody_touched_is_sound_and_says_what_was_agreed_run_and_owed() -> None:
    found = verify(FILE)

    assert found.faults == ()
    assert (found.sound, found.job, found.exporter, found.frames) == (True, JOB, REQUESTER.peer_id, 5)
    (agreed,) = found.agreements
    assert (agreed.requester, agreed.provider) == (REQUESTER.peer_id, PROVIDER.peer_id)
    assert (agreed.terms, agreed.is_acknowledged, agreed.price) == (AGREED, True, 10)
    (run,) = agreed.runs
    assert (run.allocation_id, run.slot, run.reason) == (ALLOCATION, 0, EndReason.COMPLETED)
    assert (run.claimed, run.confirmed, run.disputed) == (10, 10, ())
    assert run.logs == Logs((len(LOG), 0), (digest_of(LOG), Digest("")))


# ------------------------------------------------------------------------------------------------------ what anybody can do


@settings(max_examples=500)
@given(place=st.integers(0, len(FILE) - 1), flip=st.integers(1, 255))
def test_a_flip_of_any_byte_is_named_with_its_line(place: int, flip: int) -> None:
    """Of the header, which its own line does not bind, the seal says that it was changed."""
    line = FILE.count(b"\n", 0, place) + 1
    found = verify(FILE[:place] + bytes([FILE[place] ^ flip]) + FILE[place + 1 :])

    assert {line, len(LINES) if line == 1 else line} & {fault.line for fault in found.faults}


def test_a_flip_of_one_bit_in_each_byte_of_each_line_s_beginning_is_named() -> None:
    """Where the structure is; the bodies behind it are left to chance, above."""
    starts = [0, *(place + 1 for place, byte in enumerate(FILE[:-1]) if byte == 0x0A)]
    for place in (start + step for start in starts for step in range(-1, 24) if 0 <= start + step < len(FILE)):
        assert codes(FILE[:place] + bytes([FILE[place] ^ 1]) + FILE[place + 1 :]), place


@pytest.mark.parametrize("flip", [1 << bit for bit in range(8)])
def test_a_flip_of_any_bit_of_the_seal_is_named(flip: int) -> None:
    """Nothing is signed behind it, and base64 has more than one spelling: it is the one spelling that is read."""
    for place in range(len(FILE) - len(LINES[-1]) - 1, len(FILE)):
        assert codes(FILE[:place] + bytes([FILE[place] ^ flip]) + FILE[place + 1 :]), place


@pytest.mark.parametrize("gone", PLACES)
def test_a_line_that_is_gone_is_named(gone: int) -> None:
    found = codes(joined([*LINES[:gone], *LINES[gone + 1 :]]))

    assert (FaultCode.UNSEALED if gone == PLACES[-1] else FaultCode.MISSING) in found


@pytest.mark.parametrize("twice", PLACES)
def test_a_line_that_is_there_twice_is_named(twice: int) -> None:
    assert FaultCode.REPEATED in codes(joined([*LINES[: twice + 1], *LINES[twice:]]))


@pytest.mark.parametrize(("one", "other"), [(a, b) for a in PLACES for b in PLACES if a < b])
def test_two_lines_that_changed_places_are_named(one: int, other: int) -> None:
    lines = list(LINES)
    lines[one], lines[other] = lines[other], lines[one]

    assert FaultCode.REORDERED in codes(joined(lines))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_file_with_faults(data: bytes) -> None:
    assert codes(data)


@given(st.lists(st.sampled_from(LINES), max_size=12))
def test_any_lines_of_a_file_in_any_order_are_a_file_with_faults_unless_they_are_all_of_it(lines: list[bytes]) -> None:
    assert bool(codes(joined(lines))) == (lines != LINES)


def test_a_last_line_that_does_not_end_is_named() -> None:
    assert FaultCode.MALFORMED in codes(FILE[:-1])


# ------------------------------------------------------------------------------------------------ what the exporter can do


def resealed(change: Callable[[list[Entry]], list[Entry]]) -> bytes:
    """The file with its events changed by who can seal it again."""
    entries = [msgspec.json.decode(line, type=Entry) for line in LINES[1:-1]]
    return sealed_again([LINES[0], *map(msgspec.json.encode, change(entries))])


def test_a_file_that_is_sealed_again_as_it_was_is_sound() -> None:
    assert resealed(list) == FILE


@pytest.mark.parametrize("gone", range(len(EVENTS)))
def test_an_event_left_out_before_sealing_is_missing(gone: int) -> None:
    assert FaultCode.MISSING in codes(resealed(lambda entries: [*entries[:gone], *entries[gone + 1 :]]))


@pytest.mark.parametrize("twice", range(len(EVENTS)))
def test_an_event_doubled_before_sealing_is_named(twice: int) -> None:
    assert FaultCode.REPEATED in codes(resealed(lambda entries: [*entries[: twice + 1], *entries[twice:]]))


@pytest.mark.parametrize("first", range(len(EVENTS) - 1))
def test_events_moved_before_sealing_are_named(first: int) -> None:
    def swap(entries: list[Entry]) -> list[Entry]:
        entries[first], entries[first + 1] = entries[first + 1], entries[first]
        return entries

    assert FaultCode.REORDERED in codes(resealed(swap))


def test_an_event_changed_before_sealing_is_not_what_was_written() -> None:
    def later(entries: list[Entry]) -> list[Entry]:
        first = entries[0]
        return [msgspec.structs.replace(first, row=first.row._replace(at=first.row.at + 1)), *entries[1:]]

    assert FaultCode.CHANGED in codes(resealed(later))


def test_an_event_that_does_not_follow_the_one_before_it_is_named() -> None:
    """Each event by itself is sound, and they are of two histories."""
    other = msgspec.json.decode(Story().change("bid", price=9).file().splitlines()[4], type=Entry)

    assert FaultCode.CHANGED in codes(resealed(lambda entries: [*entries[:3], other, *entries[4:]]))


def test_a_stranger_who_seals_the_file_is_named() -> None:
    assert FaultCode.WRONG_SIGNER in codes(sealed_again(LINES[:-1], STRANGER))


def test_a_stranger_who_names_himself_a_party_is_no_party_of_the_agreement() -> None:
    story = Story()
    story.exporter = STRANGER

    assert FaultCode.WRONG_SIGNER in codes(story.file())


def test_a_party_with_another_node_s_key_is_named() -> None:
    header = msgspec.json.decode(LINES[0], type=Header)
    parties = tuple(msgspec.structs.replace(party, key=STRANGER.public_key) for party in header.parties)
    forged = msgspec.json.encode(msgspec.structs.replace(header, parties=parties))

    assert FaultCode.WRONG_SIGNER in codes(sealed_again([forged, *LINES[1:-1]]))


# ------------------------------------------------------------------------------- whole histories, written anew by the exporter


def test_a_frame_that_is_shown_twice_is_a_replay() -> None:
    def again(events: list[Event]) -> list[Event]:
        return [*events[:5], events[4], *events[5:]]

    assert FaultCode.REPLAYED in codes(Story().file(again))


@pytest.mark.parametrize("name", ["bid", "commit", "ack", "status", "receipt"])
def test_a_frame_about_another_job_is_foreign(name: str) -> None:
    assert FaultCode.FOREIGN in codes(Story().change(name, request_id=request_id(b"another job's id")).file())


@pytest.mark.parametrize("name", ["bid", "commit", "ack", "status", "receipt"])
def test_a_frame_that_was_changed_is_not_what_its_sender_signed(name: str) -> None:
    story = Story()
    frame = story.frame(name)

    def forged(events: list[Event]) -> list[Event]:
        changed = frame[:-1] + bytes([frame[-1] ^ 1])
        return [FrameKept(changed, NOW) if getattr(e, "frame", b"") == frame else e for e in events]

    assert FaultCode.BAD_SIGNATURE in codes(story.file(forged))


@pytest.mark.parametrize("name", ["bid", "commit", "ack", "status", "receipt"])
def test_a_frame_by_somebody_who_is_no_party_is_named(name: str) -> None:
    story = Story()
    story.signers[name] = STRANGER

    assert FaultCode.WRONG_SIGNER in codes(story.file())


@pytest.mark.parametrize("name", ["bid", "ack", "status"])
def test_a_requester_cannot_sign_for_its_provider(name: str) -> None:
    story = Story()
    story.signers[name] = REQUESTER

    assert FaultCode.WRONG_SIGNER in codes(story.file())


@pytest.mark.parametrize("name", ["bid", "ack", "status"])
@pytest.mark.parametrize("heard", [NOW + 60_000 + 30_001, NOW - 30_001])
def test_a_frame_that_was_taken_when_its_time_was_over_is_named(name: str, heard: int) -> None:
    story = Story()
    story.heard[name] = heard

    assert FaultCode.EXPIRED in codes(story.file())


def test_a_bid_that_was_taken_after_its_validity_is_named() -> None:
    story = Story()
    story.sent["commit"] = BID.valid_until + 30_001

    assert FaultCode.EXPIRED in codes(story.file())


@pytest.mark.parametrize("name", ["commit", "ack"])
def test_other_terms_on_either_side_are_named(name: str) -> None:
    story = Story().change(name, terms=Digest("sha256:" + "0" * 64))

    assert FaultCode.TERMS_DIFFER in codes(story.file())
    assert not verify(story.file()).agreements[0].is_acknowledged


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("bid", {"price": 9}),
        ("bid", {"valid_until": NOW + 11_000}),
        ("commit", {"slots": (1,)}),
    ],
)
def test_whatever_of_the_terms_is_changed_both_signatures_show_it(name: str, changed: dict[str, Any]) -> None:
    assert FaultCode.TERMS_DIFFER in codes(Story().change(name, **changed).file())


def test_an_acknowledgement_of_other_allocations_is_named() -> None:
    assert FaultCode.FIGURES_DIFFER in codes(Story().change("ack", allocation_ids=("a-" + "a" * 26,)).file())


@pytest.mark.parametrize("name", ["status", "receipt"])
def test_of_an_allocation_of_no_agreement_the_commit_is_missing(name: str) -> None:
    found = verify(Story().change(name, allocation_id="a-" + "a" * 26).file())

    assert any(
        fault.code is FaultCode.MISSING and "the Commit of the allocation" in fault.detail for fault in found.faults
    )


def test_more_slots_than_were_bid_are_named() -> None:
    assert FaultCode.FIGURES_DIFFER in codes(Story().change("commit", slots=(0, 1), invocations=()).file())


def test_an_own_account_that_is_not_what_was_signed_is_named() -> None:
    def otherwise(events: list[Event]) -> list[Event]:
        return [
            msgspec.structs.replace(e, status=msgspec.structs.replace(e.status, price=1))
            if isinstance(e, AllocationFinished)
            else e
            for e in events
        ]

    assert FaultCode.FIGURES_DIFFER in codes(Story().file(otherwise))


@pytest.mark.parametrize("name", ["bid", "commit", "ack", "status", "receipt"])
def test_a_frame_that_what_happened_asks_for_is_missing(name: str) -> None:
    story = Story()
    frame = story.frame(name)

    assert FaultCode.MISSING in codes(
        story.file(lambda events: [e for e in events if getattr(e, "frame", b"") != frame])
    )


def test_frames_in_an_order_they_cannot_have_come_in_are_named() -> None:
    def swapped(events: list[Event]) -> list[Event]:
        events[2], events[3] = events[3], events[2]
        return events

    assert FaultCode.REORDERED in codes(Story().file(swapped))


# ------------------------------------------------------------------------------------------------------------------ disputes


def test_a_receipt_of_other_figures_is_a_dispute_and_no_fault_of_the_file() -> None:
    found = verify(Story().change("receipt", price=4).file())

    assert found.sound
    (run,) = found.agreements[0].runs
    assert (run.claimed, run.confirmed) == (10, 4)
    assert run.disputed == ("price: the provider says 10, the requester 4",)


def test_a_claim_of_more_than_was_agreed_is_a_dispute() -> None:
    story = Story().change("status", price=50)
    status = story.messages["status"]
    assert isinstance(status, AllocationStatus)

    (run,) = verify(story.file()).agreements[0].runs

    assert any("claims" in dispute for dispute in run.disputed)
    assert isinstance(story.messages["commit"], Commit)


def test_a_receipt_for_another_log_is_a_dispute() -> None:
    found = verify(Story().change("receipt", log_digests=(digest_of(b"goodbye\n"), Digest(""))).file())

    (run,) = found.agreements[0].runs
    assert [dispute.partition(":")[0] for dispute in run.disputed] == ["log_digests"]


# ---------------------------------------------------------------------------------------------------------------------- logs


def shown(log: bytes) -> tuple[str, ...]:
    """Whose log this is."""
    return compare(verify(FILE), "out.txt", BytesIO(log)).of


def test_a_log_is_that_of_the_run_whose_provider_has_signed_it() -> None:
    assert shown(LOG) == (f"{ALLOCATION} stdout",)
    assert shown(b"") == (f"{ALLOCATION} stderr",)


@given(st.integers(0, len(LOG) - 1), st.integers(1, 255))
def test_a_log_with_a_byte_flipped_is_nobody_s(place: int, flip: int) -> None:
    assert shown(LOG[:place] + bytes([LOG[place] ^ flip]) + LOG[place + 1 :]) == ()


@pytest.mark.parametrize("log", [LOG[:-1], LOG + b"\n", LOG[1:]])
def test_a_log_that_was_cut_or_goes_on_is_nobody_s(log: bytes) -> None:
    assert shown(log) == ()


def test_without_the_statement_of_an_ending_a_log_is_nobody_s() -> None:
    story = Story()
    report = verify(story.file(lambda events: events[:6]))

    assert compare(report, "empty.txt", BytesIO(b"")).of == ()
