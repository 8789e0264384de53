"""Whom a node believes: anchors, revocations, and what a shown grant is worth."""

from __future__ import annotations

import pytest

from dms_proto.grants import trust as machine
from dms_proto.grants.revocations import is_genuine, revoke
from dms_proto.grants.rights import TIME, Rights
from dms_proto.grants.trust import (
    MAX_HONOURED,
    MAX_ISSUED,
    AnchorWished,
    GrantMade,
    Proven,
    RevocationsHeard,
    Trust,
)
from dms_proto.ids import GrantId, PeerId, grant_id
from dms_proto.messages import Revocation
from dms_proto.messages.kinds import MAX_ANCHORS, MAX_REVOKED
from dms_proto.sim.driven import Driven
from dms_proto.wire import CLOCK_SKEW_MS, Signer

ME, ANCHOR, STRANGER = (Signer(bytes([number]) * 32) for number in (1, 2, 3))
ASKER = Signer(b"\x04" * 32).peer_id
NOW = 10**12
EVERYTHING = Rights()
ROOT, CHILD = grant_id(b"root"), grant_id(b"child")


class Believer(Driven[Trust]):
    def __init__(self) -> None:
        super().__init__(machine.decide, machine.evolve, machine.next_deadline, Trust(ME.peer_id), now=NOW)
        self.reads = 0

    def flaw(
        self, rights: Rights = EVERYTHING, *, issuer: Signer = ME, begun: bool = False, auth: bytes | None = None
    ) -> str:
        """Why a grant with these rights does not count for ASKER; empty when it does."""

        def read(_auth: bytes) -> Proven:
            self.reads += 1
            return Proven(issuer.peer_id, (ROOT, CHILD), rights)

        shown = issuer.public_key + b"token" if auth is None else auth
        credential = self.state.credential(shown, ASKER, self.now, read, begun=begun)
        assert (credential.rights is None) == bool(credential.flaw)
        assert credential.anchors == self.state.anchors
        return credential.flaw


def revocation(signer: Signer, id_: GrantId = ROOT, until: int = 0) -> RevocationsHeard:
    return RevocationsHeard((revoke(signer, id_, until),))


def test_the_node_believes_itself_and_its_anchors_only() -> None:
    node = Believer()
    assert node.flaw() == ""
    assert "not accepted here" in node.flaw(issuer=ANCHOR)
    node.tell(AnchorWished(ANCHOR.peer_id))
    assert node.flaw(issuer=ANCHOR) == ""
    node.tell(AnchorWished(ANCHOR.peer_id, wanted=False))
    assert "not accepted here" in node.flaw(issuer=ANCHOR)


def test_a_grant_of_a_stranger_is_not_even_verified() -> None:
    node = Believer()
    node.flaw(issuer=STRANGER)
    node.flaw(auth=b"")
    node.flaw(auth=b"short")
    assert node.reads == 0


def test_the_node_cannot_be_made_to_distrust_itself_and_the_list_of_anchors_is_bounded() -> None:
    node = Believer()
    node.tell(AnchorWished(ME.peer_id, wanted=False))
    for number in range(100):
        node.tell(AnchorWished(Signer(number.to_bytes(32, "big")).peer_id))
    assert node.state.anchors[0] == ME.peer_id
    assert len(node.state.anchors) == MAX_ANCHORS


def test_a_grant_ends_with_the_tolerance_for_clocks_and_what_was_begun_goes_on() -> None:
    node = Believer()
    at_the_edge = Rights({TIME: NOW - CLOCK_SKEW_MS})
    past_it = Rights({TIME: NOW - CLOCK_SKEW_MS - 1000})
    assert node.flaw(at_the_edge) == ""
    assert node.flaw(past_it) == "the grant ended 31 s ago"
    assert node.flaw(past_it, begun=True) == ""


def test_a_grant_for_others_does_not_count() -> None:
    assert Believer().flaw(Rights(one_of={"peer": (ANCHOR.peer_id,)})) == "the grant is for another node"
    assert Believer().flaw(Rights(one_of={"peer": (ASKER,)})) == ""


@pytest.mark.parametrize("id_", [ROOT, CHILD])
def test_a_revoked_grant_is_void_and_so_is_what_was_made_from_it(id_: GrantId) -> None:
    node = Believer()
    node.tell(revocation(ME, id_))
    assert "is revoked" in node.flaw()
    assert "is revoked" in node.flaw(begun=True)


def test_a_revocation_counts_from_the_issuer_or_this_node_and_from_nobody_else() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    node.tell(revocation(STRANGER))
    assert node.events == ()
    node.tell(revocation(ANCHOR))
    assert node.flaw() == "", "an anchor cannot void the grants of another"
    assert "is revoked" in node.flaw(issuer=ANCHOR)


def test_a_forged_revocation_is_not_taken() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    good = revoke(ANCHOR, ROOT, 0)
    for forged in (
        Revocation(CHILD, good.signer, good.until, good.signature),
        Revocation(good.grant_id, good.signer, 5, good.signature),
        Revocation(good.grant_id, ME.peer_id, good.until, good.signature),
        Revocation(good.grant_id, PeerId("12D3KooWnonsense"), good.until, good.signature),
    ):
        assert not is_genuine(forged)
        node.tell(RevocationsHeard((forged,)))
        assert node.events == ()


def test_the_same_word_twice_changes_nothing_and_is_told_on() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    node.tell(revocation(ANCHOR))
    assert node.state.told(node.now) == (revoke(ANCHOR, ROOT, 0),)
    node.tell(revocation(ANCHOR))
    assert node.events == ()


def test_what_ended_by_itself_need_not_be_remembered_or_told() -> None:
    node = Believer()
    node.tell(revocation(ME, ROOT, NOW + 1000))
    node.now += 10**6
    assert node.state.told(node.now) == ()
    node.tell(revocation(ME, CHILD, node.now + 1000))
    assert list(node.state.revoked) == [(CHILD, ME.peer_id)]


def test_an_anchor_cannot_make_the_node_remember_without_end() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    for number in range(MAX_HONOURED + 50):
        node.tell(revocation(ANCHOR, grant_id(b"%d" % number)))
    assert len(node.state.revoked) == MAX_HONOURED
    assert len(node.state.told(node.now)) == MAX_REVOKED
    node.tell(revocation(ME))
    assert (ROOT, ME.peer_id) in node.state.revoked


def test_issued_grants_are_listed_and_the_list_is_bounded() -> None:
    node = Believer()
    for number in range(MAX_ISSUED + 10):
        node.tell(GrantMade(grant_id(b"%d" % number), Rights()))
    assert len(node.state.issued) == MAX_ISSUED
    assert next(reversed(node.state.issued)) == grant_id(b"%d" % (MAX_ISSUED + 9))
