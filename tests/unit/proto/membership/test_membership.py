"""Who is there: greeting, refusing, probing, dialling, introducing, forgetting."""

from itertools import pairwise

import pytest

from dms_proto.capability import Capability
from dms_proto.ids import PeerId, uuid_of
from dms_proto.lineage import succeed
from dms_proto.membership import machine
from dms_proto.membership.machine import (
    ANSWER_EVERY_MS,
    ASK_EVERY_MS,
    ASKED_AT_ONCE,
    CLOCK_TOLERANCE_MS,
    FORGET_MS,
    MAX_PEERS,
    PROBE_AGAIN_MS,
    PROBE_EVERY_MS,
    PROBE_FIRST_MS,
    PROTOCOL_VERSION,
    REDIAL_MS,
    WANTED_PEERS,
    Dial,
    Drop,
    ForgetWished,
    HelloHeard,
    Inherit,
    Membership,
    PeerConnected,
    PeerDisconnected,
    PeerForgotten,
    PeerGreeted,
    PeerPhase,
    PeerRefused,
    PeerSucceeded,
    ProbeHeard,
    SelfDescribed,
    TellJoined,
    TellLost,
    after_restart,
)
from dms_proto.messages import Hello, KnownPeer, Probe
from dms_proto.sim.driven import Driven
from dms_proto.units import HOUR, SECOND
from dms_proto.wire import Signer

ME = PeerId("me")


class Circle(Driven[Membership]):
    def __init__(self) -> None:
        super().__init__(machine.decide, machine.evolve, machine.next_deadline, Membership(ME), now=10**12)
        self.tell(SelfDescribed(self.hello("me")))

    def hello(self, name: str, /, *, knows: tuple[str, ...] = (), **changed: object) -> Hello:
        told = tuple(KnownPeer(PeerId(peer), (f"/{peer}",)) for peer in knows)
        fields: dict[str, object] = {
            "version": PROTOCOL_VERSION,
            "software": "test",
            "now": self.now,
            "uuid": name,
            "name": name,
            "addresses": (f"/{name}",),
            "summary": Capability(),
            "peers": told,
        }
        return Hello(**(fields | changed))  # type: ignore[arg-type]

    def connects(self, name: str) -> None:
        self.tell(PeerConnected(PeerId(name), (f"/{name}",)))

    def succeeds(self, name: str, *before: str) -> None:
        """A peer connects and greets that had these names before, as was proven."""
        self.connects(name)
        self.tell(HelloHeard(PeerId(name), self.hello(name), tuple(map(PeerId, before))))

    def successions(self) -> list[tuple[str, str]]:
        """All that were written down."""
        return [(event.old, event.new) for event in self.log if isinstance(event, PeerSucceeded)]

    def greets(self, name: str, /, **said: object) -> None:
        self.tell(HelloHeard(PeerId(name), self.hello(name, **said)))  # type: ignore[arg-type]

    def meets(self, *names: str) -> None:
        for name in names:
            self.connects(name)
            self.greets(name)

    def fills(self) -> None:
        """As many peers as are wanted."""
        self.meets(*(f"full {number}" for number in range(WANTED_PEERS)))

    def phase(self, name: str) -> PeerPhase | None:
        known = self.state.peers.get(PeerId(name))
        return known.phase if known is not None else None

    def answers(self, name: str) -> None:
        nonce = self.state.peers[PeerId(name)].probe_nonce
        self.tell(ProbeHeard(PeerId(name), Probe(nonce, reply=True, now=self.now)))


# ------------------------------------------------------------------------------------------------------------------ greeting


def test_a_connection_is_greeted_and_the_hello_makes_a_peer() -> None:
    circle = Circle()
    circle.connects("a")
    assert circle.sent_to(Hello) == ["a"]
    assert circle.phase("a") is PeerPhase.CONNECTED

    circle.greets("a")

    assert circle.wanted(TellJoined) == [TellJoined(PeerId("a"))]
    assert circle.phase("a") is PeerPhase.GREETED


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"version": PROTOCOL_VERSION + 1}, "protocol version 2"),
        ({"now": 10**12 + CLOCK_TOLERANCE_MS + 1}, "clock is +30.0 s off"),
        ({"now": 10**12 - CLOCK_TOLERANCE_MS - 1}, "clock is -30.0 s off"),
    ],
    ids=["version", "fast clock", "slow clock"],
)
def test_a_peer_that_cannot_be_understood_is_refused_by_name(said: dict[str, object], why: str) -> None:
    circle = Circle()
    circle.connects("a")

    circle.greets("a", **said)

    (refused,) = circle.noted(PeerRefused)
    assert why in refused.why
    assert circle.wanted(Drop) == [Drop(PeerId("a"), refused.why)]
    assert circle.wanted(TellJoined) == []


def test_a_refused_peer_gets_another_chance_with_its_next_connection() -> None:
    circle = Circle()
    circle.connects("a")
    circle.greets("a", version=99)

    circle.meets("a")

    assert circle.phase("a") is PeerPhase.GREETED


def test_a_peer_whose_clock_runs_away_is_lost() -> None:
    circle = Circle()
    circle.meets("a")

    circle.greets("a", now=0)

    assert circle.wanted(TellLost) == [TellLost(PeerId("a"), ours=False)]


def test_what_a_peer_says_newly_of_itself_is_written_down_and_nothing_else() -> None:
    circle = Circle()
    circle.meets("a")

    circle.greets("a", name="renamed")
    assert len(circle.noted(PeerGreeted)) == 1
    circle.greets("a", name="renamed", knows=("b",))

    assert circle.noted(PeerGreeted) == []


def test_everybody_connected_is_told_what_changed() -> None:
    circle = Circle()
    circle.meets("a")
    circle.connects("b")

    circle.tell(SelfDescribed(circle.hello("new name")))
    assert circle.sent_to(Hello) == ["a", "b"]
    circle.tell(SelfDescribed(circle.hello("new name")))

    assert circle.effects == ()


# ---------------------------------------------------------------------------------------------------------------- introducing


def test_a_hello_names_the_peers_one_is_connected_to_but_not_its_reader() -> None:
    circle = Circle()
    circle.meets("a", "b")

    circle.connects("c")

    (hello,) = circle.sent(Hello)
    assert {told.peer for told in hello.peers} == {"a", "b"}


def test_named_peers_are_dialled_but_never_more_than_are_wanted() -> None:
    circle = Circle()
    circle.connects("a")

    circle.greets("a", knows=tuple(f"p{number}" for number in range(16)))
    assert len(circle.wanted(Dial)) == WANTED_PEERS - 1
    circle.connects("b")
    circle.greets("b", knows=tuple(f"q{number}" for number in range(16)))

    assert circle.wanted(Dial) == []


def test_dials_that_came_to_nothing_make_room_for_others_and_are_not_remembered() -> None:
    circle = Circle()
    circle.connects("a")
    circle.greets("a", knows=("p", "q"))

    circle.wait(2 * SECOND)

    assert circle.phase("p") is None
    circle.connects("b")
    circle.greets("b", knows=("r",))
    assert circle.wanted(Dial) == [Dial(PeerId("r"), ("/r",), PeerId("b"))]


def test_who_is_known_already_and_oneself_are_not_dialled() -> None:
    circle = Circle()
    circle.meets("a")

    circle.connects("b")
    circle.greets("b", knows=("me", "a"))

    assert circle.wanted(Dial) == []


def test_with_few_peers_some_are_asked_again_for_others() -> None:
    circle = Circle()
    circle.meets("a", "b", "c", "d")
    circle.wait(PROBE_FIRST_MS)
    for name in ("a", "b", "c", "d"):
        circle.answers(name)

    circle.wait(ASK_EVERY_MS - PROBE_FIRST_MS)
    assert len(circle.sent_to(Hello)) == ASKED_AT_ONCE
    circle.wait(SECOND)

    assert len(circle.sent_to(Hello)) == 1


def test_with_enough_peers_nobody_is_asked() -> None:
    circle = Circle()
    circle.fills()

    circle.wait(3 * ASK_EVERY_MS)

    assert circle.sent_to(Hello) == []


def test_a_repeated_hello_is_answered_once_and_answers_are_not_answered() -> None:
    circle = Circle()
    circle.meets("a")
    circle.now += ANSWER_EVERY_MS

    circle.greets("a")
    assert circle.sent_to(Hello) == ["a"]
    circle.greets("a")

    assert circle.sent_to(Hello) == []


def test_two_circles_that_say_hello_again_fall_silent() -> None:
    hears, says = Circle(), Circle()
    for circle in (hears, says):
        circle.meets("peer")
        circle.now += ANSWER_EVERY_MS
    exchanged = 0
    hears.greets("peer")
    while hears.sent_to(Hello) and exchanged < 10:
        exchanged += 1
        hears, says = says, hears
        hears.greets("peer")

    assert exchanged <= 2


# ------------------------------------------------------------------------------------------------------------------- probing


def test_a_peer_is_probed_soon_after_its_greeting_and_the_way_measured() -> None:
    circle = Circle()
    circle.meets("a")
    circle.wait(PROBE_FIRST_MS)
    assert circle.sent_to(Probe) == ["a"]
    circle.now += 37

    circle.answers("a")

    assert circle.state.peers[PeerId("a")].rtt_ms == 37


def test_a_peer_that_answers_is_probed_now_and_then() -> None:
    circle = Circle()
    circle.meets("a")
    circle.wait(PROBE_FIRST_MS)
    circle.answers("a")
    probes = 0
    for _ in range(60):
        circle.wait(30 * SECOND)
        if circle.sent(Probe):
            probes += 1
            circle.answers("a")

    assert 4 <= probes <= 8
    assert PROBE_EVERY_MS * probes > 15 * 60 * SECOND


def test_probes_of_many_peers_are_sent_together() -> None:
    circle = Circle()
    for number in range(WANTED_PEERS):
        circle.meets(f"p{number}")
        circle.now += 300
    circle.wait(PROBE_FIRST_MS)
    for number in range(WANTED_PEERS):
        circle.answers(f"p{number}")
    wakes = 0
    until = circle.now + PROBE_EVERY_MS + 30 * SECOND
    while circle.now < until:
        circle.wait(SECOND)
        wakes += bool(circle.sent(Probe))
        for peer in circle.sent_to(Probe):
            circle.answers(peer)

    assert wakes <= 2


def test_a_peer_that_does_not_answer_is_asked_again_and_then_given_up() -> None:
    circle = Circle()
    circle.meets("a")
    circle.wait(PROBE_FIRST_MS)
    circle.wait(PROBE_AGAIN_MS)
    assert circle.sent_to(Probe) == ["a"]

    circle.wait(PROBE_AGAIN_MS)

    assert circle.wanted(TellLost) == [TellLost(PeerId("a"), ours=False)]
    assert [effect.peer for effect in circle.wanted(Drop)] == ["a"]
    assert circle.phase("a") is PeerPhase.MET


def test_a_probe_is_answered_with_its_own_nonce() -> None:
    circle = Circle()
    circle.meets("a")

    circle.tell(ProbeHeard(PeerId("a"), Probe(77)))

    assert [(probe.nonce, probe.reply) for probe in circle.sent(Probe)] == [(77, True)]


def test_answers_that_were_not_asked_for_change_nothing() -> None:
    circle = Circle()
    circle.meets("a")

    circle.tell(ProbeHeard(PeerId("a"), Probe(77, reply=True)))
    circle.tell(ProbeHeard(PeerId("stranger"), Probe(0, reply=True)))

    assert circle.events == ()


# -------------------------------------------------------------------------------------------------------- leaving, dialling


def test_who_leaves_is_told_to_those_who_depend_on_it() -> None:
    circle = Circle()
    circle.meets("a")

    circle.tell(PeerDisconnected(PeerId("a"), "lost"))
    assert circle.wanted(TellLost) == [TellLost(PeerId("a"), ours=False)]
    circle.tell(PeerDisconnected(PeerId("a"), "lost"))

    assert circle.events == ()


def test_when_our_own_network_is_down_it_is_said_to_be_ours() -> None:
    circle = Circle()
    circle.meets("a")

    circle.tell(PeerDisconnected(PeerId("a"), "network_down"))

    assert circle.wanted(TellLost) == [TellLost(PeerId("a"), ours=True)]


def test_who_was_never_greeted_is_missed_by_nobody() -> None:
    circle = Circle()
    circle.connects("a")

    circle.tell(PeerDisconnected(PeerId("a"), "lost"))

    assert circle.wanted(TellLost) == []


def test_a_lost_peer_is_dialled_again_less_and_less_often() -> None:
    circle = Circle()
    circle.meets("a")
    circle.tell(PeerDisconnected(PeerId("a"), "lost"))
    dials = []
    for _ in range(int(HOUR / SECOND)):
        circle.wait(SECOND)
        dials += [circle.now] * len(circle.wanted(Dial))

    pauses = [later - earlier for earlier, later in pairwise(dials)]
    assert pauses == sorted(pauses)
    assert pauses[0] <= REDIAL_MS[1]
    assert pauses[-1] == REDIAL_MS[-1]


def test_with_enough_peers_a_lost_one_is_not_dialled() -> None:
    circle = Circle()
    circle.fills()
    circle.meets("a")
    circle.tell(PeerDisconnected(PeerId("a"), "lost"))

    circle.wait(10 * SECOND)

    assert circle.wanted(Dial) == []


def test_who_was_not_seen_for_a_week_is_forgotten() -> None:
    circle = Circle()
    circle.meets("a")
    circle.tell(PeerDisconnected(PeerId("a"), "lost"))

    circle.wait(FORGET_MS + HOUR)

    assert circle.phase("a") is None


def test_forgetting_a_peer_drops_it() -> None:
    circle = Circle()
    circle.meets("a")

    circle.tell(ForgetWished(PeerId("a")))

    assert [type(event) for event in circle.events] == [PeerForgotten]
    assert circle.wanted(TellLost) == [TellLost(PeerId("a"), ours=False)]
    circle.tell(ForgetWished(PeerId("a")))
    assert circle.events == ()


def test_strangers_cannot_fill_the_memory() -> None:
    circle = Circle()
    for number in range(MAX_PEERS + 40):
        circle.meets(f"p{number}")
        circle.tell(PeerDisconnected(PeerId(f"p{number}"), "closed"))

    assert len(circle.state.peers) <= MAX_PEERS + 1
    assert circle.phase("p0") is None


def test_a_crowd_of_one_source_does_not_push_out_a_peer_that_is_away() -> None:
    """An eclipse attempt: who is away for a while would be forgotten, and everybody left would be the attacker."""
    circle = Circle()
    circle.tell(PeerConnected(PeerId("honest"), ("/memory/honest",), remote="20.0.0.1"))
    circle.greets("honest")
    circle.tell(PeerDisconnected(PeerId("honest"), "lost"))
    for number in range(2 * MAX_PEERS):
        sybil = f"sybil {number}"
        circle.wait(10)
        circle.tell(PeerConnected(PeerId(sybil), (f"/memory/{sybil}",), remote=f"30.0.0.{number % 256}"))
        circle.greets(sybil, knows=(f"named by {number}",))
        circle.tell(PeerDisconnected(PeerId(sybil), "closed"))

    assert len(circle.state.peers) <= MAX_PEERS + WANTED_PEERS
    assert circle.phase("honest") is PeerPhase.MET


# ------------------------------------------------------------------------------------------------------------------ restarting


def test_after_a_restart_nobody_is_connected_and_those_with_an_address_are_dialled() -> None:
    circle = Circle()
    circle.meets("a", "b")
    circle.connects("c")

    state = after_restart(circle.restart())

    assert {peer.phase for peer in state.peers.values()} == {PeerPhase.MET}
    assert {effect.peer for effect in machine.resume(state) if isinstance(effect, Dial)} == {"a", "b", "c"}


def test_measurements_and_probes_are_not_written_down() -> None:
    circle = Circle()
    circle.meets("a")
    written = len(circle.log)

    circle.wait(HOUR)

    assert {type(event).__name__ for event in circle.log[written:]} <= {"PeerLeft"}


@pytest.mark.parametrize("says_bye", [True, False])
@pytest.mark.parametrize("connects", [True, False])
def test_invented_peers_that_name_invented_peers_do_not_grow_the_table(connects: bool, says_bye: bool) -> None:
    circle = Circle()
    for number in range(2 * MAX_PEERS):
        if connects:
            circle.connects(f"invented {number}")
        circle.greets(f"invented {number}", knows=tuple(f"named by {number}: {n}" for n in range(16)))
        if says_bye or number > MAX_PEERS // 2:  # connections are bounded by the network process
            circle.tell(PeerDisconnected(PeerId(f"invented {number}"), "lost"))
        circle.wait(SECOND)
        assert len(circle.state.peers) <= MAX_PEERS + WANTED_PEERS


def test_refused_peers_do_not_grow_the_table() -> None:
    circle = Circle()
    for number in range(2 * MAX_PEERS):
        circle.greets(f"invented {number}", version=PROTOCOL_VERSION + 1)
        assert len(circle.state.peers) <= MAX_PEERS + WANTED_PEERS


# ---------------------------------------------------------------------------------------------------------------- succession


def test_what_is_known_of_a_name_moves_to_its_successor_once() -> None:
    circle = Circle()
    circle.meets("old")
    circle.succeeds("new", "old")

    assert circle.wanted(Inherit) == [Inherit(PeerId("old"), PeerId("new"))]
    assert circle.wanted(TellLost) == [TellLost(PeerId("old"), ours=False)]
    assert (circle.phase("old"), circle.phase("new")) == (None, PeerPhase.GREETED)

    circle.succeeds("new", "old")

    assert circle.successions() == [("old", "new")]


def test_a_name_that_was_succeeded_takes_no_part_any_more() -> None:
    circle = Circle()
    circle.succeeds("new", "old")
    circle.meets("old")
    assert circle.phase("old") is PeerPhase.REFUSED
    assert "goes on as new" in circle.state.peers[PeerId("old")].refused_because


def test_of_two_that_succeed_the_same_key_the_first_heard_of_is_the_node() -> None:
    circle = Circle()
    circle.meets("old")
    circle.succeeds("new", "old")
    circle.succeeds("thief", "old")
    assert circle.phase("thief") is PeerPhase.REFUSED
    assert circle.phase("new") is PeerPhase.GREETED
    assert circle.successions() == [("old", "new")]


def test_a_chain_ends_at_its_present_name_however_much_of_it_was_missed() -> None:
    circle = Circle()
    circle.succeeds("second", "first")
    circle.succeeds("fourth", "first", "second", "third")
    assert set(circle.state.heirs.values()) == {"fourth"}
    assert circle.successions() == [("first", "second"), ("second", "fourth"), ("third", "fourth")]
    for name in ("first", "second", "third"):
        circle.meets(name)
        assert circle.phase(name) is PeerPhase.REFUSED


def test_an_identity_in_doubt_is_refused_by_name_and_succeeds_nobody() -> None:
    circle = Circle()
    circle.meets("old")
    circle.connects("new")
    circle.tell(HelloHeard(PeerId("new"), circle.hello("new"), (PeerId("old"),), doubt="its identity is not proven"))
    assert circle.state.peers[PeerId("new")].refused_because == "its identity is not proven"
    assert circle.phase("old") is PeerPhase.GREETED
    assert not circle.successions()


def test_earlier_names_are_forgotten_with_the_node_they_became() -> None:
    circle = Circle()
    circle.succeeds("new", "old")
    circle.tell(ForgetWished(PeerId("new")))
    assert circle.state.heirs == {}


def test_a_node_with_a_new_key_inherits_from_itself() -> None:
    circle = Circle()
    first, second = Signer(b"\x01" * 32), Signer(b"\x02" * 32)
    record = succeed(first, second, uuid_of(first.public_key), circle.now)
    circle.tell(SelfDescribed(circle.hello("me", successions=(record,))))
    assert circle.wanted(Inherit) == [Inherit(first.peer_id, ME)]
    circle.tell(SelfDescribed(circle.hello("me", successions=(record,), name="another")))
    assert not circle.wanted(Inherit)
    assert ME not in circle.state.peers
