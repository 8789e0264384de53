"""Three nodes that work for each other, pay and sign over a network that loses and repeats, with crashes: credit is neither made nor lost."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dms_proto.accounts import machine
from dms_proto.accounts.book import Accounts, Book, Dispute, answered, charge, claim
from dms_proto.accounts.iou import signed
from dms_proto.accounts.machine import (
    AcceptWished,
    ClaimStated,
    EntryWritten,
    ForgiveWished,
    IouHeard,
    IouSigned,
    LateReceiptHeard,
    PaymentNoted,
    Posted,
    TellForgiven,
    next_iou,
)
from dms_proto.ids import AllocationId, PeerId, RequestId
from dms_proto.machine import Effect, Event, Send, Stimulus, Transient
from dms_proto.messages import Iou, Receipt
from dms_proto.wire import Signer
from dms_proto.work import EndReason, Usage

SIGNERS = tuple(Signer(bytes([number]) * 32) for number in (1, 2, 3))
nodes = st.sampled_from(range(len(SIGNERS)))
prices = st.sampled_from([0, 1, 7, 1_000])


class Claim(NamedTuple):
    """What a status says: the end of an allocation, and the price its provider asks."""

    allocation: str
    price: int
    fair: int


class Answer(NamedTuple):
    """What a receipt says."""

    allocation: str
    price: int


class Accepted(NamedTuple):
    """What a receipt says that accepts a dispute, or answers a forgiving."""

    receipt: Receipt
    is_answer: bool = False


def _receipt(request: str, allocation: str, price: int) -> Receipt:
    return Receipt(RequestId(request), AllocationId(allocation), EndReason.COMPLETED, Usage(), price)


class Lowered(NamedTuple):
    """What a status says by which a dispute is forgiven."""

    allocation: str
    price: int


Said = Claim | Answer | Iou | Accepted | Lowered


class Node:
    """The accounts of one node as its actors drive them, its log, and what it has not had answered."""

    def __init__(self, signer: Signer) -> None:
        self.signer = signer
        self.log: list[Event] = []
        self.live = Accounts(signer.peer_id)
        self.unanswered: dict[str, tuple[PeerId, Claim]] = {}
        self.untold: list[EntryWritten] = []

    def write(self, booked: tuple[Book, ...]) -> None:
        """A turn is written: its entries are in the log, and wait to be told to the live book."""
        self.log += [Posted(effect.entry) for effect in booked]
        self.untold += [EntryWritten(effect.entry) for effect in booked]

    def tell(self, stimulus: Stimulus) -> tuple[Effect, ...]:
        """The live book meets a stimulus, after what was told it before."""
        untold, self.untold = self.untold, []
        effects: tuple[Effect, ...] = ()
        for one in (*untold, stimulus):
            decision = machine.decide(self.live, one, 0)
            for event in decision.events:
                self.live = machine.evolve(self.live, event)
                if not isinstance(event, Transient):
                    self.log.append(event)
            effects += decision.effects
        return effects

    def catch_up(self) -> Accounts:
        """The live book, with everything told."""
        while self.untold:
            self.tell(self.untold.pop(0))
        return self.live

    def fold(self) -> Accounts:
        """The book as the log gives it."""
        accounts = Accounts(self.signer.peer_id)
        for event in self.log:
            accounts = machine.evolve(accounts, event)
        return accounts

    def fail(self) -> None:
        """The live book alone is lost, and built anew: what is told now is in the log it was built from."""
        self.live = self.fold()

    def crash(self) -> None:
        """Everything but the log is lost, also what was written and not told yet."""
        self.live, self.untold = self.fold(), []


class Market(RuleBasedStateMachine):
    """The invariants are the point: whatever comes in whatever order."""

    def __init__(self) -> None:
        super().__init__()
        self.nodes = [Node(signer) for signer in SIGNERS]
        self.by_peer = {node.signer.peer_id: node for node in self.nodes}
        self.wire: list[tuple[PeerId, PeerId, Said]] = []
        self.accepted: list[tuple[PeerId, PeerId, Said]] = []
        self.count = 0

    # -------------------------------------------------------------------------------------------------------- what happens

    @rule(provider=nodes, requester=nodes, fair=prices, over=prices, told=st.booleans())
    def work_ends(self, provider: int, requester: int, fair: int, over: int, told: bool) -> None:
        """The provider asks for `over` too much. Not `told`: it dies after writing it down."""
        self.count += 1
        node, peer = self.nodes[provider], self.nodes[requester].signer.peer_id
        ended = Claim(f"a-{self.count}", fair + over, fair)
        node.write(claim(peer, "r", ended.allocation, ended.price))
        node.unanswered[ended.allocation] = (peer, ended)
        if told:
            self.wire.append((node.signer.peer_id, peer, ended))
        else:
            node.crash()

    @rule(provider=nodes)
    def endings_are_repeated(self, provider: int) -> None:
        node = self.nodes[provider]
        self.wire += [(node.signer.peer_id, peer, ended) for peer, ended in node.unanswered.values()]

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), again=st.booleans(), dies=st.booleans())
    def a_message_arrives(self, data: st.DataObject, again: bool, dies: bool) -> None:
        """In any order; `again`: it will come once more; `dies`: the receiver does, after writing down what follows from it."""
        message = data.draw(st.sampled_from(self.wire))
        if not again:
            self.wire.remove(message)
        self.deliver(*message, dies=dies)

    def deliver(self, sender: PeerId, receiver: PeerId, message: Said, *, dies: bool = False) -> None:
        node = self.by_peer[receiver]
        answers: list[tuple[PeerId, PeerId, Said]] = []
        match message:
            case Claim(allocation=allocation, price=price, fair=fair):
                known = node.catch_up().charged(sender, allocation)
                accepted = known or min(price, fair)
                if not known:
                    refused = price - accepted
                    node.write(
                        charge(sender, "r", allocation, accepted, "too much" if refused else "", refused=refused)
                    )
                answers.append((receiver, sender, Answer(allocation, accepted)))
            case Answer(allocation=allocation, price=price):
                if allocation in node.unanswered:
                    peer, ended = node.unanswered.pop(allocation)
                    node.write(answered(peer, "r", allocation, ended.price, price))
            case Iou():
                answers += self.lowered(node, node.tell(IouHeard(sender, message)))
            case Accepted(receipt=receipt, is_answer=is_answer):
                node.tell(LateReceiptHeard(sender, receipt, answers_forgiving=is_answer))
            case Lowered(allocation=allocation, price=price):
                node.tell(ClaimStated(sender, AllocationId(allocation), price))
                paid = node.live.charged(sender, allocation)
                answers.append((receiver, sender, Accepted(_receipt("r", allocation, paid), is_answer=True)))
        if dies:
            node.crash()
        else:
            self.wire += answers

    @precondition(lambda self: self.wire)
    @rule(data=st.data())
    def a_message_is_lost(self, data: st.DataObject) -> None:
        self.wire.remove(data.draw(st.sampled_from(self.wire)))

    @rule(debtor=nodes, creditor=nodes)
    def one_signs(self, debtor: int, creditor: int) -> None:
        node, peer = self.nodes[debtor], self.nodes[creditor].signer.peer_id
        number, amount = next_iou(node.catch_up(), peer)
        (send,) = (e for e in node.tell(IouSigned(signed(node.signer, peer, number, amount))) if isinstance(e, Send))
        assert isinstance(send.message, Iou)
        self.wire.append((node.signer.peer_id, peer, send.message))

    def lowered(self, node: Node, effects: tuple[Effect, ...]) -> list[tuple[PeerId, PeerId, Said]]:
        """What a node says of what it has forgiven."""
        told = [effect for effect in effects if isinstance(effect, TellForgiven)]
        return [(node.signer.peer_id, one.peer, Lowered(one.allocation_id, one.price)) for one in told]

    def disputes(self, *, ours: bool) -> list[tuple[Node, Dispute]]:
        return [(node, one) for node in self.nodes for one in node.catch_up().disputes.values() if one.ours is ours]

    @precondition(lambda self: self.disputes(ours=True))
    @rule(data=st.data(), told=st.booleans())
    def one_forgives(self, data: st.DataObject, told: bool) -> None:
        node, dispute = data.draw(st.sampled_from(self.disputes(ours=True)))
        lowered = self.lowered(node, node.tell(ForgiveWished(dispute.peer, (AllocationId(dispute.allocation_id),))))
        if told:
            self.wire += lowered

    @precondition(lambda self: self.disputes(ours=False))
    @rule(data=st.data())
    def one_accepts(self, data: st.DataObject) -> None:
        node, dispute = data.draw(st.sampled_from(self.disputes(ours=False)))
        receipt = _receipt(dispute.request_id, dispute.allocation_id, dispute.asked)
        node.tell(AcceptWished(dispute.peer, receipt))
        self.accepted.append((node.signer.peer_id, dispute.peer, Accepted(receipt)))
        self.wire.append(self.accepted[-1])

    @rule(payer=nodes, payee=nodes, amount=st.sampled_from([1, 500]), twice=st.booleans())
    def one_pays(self, payer: int, payee: int, amount: int, twice: bool) -> None:
        """Outside of the market; both owners say so to their nodes, perhaps twice."""
        self.count += 1
        giver, taker = self.nodes[payer], self.nodes[payee]
        for _ in range(1 + twice):
            giver.tell(PaymentNoted(taker.signer.peer_id, -amount, f"out-{self.count}"))
            taker.tell(PaymentNoted(giver.signer.peer_id, amount, f"in-{self.count}"))

    @rule(which=nodes)
    def one_dies(self, which: int) -> None:
        self.nodes[which].crash()

    @rule(provider=nodes, requester=nodes, price=prices)
    def the_book_fails_between_log_and_telling(self, provider: int, requester: int, price: int) -> None:
        self.work_ends(provider, requester, price, 0, told=True)
        self.nodes[provider].fail()

    # --------------------------------------------------------------------------------------------------- what always holds

    @invariant()
    def nothing_is_made_or_lost(self) -> None:
        for node in self.nodes:
            node.live.check()
            node.fold().check()

    @invariant()
    def the_log_gives_the_live_book(self) -> None:
        for node in self.nodes:
            assert node.catch_up() == node.fold()

    @invariant()
    def the_newest_ious_are_what_is_noted(self) -> None:
        for node in self.nodes:
            for peer, balances in node.live.peers.items():
                received, given = node.live.received.get(peer), node.live.given.get(peer)
                assert balances.noted == (received.amount if received else 0) - (given.amount if given else 0)
            for debtor, iou in node.live.received.items():
                assert self.by_peer[debtor].live.given[node.signer.peer_id].number >= iou.number

    def teardown(self) -> None:
        """When all that is open has been said, the books of each two agree, and what they differ about is named."""
        while any(node.unanswered for node in self.nodes):
            self.wire.clear()
            for number in range(len(self.nodes)):
                self.endings_are_repeated(number)
            while self.wire:
                self.deliver(*self.wire.pop(0))
        for accepted in self.accepted:  # its owner says so again until it has come
            self.deliver(*accepted)
        for debtor, creditor in itertools.permutations(range(len(self.nodes)), 2):
            self.one_signs(debtor, creditor)
        while self.wire:  # with the next IOU it hears what was forgiven
            self.deliver(*self.wire.pop(0))
        for one in self.nodes:
            for other in self.nodes:
                mine, theirs = one.catch_up().of(other.signer.peer_id), other.catch_up().of(one.signer.peer_id)
                assert mine.claimed == 0
                assert mine.owed == -theirs.owed
                assert -mine.income == theirs.expense + mine.disputed
                asked = {(d.allocation_id, d.amount) for d in one.live.disputed_with(other.signer.peer_id, ours=True)}
                refused = other.live.disputed_with(one.signer.peer_id, ours=False)
                assert asked == {(d.allocation_id, d.amount) for d in refused}
                assert not one.live.forgiven


TestMarket = Market.TestCase
TestMarket.settings = settings(max_examples=60, stateful_step_count=30)
