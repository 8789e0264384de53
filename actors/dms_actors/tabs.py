"""What calls cost, as a part of the Pool actor: the tabs of others here, and those of this node elsewhere.

::

    Called ── lets_in ──▶ the pool ── follow ──▶ billed, once it is over
    what others state and sign ── hear ──▶ booked, signed, told
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import msgspec

from dms_actors.draft import Journal
from dms_actors.letters import Blamed, HeldOnTabs, TabQuestion, Told
from dms_actors.shell import Machine, Shell, Turn
from dms_actors.world import Paying
from dms_proto.accounts.book import Book
from dms_proto.accounts.machine import EntryWritten
from dms_proto.ids import PeerId, RequestId, TabId
from dms_proto.machine import Effect, Event, Send, Stimulus
from dms_proto.messages import TabTerms
from dms_proto.pool.callers import tariff_of
from dms_proto.pool.records import CallId, ContainerId, ContainerPhase
from dms_proto.pool.services import Services
from dms_proto.pool.state import Call, Called, CallEnded, ContainerDied, Pool, VirtualClosed
from dms_proto.tabs import kept, kept_machine, used, used_machine
from dms_proto.tabs.kept import (
    CallEntering,
    CallLeft,
    ContainerFailed,
    KeptSaved,
    KeptTabs,
    ServiceLeft,
    SignatureHeard,
    TabAgreed,
    TabAsked,
    TurnAway,
)
from dms_proto.tabs.used import CallsLost, CallTried, TabReady, TabTried, UsedSaved, UsedTabs
from dms_proto.units import format_credits
from dms_proto.wire import Offence

KEPT: Final[Machine[KeptTabs]] = Machine(
    kept_machine.decide, kept.evolve, kept_machine.next_deadline, kept_machine.resume
)
USED: Final[Machine[UsedTabs]] = Machine(
    used_machine.decide, used.evolve, used_machine.next_deadline, used_machine.resume
)
STIMULI: Final = kept_machine.STIMULI | used_machine.STIMULI
"""What is met by one of these machines."""
NEVER: Final = -1
"""How many tabs the node knows to be agreed, before it was told."""


class Tabs:
    """One per pool."""

    def __init__(self, paying: Paying) -> None:
        self.kept = Shell(KEPT, kept.KEPT_STREAM, KeptTabs())
        self.used = Shell(USED, used.USED_STREAM, UsedTabs())
        self.shells = (self.kept, self.used)
        self._paying = paying
        self._held: Mapping[PeerId, int] = {}
        self._agreed = 0
        self._told = NEVER
        self._untold: dict[int, TabTerms] = {}
        self._staked: Mapping[TabId, tuple[PeerId, int]] = {}

    def replay(self, journal: Journal) -> None:
        """Rebuilds both from where they were last written as one."""
        self.kept.replay(journal.read_stream(kept.KEPT_STREAM, since=KeptSaved.__name__))
        self.used.replay(journal.read_stream(used.USED_STREAM, since=UsedSaved.__name__))

    def begin(self, turn: Turn, now: int) -> None:
        """Calls of this node that were under way have ended with its process."""
        turn.apply(self.used, CallsLost(), now, "restart")

    def hear(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> str:
        """What is for one of the machines; gives why a call of the owner is not to be made. No tab is wanted beyond what this node may owe."""
        why_not = used_machine.why_not_called(self.used.state, stimulus) if isinstance(stimulus, CallTried) else ""
        if isinstance(stimulus, TabTried) and not stimulus.only_asks:
            asked = max(0, used_machine.asked_for(self.used.state, stimulus))
            left = self._paying.obligations.left(stimulus.provider)
            if asked > left:
                why = f"{format_credits(max(0, left))} is all that this node may still come to owe there"
                self._paying.tab_ready(TabReady(stimulus.tab_id, why))
                return why_not
            self._hold(turn, stimulus, asked)
        if isinstance(stimulus, SignatureHeard):
            self._hear_signature(turn, stimulus, now, cause_id)
        elif type(stimulus) in kept_machine.STIMULI:
            turn.apply(self.kept, stimulus, now, cause_id)
        else:
            turn.apply(self.used, stimulus, now, cause_id)
        return why_not

    def _hold(self, turn: Turn, tried: TabTried, asked: int) -> None:
        """What is asked for counts at once: another tab may be wanted before this is written."""
        obligations, wanted = self._paying.obligations, RequestId(tried.tab_id)
        obligations.hold(wanted, {tried.provider: asked})
        turn.once_undone(lambda: obligations.stake(wanted, {}))
        self._staked = {**self._staked, tried.tab_id: (tried.provider, asked)}

    def _hear_signature(self, turn: Turn, stimulus: SignatureHeard, now: int, cause_id: str) -> None:
        left = stimulus.credit - self._unseen(stimulus.caller, stimulus.known)
        signed = msgspec.structs.replace(stimulus, credit=left)
        for event in turn.apply(self.kept, signed, now, cause_id).events:
            if isinstance(event, TabAgreed):
                self._agreed += 1
                self._untold[self._agreed] = event.terms

    def _unseen(self, caller: PeerId, known: int) -> int:
        """What a caller's tabs may come to that were agreed after the node was told of so many: its credit is without them."""
        self._untold = {number: terms for number, terms in self._untold.items() if number > known}
        return sum(terms.max_price for terms in self._untold.values() if terms.caller == caller)

    def ask(self, turn: Turn, question: TabQuestion, services: Services, pool: Pool, now: int) -> None:
        """A peer wants to know what calls of a service cost; who may not call does not learn whether there is one."""
        caller, wanted, tariff, credit, known, refused, cause_id = question
        found = services.by_name.get(wanted.service)
        terms = None
        if not refused and (found is None or not found.is_offered):
            refused = f"the service {wanted.service} is not offered there"
        elif found is not None:
            size = found.service.image.size
            terms = TabTerms(
                wanted.tab_id,
                wanted.service,
                caller,
                self._paying.me,
                size,
                tariff_of(tariff, size, pool.capacity),
                wanted.max_price,
                pool.rules.call_ms,
            )
        turn.apply(
            self.kept, TabAsked(caller, wanted, terms, refused, credit - self._unseen(caller, known)), now, cause_id
        )

    def lets_in(self, turn: Turn, called: Called, now: int, cause_id: str) -> bool:
        """Whether a call is free, or its tab lets it in; else whoever calls is told."""
        if not called.tab:
            return True
        size = called.service.image.size
        entering = CallEntering(called.call_id, called.user, called.tab, called.service.name, size)
        effects = turn.apply(self.kept, entering, now, cause_id).effects
        return not any(isinstance(effect, TurnAway) for effect in effects)

    def follow(  # noqa: PLR0917 - what the pool has met and decided
        self, turn: Turn, before: Pool, after: Pool, met: Iterable[Stimulus | Event], now: int, cause_id: str
    ) -> None:
        """Calls that are over in the pool are billed if they ran to their end; a virtual container that is closed ends its tab."""
        met = tuple(met)
        ran = {each.call_id: each.usage.wall_ms or None for each in met if isinstance(each, CallEnded)}
        failed = {each.container_id for each in met if isinstance(each, ContainerDied) and _has_failed(before, each)}
        for call_id in self.kept.state.under_way:
            if call_id not in after.calls:
                turn.apply(self.kept, _call_left(call_id, before.calls.get(call_id), ran, failed, now), now, cause_id)
        at_work = {call.container_id for call in before.calls.values() if failed and call.delivered_at}
        for container_id in failed - at_work:
            turn.apply(self.kept, ContainerFailed(container_id), now, cause_id)
        for each in met:
            if isinstance(each, VirtualClosed) and (virtual := before.virtual.get(each.virtual_id)) is not None:
                turn.apply(self.kept, ServiceLeft(virtual.user, virtual.service.name), now, cause_id)

    def tell_again(self) -> None:
        """The node actor is built anew, and knows of nothing that is held."""
        self._held, self._told = {}, NEVER

    def stake(self) -> None:
        """What may come to be owed on tabs counts with what jobs may, here and elsewhere."""
        held = kept_machine.held(self.kept.state)
        peers = self._held.keys() | held.keys()
        changed = {peer: held.get(peer, 0) for peer in peers if self._held.get(peer) != held.get(peer)}
        if changed or self._told != self._agreed:
            self._paying.tell_node(HeldOnTabs(changed, self._agreed))
        self._held, self._told = held, self._agreed
        stakes = used_machine.stakes(self.used.state)
        for tab_id in self._staked.keys() | stakes.keys():
            if self._staked.get(tab_id) != stakes.get(tab_id):
                at_work = dict([stakes[tab_id]]) if tab_id in stakes else {}
                self._paying.obligations.stake(RequestId(tab_id), at_work)
        self._staked = stakes

    def blame(self, peer: PeerId) -> None:
        """A peer has sent what cannot be handled."""
        self._paying.tell_node(Blamed(peer, Offence.UNHANDLED))

    def perform(self, effect: Effect, cause_id: str) -> None:
        """Sends, books, tells whoever waits."""
        match effect:
            case Send(peer=peer, message=message):
                self._paying.send(peer, message, cause_id)
            case Book(entry=entry):
                self._paying.obligations.written(entry)
                self._paying.tell_node(Told(EntryWritten(entry), cause_id))
            case TabReady():
                self._paying.tab_ready(effect)
            case _:
                raise TypeError(f"no hands for {effect!r}")


def _has_failed(before: Pool, died: ContainerDied) -> bool:
    """Whether a container has ended, and not by the wish of this node."""
    container = before.containers.get(died.container_id)
    return container is not None and container.phase is not ContainerPhase.STOPPING


def _call_left(
    call_id: CallId, call: Call | None, ran: Mapping[CallId, int | None], failed: Collection[ContainerId], now: int
) -> CallLeft:
    if call is None or not call.delivered_at:
        return CallLeft(call_id)
    if call.container_id in failed:
        return CallLeft(call_id, max(0, now - call.delivered_at), call.container_id, has_failed=True)
    return CallLeft(call_id, ran.get(call_id), call.container_id)
