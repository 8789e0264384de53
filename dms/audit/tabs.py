"""The running account of calls that the events of a file prove: agreed by both, each sum in its order, by the right signer, with figures that follow.

Each side keeps what the other has signed: the provider that its caller takes the terms, and owes each sum; the caller what its provider offers, and
states. What its exporter has signed itself is under the seal. Each has events of its own, so that a signature stands for what the other has said, and
for nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from dms.audit.faults import Fault, FaultCode
from dms.audit.lines import Entry
from dms.audit.proofs import Proof, event_of
from dms.audit.report import AgreedTab, TabSum
from dms_actors.events import EVENT_KINDS
from dms_proto.ids import PeerId, is_tab
from dms_proto.machine import Event
from dms_proto.messages import TabSigned, TabStated, TabTerms
from dms_proto.tabs.kept import CallBilled, SumSigned, SumStated, TabAgreed, TabForgotten, TabOver
from dms_proto.tabs.terms import owed, terms_digest
from dms_proto.tabs.used import CallBegun, CallSeen, SumAnswered, TabEnded, TabTaken
from dms_proto.units import format_credits

_PROVIDERS: Final = (TabAgreed, CallBilled, SumStated, SumSigned, TabOver, TabForgotten)
_CALLERS: Final = (TabTaken, CallBegun, CallSeen, SumAnswered, TabEnded)
KINDS: Final = frozenset(kind.__name__ for kind in (*_PROVIDERS, *_CALLERS))
"""Events of one tab, at its provider and at its caller. Others of their streams are of all tabs there are."""


def tab_of(event: Event) -> str:
    """The tab that an event of one is about."""
    match event:
        case TabAgreed(terms=terms) | TabTaken(terms=terms):
            return terms.tab_id
        case _:
            return str(getattr(event, "tab_id", ""))


def check(
    name: str, exporter: PeerId, entries: Sequence[Entry], proofs: Iterable[Proof]
) -> tuple[tuple[AgreedTab, ...], tuple[Fault, ...]]:
    """The tab that a file is about, and everything wrong with it; nothing, if it is about none."""
    if not is_tab(name):
        return (), ()
    walk = _Walk(name, exporter, {proof.line: proof for proof in proofs})
    faults = tuple(fault for entry in entries for fault in walk.feed(entry))
    if walk.terms is None:
        return (), (*faults, Fault(FaultCode.MISSING, 1, f"the agreement on {name} is missing"))
    return (walk.found(walk.terms),), faults


class _Walk:
    """Reads the events of one tab in order."""

    def __init__(self, name: str, exporter: PeerId, proofs: dict[int, Proof]) -> None:
        self.terms: TabTerms | None = None
        self._name = name
        self._exporter = exporter
        self._proofs = proofs
        self._sums: list[TabSum] = []
        self._calls = 0
        self._ran_ms = 0
        self._over = ""

    def found(self, terms: TabTerms) -> AgreedTab:
        """What all of them prove."""
        return AgreedTab(
            tab_id=terms.tab_id,
            provider=terms.provider,
            caller=terms.caller,
            service=terms.service,
            terms=terms_digest(terms),
            resources=terms.resources,
            tariff=terms.tariff,
            max_price=terms.max_price,
            sums=tuple(self._sums),
            over=self._over,
        )

    def feed(self, entry: Entry) -> Iterator[Fault]:
        """Goes on with the next event; gives what is wrong with it."""
        kind = EVENT_KINDS.get(entry.row.kind) if entry.row.kind in KINDS else None
        event = event_of(entry, kind) if kind is not None else None
        if event is None or tab_of(event) != self._name:
            yield Fault(FaultCode.FOREIGN, entry.line, f"event {entry.row.seq} ({entry.row.kind}) is not of the tab")
            return
        terms = event.terms if isinstance(event, TabAgreed | TabTaken) else self.terms
        if terms is None:
            yield Fault(FaultCode.MISSING, entry.line, f"event {entry.row.seq} stands before the agreement on the tab")
        elif not isinstance(event, _CALLERS if self._exporter == terms.caller else _PROVIDERS):
            yield Fault(
                FaultCode.FOREIGN, entry.line, f"event {entry.row.seq} ({entry.row.kind}) is the other side's to write"
            )
        elif isinstance(event, TabAgreed | TabTaken):
            yield from self._agreed(entry, terms)
        else:
            yield from self._goes_on(entry, terms, event)

    def _agreed(self, entry: Entry, terms: TabTerms) -> Iterator[Fault]:
        self.terms = terms
        if self._exporter not in (terms.caller, terms.provider):
            yield Fault(
                FaultCode.WRONG_SIGNER, entry.line, f"{self._exporter} exported it and is no party of {terms.tab_id}"
            )
        signed = self._proofs.get(entry.line)
        if signed is None:
            return  # what is wrong with its frame is named already
        yield from self._by_the_other(entry, terms, signed, 0)
        if isinstance(signed.message, TabStated) and signed.message.offer != terms:
            yield Fault(FaultCode.TERMS_DIFFER, entry.line, "other terms were offered than were taken")

    def _goes_on(self, entry: Entry, terms: TabTerms, event: Event) -> Iterator[Fault]:
        match event:
            case CallBilled(calls=calls, ran_ms=ran_ms):
                if abs(calls - self._calls) != 1:
                    yield Fault(FaultCode.MISSING, entry.line, f"calls are missing between {self._calls} and {calls}")
                self._calls, self._ran_ms = calls, ran_ms
            case SumStated():
                yield from self._stated(entry, terms, event)
            case SumSigned():
                yield from self._signed(entry, terms, event)
            case SumAnswered():
                yield from self._answered(entry, terms, event)
            case TabOver(why=why) | TabEnded(why=why):
                self._over = why

    def _stated(self, entry: Entry, terms: TabTerms, event: SumStated) -> Iterator[Fault]:
        """A provider's own account: what it asks for follows from the calls that it has written down."""
        fair = owed(terms, self._calls, self._ran_ms)
        if event.price != fair:
            what = f"{format_credits(event.price)} are stated, and the calls come to {format_credits(fair)}"
            yield Fault(FaultCode.FIGURES_DIFFER, entry.line, what)
        yield from self._added(entry, TabSum(event.number, self._calls, self._ran_ms, event.price))

    def _signed(self, entry: Entry, terms: TabTerms, event: SumSigned) -> Iterator[Fault]:
        last = self._sums[-1] if self._sums else None
        if last is None or last.number != event.number or last.confirmed is not None:
            yield Fault(FaultCode.MISSING, entry.line, f"what was stated as sum {event.number} is missing")
            return
        self._sums[-1] = _confirmed(last, event.price)
        signed = self._proofs.get(entry.line)
        if signed is None:
            return
        yield from self._by_the_other(entry, terms, signed, event.number)
        before = next((each.confirmed for each in reversed(self._sums[:-1]) if each.confirmed is not None), 0)
        if event.price > max(before, signed.message.price):
            yield self._differs(entry, event.price, signed)

    def _answered(self, entry: Entry, terms: TabTerms, event: SumAnswered) -> Iterator[Fault]:
        told = TabSum(event.number, event.calls, event.ran_ms, event.stated)
        yield from self._added(entry, _confirmed(told, event.signed))
        stated = self._proofs.get(entry.line)
        if stated is None:
            return
        yield from self._by_the_other(entry, terms, stated, event.number)
        message = stated.message
        if isinstance(message, TabStated) and (message.price, message.calls, message.ran_ms) != told.stated:
            yield self._differs(entry, event.stated, stated)

    def _added(self, entry: Entry, sum_: TabSum) -> Iterator[Fault]:
        expected = self._sums[-1].number + 1 if self._sums else 1
        if sum_.number != expected:
            yield Fault(FaultCode.MISSING, entry.line, f"sum {expected} is missing before sum {sum_.number}")
        self._sums.append(sum_)

    def _by_the_other(self, entry: Entry, terms: TabTerms, proof: Proof, number: int) -> Iterator[Fault]:
        """What stands for the other side is signed by it, for this side, and of these terms and this sum."""
        is_caller = self._exporter == terms.caller
        kind, other = (TabStated, terms.provider) if is_caller else (TabSigned, terms.caller)
        if not isinstance(proof.message, kind) or (proof.sender, proof.to) != (other, self._exporter):
            what = f"a {type(proof.message).__name__} from {proof.sender} to {proof.to} stands for the {kind.__name__} of {other}"
            yield Fault(FaultCode.WRONG_SIGNER, entry.line, what)
        elif proof.message.terms != terms_digest(terms):
            yield Fault(FaultCode.TERMS_DIFFER, entry.line, f"the {kind.__name__} is of other terms")
        elif proof.message.number != number:
            yield Fault(FaultCode.FIGURES_DIFFER, entry.line, f"sum {proof.message.number} is signed, not sum {number}")

    def _differs(self, entry: Entry, told: int, proof: Proof) -> Fault:
        signed = format_credits(proof.message.price)
        what = f"event {entry.row.seq} ({entry.row.kind}) says {format_credits(told)}, and {signed} are signed"
        return Fault(FaultCode.FIGURES_DIFFER, entry.line, what)


def _confirmed(told: TabSum, price: int) -> TabSum:
    return TabSum(told.number, told.calls, told.ran_ms, told.claimed, price)
