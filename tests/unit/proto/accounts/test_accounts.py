"""What the owner and the peers can do to the accounts, one step at a time."""

import msgspec
import pytest

from dms_proto.accounts import machine
from dms_proto.accounts.book import MAX_DISPUTES, Account, Accounts, Balances, Book, Transfer, answered, charge, claim
from dms_proto.accounts.iou import is_genuine, signed
from dms_proto.accounts.machine import (
    AcceptWished,
    ClaimStated,
    DebtLimitWished,
    DisputeSettled,
    EntryWritten,
    ForgiveWished,
    ForgivingHeard,
    IouHeard,
    IouKept,
    IouSigned,
    LateReceiptHeard,
    LimitWished,
    PaymentBooked,
    PaymentNoted,
    Posted,
    TellForgiven,
    next_iou,
)
from dms_proto.heirs import PeerRenamed
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.messages import Iou, Receipt
from dms_proto.sim.driven import Driven
from dms_proto.units import CREDIT, MAX_QUANTITY
from dms_proto.wire import Signer
from dms_proto.work import EndReason, Usage

ME = Signer(b"\x01" * 32)
PEER = Signer(b"\x02" * 32)
THIRD = Signer(b"\x03" * 32)


class Books(Driven[Accounts]):
    def __init__(self, me: Signer = ME, limit: int = CREDIT) -> None:
        new = Accounts(me.peer_id, limit)
        super().__init__(machine.decide, machine.evolve, machine.next_deadline, new)

    def books(self, booked: tuple[Book, ...]) -> None:
        for effect in booked:
            self.log.append(Posted(effect.entry))
            self.tell(EntryWritten(effect.entry))

    def of(self, peer: Signer = PEER) -> Balances:
        return self.state.of(peer.peer_id)

    def owes(self, amount: int, allocation: str = "a-1") -> None:
        """We come to owe the peer."""
        self.books(charge(PEER.peer_id, "r-1", allocation, amount))

    def earns(self, amount: int, allocation: str = "a-2") -> None:
        """The peer comes to owe us, and says so."""
        self.books(claim(PEER.peer_id, "r-2", allocation, amount))
        self.books(answered(PEER.peer_id, "r-2", allocation, amount, amount))

    def signs(self, creditor: Signer = PEER) -> Iou:
        number, amount = next_iou(self.state, creditor.peer_id)
        self.tell(IouSigned(signed(ME, creditor.peer_id, number, amount)))
        (iou,) = self.sent(Iou, creditor.peer_id)
        return iou


# ------------------------------------------------------------------------------------------------------------------- work


def test_work_for_a_peer_is_claimed_and_then_owed() -> None:
    books = Books()

    books.books(claim(PEER.peer_id, "r", "a", 70))
    assert books.of() == Balances(claimed=70, income=-70)

    books.books(answered(PEER.peer_id, "r", "a", 70, 70))
    assert books.of() == Balances(open=70, income=-70)


def test_what_a_receipt_does_not_accept_is_disputed() -> None:
    books = Books()
    books.books(claim(PEER.peer_id, "r", "a", 70))

    books.books(answered(PEER.peer_id, "r", "a", 70, 50))

    assert books.of() == Balances(open=50, disputed=20, income=-70)


def test_a_receipt_for_more_than_was_claimed_gives_what_was_claimed() -> None:
    books = Books()
    books.books(claim(PEER.peer_id, "r", "a", 70))

    books.books(answered(PEER.peer_id, "r", "a", 70, 10**12))

    assert books.of() == Balances(open=70, income=-70)


@pytest.mark.parametrize("booked", [claim(PEER.peer_id, "r", "a", 70), charge(PEER.peer_id, "r", "a", 70)])
def test_the_same_entry_twice_changes_nothing(booked: tuple[Book, ...]) -> None:
    books = Books()
    books.books(booked)
    before = books.state

    books.books(booked)

    assert books.state == before


def test_what_was_free_is_not_booked() -> None:
    assert claim(PEER.peer_id, "r", "a", 0) == ()
    assert charge(PEER.peer_id, "r", "a", 0) == ()
    assert answered(PEER.peer_id, "r", "a", 0, 0) == ()


def test_what_was_refused_altogether_is_recorded_though_it_moves_nothing() -> None:
    (booked,) = charge(PEER.peer_id, "r", "a", 0, "nothing ran")

    assert (booked.entry.transfers, booked.entry.detail) == ((), "nothing ran")


def test_a_transfer_of_nothing_or_less_cannot_be_read_back() -> None:
    raw = msgspec.msgpack.encode(Transfer(Account.OPEN, Account.PAID, -5))
    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(raw, type=Transfer)


# ----------------------------------------------------------------------------------------------------- credit and payments


def test_credit_is_the_limit_less_what_is_owed_claimed_or_disputed() -> None:
    books = Books(limit=100)
    books.books(claim(PEER.peer_id, "r", "a", 30))
    books.books(answered(PEER.peer_id, "r", "a", 30, 20))
    books.books(claim(PEER.peer_id, "r", "b", 5))

    assert books.state.credit(PEER.peer_id) == 65


def test_a_limit_of_its_own_replaces_the_common_one_until_it_is_taken_back() -> None:
    books = Books(limit=100)

    books.tell(LimitWished(PEER.peer_id, 7))
    assert (books.state.credit(PEER.peer_id), books.state.credit(THIRD.peer_id)) == (7, 100)

    books.tell(LimitWished(PEER.peer_id, None))
    assert books.state.credit(PEER.peer_id) == 100


def test_a_payment_in_advance_gives_credit_where_there_is_none() -> None:
    books = Books(limit=0)

    books.tell(PaymentNoted(PEER.peer_id, 500, "p-1"))

    assert books.state.credit(PEER.peer_id) == 500
    assert books.of() == Balances(open=-500, paid=500)


def test_the_same_payment_twice_is_one_payment() -> None:
    books = Books()
    books.tell(PaymentNoted(PEER.peer_id, 500, "p-1"))

    books.tell(PaymentNoted(PEER.peer_id, 500, "p-1"))

    assert books.events == ()
    books.tell(PaymentNoted(PEER.peer_id, 500, "p-2"))
    assert books.noted(PaymentBooked)


def test_a_node_needs_no_credit_with_itself() -> None:
    books = Books(limit=0)
    assert books.state.credit(ME.peer_id) > CREDIT


# ------------------------------------------------------------------------------------------------------------------- IOUs


def test_an_iou_is_over_what_is_owed_with_both_directions_netted() -> None:
    books = Books()
    books.owes(100)
    books.earns(30)

    iou = books.signs()

    assert (iou.number, iou.amount) == (1, 70)
    assert is_genuine(iou)
    assert books.of() == Balances(noted=-70, expense=100, income=-30)


def test_the_next_iou_replaces_the_one_before() -> None:
    books = Books()
    books.owes(100)
    books.signs()
    books.tell(PaymentNoted(PEER.peer_id, -80, "p"))

    iou = books.signs()

    assert (iou.number, iou.amount) == (2, 20)
    assert books.of().noted == -20


def test_an_iou_is_over_no_more_than_a_message_can_say() -> None:
    books = Books()
    books.owes(MAX_QUANTITY)
    books.owes(MAX_QUANTITY, "a-2")
    assert books.signs().amount == MAX_QUANTITY


def test_who_is_owed_signs_for_nothing() -> None:
    books = Books()
    books.earns(30)
    assert books.signs().amount == 0


def test_an_iou_that_was_overtaken_by_an_entry_is_not_given() -> None:
    books = Books()
    books.owes(100)
    number, amount = next_iou(books.state, PEER.peer_id)
    books.owes(1, "a-3")

    books.tell(IouSigned(signed(ME, PEER.peer_id, number, amount)))

    assert (books.events, books.effects) == ((), ())


def test_a_peers_iou_is_kept_and_changes_nothing_of_what_is_owed() -> None:
    books = Books()
    books.earns(30)
    owed = books.of().owed

    books.tell(IouHeard(PEER.peer_id, signed(PEER, ME.peer_id, 1, 25)))

    assert books.noted(IouKept)
    assert books.of() == Balances(open=5, noted=25, income=-30)
    assert books.of().owed == owed
    assert books.restart().received[PEER.peer_id].amount == 25


NOT_OURS = {
    "an older number": (PEER.peer_id, signed(PEER, ME.peer_id, 1, 9)),
    "to another creditor": (PEER.peer_id, signed(PEER, THIRD.peer_id, 9, 9)),
    "from another debtor": (PEER.peer_id, signed(THIRD, ME.peer_id, 9, 9)),
    "of a stranger": (THIRD.peer_id, signed(THIRD, ME.peer_id, 9, 9)),
    "less than before, of which nothing was paid": (PEER.peer_id, signed(PEER, ME.peer_id, 9, 24)),
    "a changed amount": (PEER.peer_id, msgspec.structs.replace(signed(PEER, ME.peer_id, 9, 9), amount=8)),
    "no signature": (PEER.peer_id, Iou(PEER.peer_id, ME.peer_id, 9, 9, b"")),
}


@pytest.mark.parametrize("why", NOT_OURS)
def test_an_iou_is_not_kept_when_it_is(why: str) -> None:
    books = Books()
    books.earns(30)
    books.tell(IouHeard(PEER.peer_id, signed(PEER, ME.peer_id, 2, 25)))
    sender, iou = NOT_OURS[why]

    books.tell(IouHeard(sender, iou))

    assert books.events == ()


def test_who_has_paid_signs_for_less() -> None:
    books = Books()
    books.earns(30)
    books.tell(IouHeard(PEER.peer_id, signed(PEER, ME.peer_id, 1, 30)))
    books.tell(PaymentNoted(PEER.peer_id, 20, "p-1", ""))

    books.tell(IouHeard(PEER.peer_id, signed(PEER, ME.peer_id, 2, 10)))

    assert books.state.received[PEER.peer_id].amount == 10
    assert books.of().owed == 10


def test_a_debtor_that_is_no_key_has_signed_nothing() -> None:
    assert not is_genuine(Iou(PeerId("nobody"), ME.peer_id, 1, 1, b"\0" * 64))


# -------------------------------------------------------------------------------------------------------------------- names


def test_a_peer_with_a_new_name_owes_what_it_owed_and_is_trusted_no_further() -> None:
    books = Books()
    books.earns(300)
    books.tell(LimitWished(PEER.peer_id, 500))
    books.books(claim(THIRD.peer_id, "r-3", "a-3", 40))  # there was work under the new name before the news came
    iou = signed(PEER, ME.peer_id, 1, 300)
    books.tell(IouHeard(PEER.peer_id, iou))

    books.tell(PeerRenamed(PEER.peer_id, THIRD.peer_id))

    books.state.check()
    assert (books.of(THIRD).owed, books.of(THIRD).claimed, books.of(THIRD).income) == (300, 40, -340)
    assert books.state.limit(THIRD.peer_id) == 500
    assert books.state.credit(THIRD.peer_id) == 160
    assert books.state.received[THIRD.peer_id] == iou
    assert PEER.peer_id not in books.state.known


def test_a_new_name_of_somebody_with_whom_nothing_was_booked_changes_nothing() -> None:
    books = Books()

    books.tell(PeerRenamed(PEER.peer_id, THIRD.peer_id))

    assert books.events == ()


def test_ious_go_on_from_those_under_the_old_name() -> None:
    books = Books()
    books.owes(100)
    books.signs()
    books.owes(50, "a-9")

    books.tell(PeerRenamed(PEER.peer_id, THIRD.peer_id))

    assert next_iou(books.state, THIRD.peer_id) == (2, 150)


def test_what_was_agreed_under_an_old_name_is_booked_under_the_new_one() -> None:
    """The claims of jobs that ran while their requester got a new key were nobody's until the next start."""
    books = Books()
    books.owes(100)
    books.tell(PeerRenamed(PEER.peer_id, THIRD.peer_id))

    books.books(claim(PEER.peer_id, "r-9", "a-9", 40))

    assert books.state.known == (THIRD.peer_id,)
    assert books.of(THIRD) == Balances(open=-100, claimed=40, expense=100, income=-40)
    assert books.restart().of(THIRD.peer_id) == books.of(THIRD)


def test_a_price_is_remembered_over_changes_of_the_name_it_was_agreed_under() -> None:
    books = Books()
    books.owes(100, "a-1")
    newest = Signer(b"\x04" * 32).peer_id

    books.tell(PeerRenamed(PEER.peer_id, THIRD.peer_id))
    books.tell(PeerRenamed(THIRD.peer_id, newest))

    assert set(books.state.names(newest)) == {newest, PEER.peer_id, THIRD.peer_id}
    assert books.state.charged(newest, "a-1") == 100
    assert books.state.charged(ME.peer_id, "a-1") == 0


def test_the_most_we_may_owe_a_peer_is_its_own_until_it_is_taken_back_and_outlives_its_name() -> None:
    books = Books()

    books.tell(DebtLimitWished(PEER.peer_id, 7))
    books.tell(DebtLimitWished(PEER.peer_id, 7))
    assert books.events == ()
    books.tell(PeerRenamed(PEER.peer_id, THIRD.peer_id))
    assert books.restart().debt_limit(THIRD.peer_id) == 7

    books.tell(DebtLimitWished(THIRD.peer_id, None))
    assert books.state.debt_limit(THIRD.peer_id) == books.state.default_debt_limit


# ---------------------------------------------------------------------------------------------------------------- disputes

ALLOCATION = AllocationId("a-2")


def in_dispute() -> tuple[Books, Books]:
    """Our books as the provider of an allocation that was asked 70 for, and the books of its requester, who accepted 50."""
    ours, theirs = Books(), Books(PEER)
    ours.books(claim(PEER.peer_id, "r", "a-2", 70))
    ours.books(answered(PEER.peer_id, "r", "a-2", 70, 50))
    theirs.books(charge(ME.peer_id, "r", "a-2", 50, "70 were claimed", refused=20))
    return ours, theirs


def receipt(price: int, allocation: AllocationId = ALLOCATION) -> Receipt:
    return Receipt(RequestId("r"), allocation, EndReason.COMPLETED, Usage(), price)


def test_both_sides_know_what_is_in_dispute_and_who_asks() -> None:
    ours, theirs = in_dispute()
    (asked,), (refused,) = ours.state.disputed_with(PEER.peer_id), theirs.state.disputed_with(ME.peer_id)
    assert (asked.asked, asked.amount, asked.ours) == (70, 20, True)
    assert (refused.asked, refused.amount, refused.ours) == (70, 20, False)


def test_what_is_forgiven_was_not_earned_and_both_sides_are_done_with_it() -> None:
    ours, theirs = in_dispute()

    ours.tell(ForgiveWished(PEER.peer_id, (ALLOCATION,)))
    assert ours.effects == (TellForgiven(PEER.peer_id, ALLOCATION, 50),)
    theirs.tell(ClaimStated(ME.peer_id, ALLOCATION, 51))
    assert theirs.events == ()
    theirs.tell(ClaimStated(ME.peer_id, ALLOCATION, 50))

    assert ours.of() == Balances(open=50, income=-50)
    assert theirs.of(ME) == Balances(open=-50, expense=50)
    for books in (ours, theirs):
        books.state.check()
        assert books.state.disputes == {}
    ours.tell(ForgiveWished(PEER.peer_id, (ALLOCATION,)))
    assert ours.events == ()


def test_what_is_forgiven_of_a_tab_is_told_to_nobody_and_waits_for_no_answer() -> None:
    books = Books()
    books.books(claim(PEER.peer_id, "", "t-1.1", 500))
    books.books(answered(PEER.peer_id, "", "t-1.1", 500, 200))
    decided = books.tell(ForgiveWished(PEER.peer_id, (AllocationId("t-1.1"),)))
    assert not decided.effects
    assert (books.of().disputed, books.of().open, books.of().income) == (0, 200, -200)
    assert not books.state.forgiven_unheard(PEER.peer_id)


def test_what_was_forgiven_is_told_again_with_what_comes_next_until_it_is_known_to_be_heard() -> None:
    """The first word of it was lost on the way."""
    ours, _ = in_dispute()
    ours.tell(ForgiveWished(PEER.peer_id, (ALLOCATION,)))
    again = (TellForgiven(PEER.peer_id, ALLOCATION, 50, ours.now),)

    ours.tell(IouHeard(PEER.peer_id, signed(PEER, ME.peer_id, 1, 50)))
    assert ours.effects == again
    ours.tell(IouHeard(PEER.peer_id, signed(PEER, ME.peer_id, 1, 50)))
    assert ours.effects == (), "a repeat says nothing new"
    ours.earns(5)
    assert ours.effects == again
    before = ours.state
    assert ours.restart() == before

    ours.tell(LateReceiptHeard(PEER.peer_id, receipt(50)))
    assert ours.events == (), "it may answer the ending as it was told before"
    ours.tell(LateReceiptHeard(PEER.peer_id, receipt(50), answers_forgiving=True))
    assert ours.events == (ForgivingHeard(PEER.peer_id, ALLOCATION),)

    ours.tell(LateReceiptHeard(PEER.peer_id, receipt(50), answers_forgiving=True))
    assert ours.events == ()
    ours.tell(IouHeard(PEER.peer_id, signed(PEER, ME.peer_id, 2, 55)))
    assert ours.effects == ()


def test_what_is_accepted_after_all_is_owed_in_both_books_by_a_receipt_that_says_so() -> None:
    ours, theirs = in_dispute()

    theirs.tell(AcceptWished(ME.peer_id, receipt(70)))
    (said,) = theirs.sent(Receipt, ME.peer_id)
    ours.tell(LateReceiptHeard(PEER.peer_id, said, b"frame"))

    (settled,) = ours.noted(DisputeSettled)
    assert settled.frame == b"frame"
    assert ours.of() == Balances(open=70, income=-70)
    assert theirs.of(ME) == Balances(open=-70, expense=70)
    assert theirs.state.charged(ME.peer_id, ALLOCATION) == 70
    theirs.tell(AcceptWished(ME.peer_id, receipt(70)))  # the receipt may have been lost
    assert (theirs.events, theirs.sent(Receipt, ME.peer_id)) == ((), [said])
    ours.tell(LateReceiptHeard(PEER.peer_id, said))
    assert ours.events == ()


@pytest.mark.parametrize(
    ("sender", "said"),
    [(PEER, receipt(69)), (THIRD, receipt(70)), (PEER, receipt(70, AllocationId("a-9")))],
    ids=["accepts less", "is nobody of it", "is about another allocation"],
)
def test_a_receipt_settles_no_dispute_when_it(sender: Signer, said: Receipt) -> None:
    ours, _ = in_dispute()
    ours.tell(LateReceiptHeard(sender.peer_id, said))
    assert ours.events == ()


def test_nothing_is_accepted_that_was_not_asked() -> None:
    books = Books()
    books.tell(AcceptWished(PEER.peer_id, receipt(70)))
    assert (books.events, books.effects) == ((), ())


def test_a_dispute_goes_with_the_name_of_its_peer() -> None:
    ours, _ = in_dispute()
    ours.tell(PeerRenamed(PEER.peer_id, THIRD.peer_id))

    ours.tell(LateReceiptHeard(THIRD.peer_id, receipt(70)))

    assert ours.of(THIRD) == Balances(open=70, income=-70)
    assert ours.state.disputes == {}


def test_who_asks_too_much_again_and_again_pushes_out_no_dispute_of_another() -> None:
    books = Accounts(ME.peer_id)
    for peer, number in [(THIRD.peer_id, 0), *((PEER.peer_id, number) for number in range(MAX_DISPUTES + 3))]:
        (booked,) = charge(peer, "", f"t-{peer}.{number}", 0, "too much", refused=1)
        books = books.post(booked.entry)
    assert len(books.disputed_with(THIRD.peer_id)) == 1
    assert len(books.disputes) == MAX_DISPUTES


def test_of_more_disputes_than_can_be_known_the_oldest_are_in_the_balance_alone() -> None:
    books = Books()
    for number in range(MAX_DISPUTES + 3):
        books.books(answered(PEER.peer_id, "r", f"a-{number}", 2, 1))
    assert len(books.state.disputes) == MAX_DISPUTES
    assert books.of().disputed == MAX_DISPUTES + 3
