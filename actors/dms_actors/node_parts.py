"""What the node actor is made of: its machines, the parts beside them, and how a stimulus reaches the machine that meets it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from dms_actors.asking import Asking
from dms_actors.behaviour import Runtime
from dms_actors.canaries import Canaries
from dms_actors.children import Children
from dms_actors.gate import Gate
from dms_actors.grant_reading import GrantReading
from dms_actors.letters import Told
from dms_actors.listeners import Listeners
from dms_actors.log_messages import LogMessages
from dms_actors.machine_actor import MachineActor
from dms_actors.meter import Meter
from dms_actors.past import Past
from dms_actors.proofs import ProviderProofs
from dms_actors.providers import Providers
from dms_actors.shell import Machine, Shell, Turn
from dms_actors.spared import Spared
from dms_actors.strangers import Strangers
from dms_actors.world import World
from dms_proto.accounts import machine as accounting
from dms_proto.accounts.book import Accounts
from dms_proto.accounts.machine import ACCOUNTS_STREAM, EntryWritten
from dms_proto.capability import Price
from dms_proto.fair_memory import FairMemory
from dms_proto.grants import trust
from dms_proto.grants.trust import Trust
from dms_proto.heirs import PeerRenamed
from dms_proto.ids import BidId, PeerId
from dms_proto.machine import Event, Stimulus
from dms_proto.market import offer_book, offer_fold, offer_state
from dms_proto.market.candidates import BidderFacts
from dms_proto.market.offer_judgement import is_known
from dms_proto.market.offer_state import CreditSeen, OfferBook
from dms_proto.membership import machine as membership
from dms_proto.membership.machine import Membership
from dms_proto.messages import Hello
from dms_proto.reputation.silence import FIRST_PAUSE_MS

MARKET_STREAM: Final = "market"
PEERS_STREAM: Final = "peers"
TRUST_STREAM: Final = "trust"
MOST_SEALS: Final = 4_096
"""Sealed bids whose opening is heard even if nothing more may be written for its bidder by then; who has most makes room."""
BOOK: Final[Machine[OfferBook]] = Machine(
    offer_book.decide, offer_fold.evolve, offer_book.next_deadline, offer_book.resume
)
TRUST: Final[Machine[Trust]] = Machine(trust.decide, trust.evolve, trust.next_deadline, trust.resume)
MEMBERS: Final[Machine[Membership]] = Machine(
    membership.decide, membership.evolve, membership.next_deadline, membership.resume
)
ACCOUNTS: Final[Machine[Accounts]] = Machine(
    accounting.decide, accounting.evolve, accounting.next_deadline, accounting.resume
)


class NodeParts(MachineActor):
    """The machines of a node and what goes with them; `node_hearing` and `node` say what happens."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        world: World,
        gate: Gate,
        strangers: Strangers,
        book: OfferBook,
        accounts: Accounts,
        hello: Hello,
        ask_directly: bool = True,
        spot_check_price: int = 0,
        silence_pause_ms: int = FIRST_PAUSE_MS,
    ) -> None:
        self.book = Shell(BOOK, MARKET_STREAM, book)
        self.members = Shell(MEMBERS, PEERS_STREAM, Membership(book.me))
        self.accounts = Shell(ACCOUNTS, ACCOUNTS_STREAM, accounts)
        former = tuple(PeerId(record.old) for record in hello.successions)
        self.grants = Shell(TRUST, TRUST_STREAM, Trust(book.me, former))
        super().__init__(world.journal, (self.book, self.members, self.accounts, self.grants), world.mishaps)
        self._peer_id = book.me
        self._hello = hello
        self._world = world
        self._gate = gate
        self._strangers = strangers
        self._meter = Meter(strangers, self._is_named)
        self._spared = Spared(strangers, world.post.spare)
        self._reading = GrantReading(world.read_grant, strangers.source, strangers.is_let_in)
        self._appliers: dict[type[Stimulus], Callable[[Turn, Any, int, str], None]] = {
            kind: apply
            for table, apply in (
                (trust.TABLE, self._apply_to_grants),
                (accounting.TABLE, self._account),
                (membership.TABLE, self._apply_to_members),
                (offer_book.TABLE, self._apply_to_book),
            )
            for _, kind in table
        }
        self._appliers[PeerRenamed] = self._rename  # met by more than one of them
        self._provides = hello.accepts_work
        self._ask_directly = ask_directly
        self._asking = Asking(runtime.clock(), world.seekers)
        self._children = Children(runtime, world, self)
        self._providers = Providers(strangers.source, lambda peer: is_known(self.book.state, peer), silence_pause_ms)
        self._canaries = Canaries(world.journal, world.collector.is_here, self._children.open_request)
        self._seals: FairMemory[tuple[PeerId, BidId], int] = FairMemory(MOST_SEALS)
        self._listeners = Listeners()
        self._held_on_tabs = Counter[PeerId]()
        self._tabs_known = 0
        self._spot_check_price = spot_check_price
        self._logs = LogMessages(world, self._children, self._listeners, self.book)
        self._past = Past(world.journal)
        self._proofs = ProviderProofs(world.journal, strangers.source)

    # ---------------------------------------------------------------------------------------------------------- stimuli

    def _decide(self, turn: Turn, shell: Shell[Any], stimulus: Stimulus, now: int, cause_id: str) -> Sequence[Event]:
        """Lets a machine decide; whoever its events are owed to pays for them in the log budget."""
        written = len(turn.rows)
        events = turn.apply(shell, stimulus, now, cause_id).events
        self._meter.decided(events, turn.rows[written:], now)
        return events

    def _apply(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        apply = self._appliers.get(type(stimulus))
        if apply is None:
            raise TypeError(f"no machine of the node meets {stimulus!r}")
        apply(turn, stimulus, now, cause_id)

    def _apply_to_book(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        if self._decide(turn, self.book, stimulus, now, cause_id):
            self._describe(turn, now)

    def _apply_to_members(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        self._decide(turn, self.members, stimulus, now, cause_id)

    def _apply_to_grants(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        events = turn.apply(self.grants, stimulus, now, cause_id).events
        if any(map(trust.takes_back, events)):
            self._spared.settle(self._strangers.doubt_grants(), now)
        if events:
            self._spare_named(now)
            self._describe(turn, now)

    def _account(self, turn: Turn, stimulus: Stimulus, now: int, cause_id: str) -> None:
        """What changes what a peer owes, or may owe, changes which of its requests are bid on."""
        limits = self.accounts.state.limits
        for event in self._decide(turn, self.accounts, stimulus, now, cause_id):
            self._show_credit(turn, self.accounts.state.present(accounting.concerned(event)), now, cause_id)
        if self.accounts.state.limits is not limits:
            self._spare_named(now)
        if isinstance(stimulus, EntryWritten) and (heir := self.members.state.heirs.get(stimulus.entry.peer)):
            # Its accounts begin with work that was agreed under a name that is over: there was nothing to inherit before.
            self._rename(turn, PeerRenamed(stimulus.entry.peer, heir), now, cause_id)

    def _rename(self, turn: Turn, renamed: PeerRenamed, now: int, cause_id: str) -> None:
        self._gate.inherit(renamed.old, renamed.new, now)
        self._strangers.inherit(renamed.old, renamed.new)
        self._spared.settle((renamed.new,), now)
        self._account(turn, renamed, now, cause_id)
        self._apply_to_book(turn, renamed, now, cause_id)

    def _show_credit(self, turn: Turn, peer: PeerId, now: int, cause_id: str) -> None:
        """What it may still come to owe beside what it has at stake in the book: what is held for its tabs is not there."""
        on_tabs = sum(self._held_on_tabs[name] for name in self.accounts.state.names(peer))
        left = self.accounts.state.credit(peer) - on_tabs
        self._decide(turn, self.book, CreditSeen(peer, left), now, cause_id)

    # ------------------------------------------------------------- what it says of itself, and whom its owner has named

    def _describe(self, turn: Turn, now: int) -> None:
        """Tells the peers when what this node says of itself has changed: addresses, capability, whether it takes work."""
        book = self.book.state
        summary = msgspec.structs.replace(book.capability, price=Price())
        accepts = self._provides and book.phase is offer_state.BookPhase.OPEN and book.owner is None
        grants = self.grants.state
        hello = msgspec.structs.replace(
            self._hello,
            summary=summary,
            accepts_work=accepts,
            anchors=grants.anchors if book.policy.asks_for_grants else (),
            revoked=grants.told(now),
        )
        turn.apply(self.members, membership.SelfDescribed(hello), now, "self")

    def _inherit(self, old: PeerId, new: PeerId) -> None:
        """A peer has proven a new name: what was seen of it, what it owes, has at stake and is kept away for go with it.

        Also said anew at each start; a repeat changes nothing.
        """
        self._providers.inherit(old, new)
        self._world.post.inherit(old, new)
        if self.me is not None:
            self.me.tell(Told(PeerRenamed(old, new), "succession"))

    def _is_named(self, peer: PeerId) -> bool:
        """Whether the owner has named a peer: what it causes to be written is the owner's wish."""
        named = is_known(self.book.state, peer) or peer in self.grants.state.anchors
        return named or peer in self.accounts.state.limits

    def _spare_named(self, now: int) -> None:
        let_in = dict.fromkeys((*self.grants.state.added, *self.accounts.state.limits), 0)
        self._spared.name({**self.grants.state.holders, **let_in}, now)

    def _facts(self, peer: PeerId, now: int) -> BidderFacts:
        return self._providers.facts(peer, self.members.state.peers.get(peer), now, own=peer == self._peer_id)
