"""A caller and a provider with the machines of their tabs, and a link between them that may lose what is sent. Either may be killed at any moment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dms_proto.accounts.book import NO_BALANCES, Balances, Book, Entry
from dms_proto.capability import Price, Resources
from dms_proto.ids import PeerId, TabId, tab_id
from dms_proto.machine import Effect, Event, Send, Stimulus, TimeCame, Transient
from dms_proto.messages import TabSigned, TabStated, TabTerms, TabWanted
from dms_proto.pool.records import CallId
from dms_proto.pool.refusals import Refusal
from dms_proto.tabs import kept, kept_machine, used, used_machine
from dms_proto.tabs.kept import (
    CallEntering,
    CallLeft,
    KeptTab,
    KeptTabs,
    ServiceLeft,
    SignatureHeard,
    TabAsked,
    TurnAway,
)
from dms_proto.tabs.terms import Ceiling
from dms_proto.tabs.used import (
    CallSeenIn,
    CallSeenOver,
    CallsLost,
    CallTried,
    StatementHeard,
    TabReady,
    TabTried,
    UsedTab,
    UsedTabs,
)
from dms_proto.units import CORE, CREDIT, GIB, HOUR, MINUTE

CALLER = PeerId("12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN")
PROVIDER = PeerId("12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
SERVICE = "command/echo"
SIZE = Resources(CORE, GIB)
TARIFF = Price(cpu_core_hour=CREDIT)
CALL_MS = MINUTE


class Side:
    """One machine, its log, and what it has booked."""

    def __init__(self, machine: Any, evolve: Callable[[Any, Event], Any], empty: Any) -> None:
        self.machine, self.evolve, self.empty = machine, evolve, empty
        self.state = empty
        self.log: list[Event] = []
        self.entries: dict[str, Entry] = {}
        self.said: list[Effect] = []

    def meet(self, stimulus: Stimulus, now: int) -> list[Send]:
        """Decides, writes down, and gives what is to be sent."""
        decision = self.machine.decide(self.state, stimulus, now)
        for event in decision.events:
            self.state = self.evolve(self.state, event)
            if not isinstance(event, Transient):
                self.log.append(msgspec.msgpack.decode(msgspec.msgpack.encode(event), type=type(event)))
        return self.done(decision.effects)

    def done(self, effects: tuple[Effect, ...]) -> list[Send]:
        """Books, and remembers what is no message; gives what is to be sent."""
        for effect in effects:
            if isinstance(effect, Book):
                assert effect.entry.name not in self.entries, f"{effect.entry.name} is booked twice"
                self.entries[effect.entry.name] = effect.entry
            elif not isinstance(effect, Send):
                self.said.append(effect)
        return [effect for effect in effects if isinstance(effect, Send)]

    def kill(self) -> list[Send]:
        """What is left is what the log tells."""
        self.state = self.empty
        for event in self.log:
            self.state = self.evolve(self.state, event)
        return self.done(self.machine.resume(self.state))

    @property
    def balances(self) -> Balances:
        """Of all that it has booked."""
        total = NO_BALANCES
        for entry in self.entries.values():
            total = total.after(entry)
        assert not total.total
        return total


class Pair:
    """Both, at one time."""

    def __init__(self, *, loses: Callable[[object], bool] = lambda _message: False) -> None:
        self.caller = Side(used_machine, used.evolve, UsedTabs())
        self.provider = Side(kept_machine, kept.evolve, KeptTabs())
        self.loses = loses
        self.now = 1_000_000
        self.made = 0
        self.credit = 100 * CREDIT
        self.most_an_hour = CREDIT
        self.lie: Callable[[TabStated], TabStated] = lambda stated: stated
        self.signs: Callable[[TabSigned], TabSigned | None] = lambda signed: signed

    # -- what is said

    def tell(self, side: Side, stimulus: Stimulus) -> None:
        """One side meets something, and what it sends arrives."""
        self.carry(side.meet(stimulus, self.now))

    def carry(self, sent: list[Send]) -> None:
        """What is sent arrives, if it is not lost."""
        for send in sent:
            if not self.loses(send.message):
                self._arrive(send.message)

    def _arrive(self, message: object) -> None:
        match message:
            case TabWanted():
                self.tell(self.provider, TabAsked(CALLER, message, self.terms(message), "", self.credit))
            case TabStated():
                self.tell(self.caller, StatementHeard(PROVIDER, self.lie(message)))
            case TabSigned():
                signed = self.signs(message)
                if signed is not None:
                    self.tell(self.provider, SignatureHeard(CALLER, signed, credit=self.credit))

    def terms(self, wanted: TabWanted) -> TabTerms:
        """What the provider offers."""
        return TabTerms(wanted.tab_id, wanted.service, CALLER, PROVIDER, SIZE, TARIFF, wanted.max_price, CALL_MS)

    # -- what is done

    def agree(self, max_price: int = CREDIT) -> TabId:
        """The caller wants a tab."""
        self.made += 1
        new = tab_id(self.made.to_bytes(16, "big"))
        self.tell(self.caller, TabTried(new, CALLER, PROVIDER, SERVICE, Ceiling(max_price, self.most_an_hour)))
        return new

    def begin(self, tab: TabId) -> CallId:
        """A call is asked for, and let in or turned away."""
        self.made += 1
        call = CallId(f"call-{self.made}")
        most = self.caller.state.tabs[tab].most if tab in self.caller.state.tabs else 0
        self.tell(self.caller, CallTried(tab, call, Ceiling(most, self.most_an_hour)))
        before = len(self.turned_away)
        self.tell(self.provider, CallEntering(call, CALLER, tab, SERVICE, SIZE))
        if len(self.turned_away) > before:
            self.tell(self.caller, CallSeenOver(tab, call, let_in=False))
        else:
            self.tell(self.caller, CallSeenIn(tab, call))
        return call

    def end(self, tab: TabId, call: CallId, ran_ms: int | None) -> None:
        """A call ends on both sides."""
        self.tell(self.provider, CallLeft(call, ran_ms))
        self.tell(self.caller, CallSeenOver(tab, call))

    def call(self, tab: TabId, ms: int) -> CallId:
        """A whole call."""
        call = self.begin(tab)
        self.now += ms
        self.end(tab, call, ms)
        return call

    def leave(self) -> None:
        """The provider closes the caller's virtual container."""
        self.tell(self.provider, ServiceLeft(CALLER, SERVICE))

    def pass_time(self, ms: int) -> None:
        """Goes on from deadline to deadline."""
        until = self.now + ms
        for _ in range(10_000):
            due = {
                side: at
                for side in (self.caller, self.provider)
                if (at := side.machine.next_deadline(side.state)) is not None and at <= until
            }
            if not due:
                self.now = until
                return
            side = min(due, key=lambda each: due[each])
            self.now = max(self.now, due[side])
            self.tell(side, TimeCame())
        raise AssertionError("time does not pass: a deadline leads to nothing")

    def kill_provider(self) -> None:
        """Its process dies, and another folds its log."""
        self.carry(self.provider.kill())

    def kill_caller(self) -> None:
        """The same of the caller."""
        sent = self.caller.kill()
        self.carry(sent + self.caller.meet(CallsLost(), self.now))

    # -- what is seen

    @property
    def turned_away(self) -> list[Refusal]:
        """Why calls were not let in."""
        return [each.refusal for each in self.provider.said if isinstance(each, TurnAway)]

    @property
    def ready(self) -> list[str]:
        """What the caller was told of tabs it wanted: why there is none, or nothing."""
        return [each.why for each in self.caller.said if isinstance(each, TabReady)]

    def kept(self, tab: TabId) -> KeptTab:
        """A tab, as its provider has it."""
        found: KeptTab = self.provider.state.tabs[tab]
        return found

    def used(self, tab: TabId) -> UsedTab:
        """A tab, as its caller has it."""
        found: UsedTab = self.caller.state.tabs[tab]
        return found


def cost(ms: int) -> int:
    """Of so much time at work."""
    return -(-CREDIT * ms // HOUR)
