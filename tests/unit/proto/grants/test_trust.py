"""Whom a node believes: anchors, revocations, and what a shown grant is worth."""

from __future__ import annotations

import msgspec
import pytest

from dms_proto.grants import trust as machine
from dms_proto.grants.renewal import Renewal
from dms_proto.grants.revocations import is_genuine, revoke
from dms_proto.grants.rights import TIME, Rights
from dms_proto.grants.trust import (
    MAX_DELEGATED,
    MAX_FALSE,
    MAX_HONOURED,
    MAX_ISSUED,
    MAX_PROOFS_TOLD_BYTES,
    AnchorWished,
    GrantMade,
    GrantRenewed,
    Proven,
    Renew,
    RenewalAsked,
    RevocationsHeard,
    Trust,
)
from dms_proto.ids import GrantId, PeerId, grant_id, uuid_of
from dms_proto.lineage import succeed
from dms_proto.machine import Blame, Send
from dms_proto.messages import Refusal, Revocation
from dms_proto.messages.kinds import MAX_ANCHORS, MAX_GRANT_BYTES, MAX_REVOKED
from dms_proto.sim.driven import Driven
from dms_proto.succession import Successions
from dms_proto.units import HOUR
from dms_proto.wire import CLOCK_SKEW_MS, Offence, Signer

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


def delegated(
    delegator: Signer, id_: GrantId = CHILD, *, root: GrantId = ROOT, issuer: Signer = ANCHOR
) -> tuple[Revocation, Proven]:
    """A revocation by who says to have made `id_` of `root`, and what its proof says."""
    proof = issuer.public_key + b"proof of " + id_.encode() + delegator.public_key
    proven = Proven(issuer.peer_id, (root, id_), EVERYTHING, (PeerId(""), delegator.peer_id))
    return revoke(delegator, id_, 0, proof), proven


def hear(node: Believer, *told: tuple[Revocation, Proven]) -> None:
    """As the node does it: the machine is told what the proofs show."""
    proofs = {revocation.proof: proven for revocation, proven in told}
    revocations = tuple(revocation for revocation, _ in told)
    node.tell(RevocationsHeard(revocations, node.state.delegations(revocations, proofs.get)))


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


def test_of_what_is_told_at_once_no_more_is_looked_at_after_some_that_are_forged() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    good = revoke(ANCHOR, ROOT, 0)
    forged = [Revocation(GrantId(f"g-{n}"), good.signer, 0, good.signature) for n in range(MAX_FALSE)]
    node.tell(RevocationsHeard((*forged[1:], good)))
    assert len(node.events) == 1
    node.tell(RevocationsHeard((*forged, revoke(ANCHOR, CHILD, 0))))
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


# ----------------------------------------------------------------------------------------------------------------- delegators


def void(node: Believer, proven: Proven) -> bool:
    """Whether a grant that says this is revoked here."""
    return "is revoked" in node.state.credential(ANCHOR.public_key, ASKER, node.now, lambda _auth: proven).flaw


def test_whom_the_grants_of_a_node_name_holds_until_the_last_of_them_ends_or_is_revoked() -> None:
    node, former = Believer(), Signer(b"\x05" * 32)
    node.state = msgspec.structs.replace(node.state, former=(former.peer_id,))
    for number, rights in enumerate(
        (
            Rights({TIME: NOW + HOUR}, {"peer": ("a", "b")}),
            Rights({TIME: NOW + 2 * HOUR}, {"peer": ("a",)}),
            Rights(one_of={"peer": ("c",)}),
            Rights({TIME: NOW + HOUR}, {"peer": ("c",)}),
            Rights(),
        )
    ):
        node.tell(GrantMade(grant_id(f"{number}".encode()), rights))
    node.tell(GrantMade(grant_id(b"of another"), Rights(one_of={"peer": ("d",)}), b"what it was made of"))
    a, b, c = PeerId("a"), PeerId("b"), PeerId("c")
    assert node.state.holders == {a: NOW + 2 * HOUR, b: NOW + HOUR, c: 0}

    node.tell(revocation(ME, grant_id(b"1")))
    assert node.state.holders == {a: NOW + HOUR, b: NOW + HOUR, c: 0}
    node.tell(revocation(ME, grant_id(b"2")))
    assert node.state.holders == {a: NOW + HOUR, b: NOW + HOUR, c: NOW + HOUR}


def test_who_passed_a_grant_on_can_revoke_it_where_its_issuer_is_an_anchor() -> None:
    told = delegated(STRANGER)
    node = Believer()
    hear(node, told)
    assert node.events == (), "whose grant it is does not matter here"

    node.tell(AnchorWished(ANCHOR.peer_id))
    hear(node, told)
    assert void(node, told[1])
    assert node.state.told(node.now) == (told[0],), "it is told on, with what it rests on"
    hear(node, told)
    assert node.events == ()


def test_who_passed_a_grant_on_cannot_revoke_what_it_was_made_from_or_another_made_of_it() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    told, proven = delegated(STRANGER)
    hear(node, (revoke(STRANGER, ROOT, 0, told.proof), proven))
    hear(node, (revoke(STRANGER, grant_id(b"sister"), 0, told.proof), proven))
    assert not node.state.revoked

    hear(node, (told, proven))
    root = Proven(ANCHOR.peer_id, (ROOT,), EVERYTHING, (PeerId(""),))
    sister = Proven(ANCHOR.peer_id, (ROOT, grant_id(b"sister")), EVERYTHING, (PeerId(""), ME.peer_id))
    assert not void(node, root)
    assert not void(node, sister)


HEIR = Signer(b"\x0a" * 32)
UUID = uuid_of(STRANGER.public_key)
SUCCESSION = succeed(STRANGER, HEIR, UUID, NOW)


@pytest.mark.parametrize("is_anchor", [True, False])
def test_who_passed_a_grant_on_can_revoke_it_after_its_key_was_replaced(is_anchor: bool) -> None:
    """Also where it was never met under either name."""
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    if is_anchor:
        node.tell(AnchorWished(HEIR.peer_id))
    told, proven = delegated(STRANGER)
    told = revoke(HEIR, CHILD, 0, told.proof, (SUCCESSION,))
    hear(node, (told, proven))
    assert void(node, proven)
    assert node.restart() == node.state
    assert node.state.told(node.now) == (told,)
    hear(node, (told, proven))
    assert node.events == ()


@pytest.mark.parametrize(
    "successions",
    [
        (),
        (succeed(ME, HEIR, uuid_of(ME.public_key), NOW),),
        (msgspec.structs.replace(SUCCESSION, old_signature=bytes(64)),),
        (msgspec.structs.replace(SUCCESSION, new=ASKER),),
    ],
)
def test_who_has_not_proven_that_it_was_the_delegator_revokes_nothing(successions: Successions) -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    told, proven = delegated(STRANGER)
    hear(node, (revoke(HEIR, CHILD, 0, told.proof, successions), proven))
    assert not node.state.revoked


def test_a_word_about_a_grant_that_another_passed_on_counts_for_nothing() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    _, proven = delegated(STRANGER)
    other = Signer(b"\x09" * 32)
    hear(node, (revoke(other, CHILD, 0, ANCHOR.public_key + b"proof"), proven))
    assert not node.state.revoked
    forged = Revocation(CHILD, STRANGER.peer_id, 0, bytes(64), ANCHOR.public_key + b"proof")
    hear(node, (forged, proven))
    assert not node.state.revoked


def test_what_is_made_of_a_revoked_delegation_is_void_as_well() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    hear(node, delegated(STRANGER))
    grandchild = Proven(
        ANCHOR.peer_id, (ROOT, CHILD, grant_id(b"x")), EVERYTHING, (PeerId(""), STRANGER.peer_id, ASKER)
    )
    assert void(node, grandchild)


def test_who_holds_one_grant_cannot_make_the_node_remember_without_end_nor_crowd_out_others() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    for number in range(MAX_DELEGATED + 20):
        hear(node, delegated(Signer(number.to_bytes(32, "big")), grant_id(b"%d" % number)))
    assert len(node.state.revoked) == len(node.state.delegated) == MAX_DELEGATED

    hear(node, delegated(STRANGER, root=grant_id(b"another")))
    node.tell(revocation(ANCHOR))
    assert len(node.state.revoked) == MAX_DELEGATED + 2


def test_delegators_of_all_grants_of_an_anchor_together_are_bounded() -> None:
    node = Believer()
    node.tell(AnchorWished(ANCHOR.peer_id))
    for number in range(MAX_HONOURED + 20):
        hear(node, delegated(STRANGER, grant_id(b"%d" % number), root=grant_id(b"root %d" % number)))
    assert len(node.state.delegated) == MAX_HONOURED


def test_proofs_that_do_not_fit_into_a_hello_wait_for_the_next() -> None:
    node = Believer()
    for number in range(MAX_REVOKED):
        node.tell(RevocationsHeard((revoke(ME, grant_id(b"%d" % number), 0, bytes(MAX_GRANT_BYTES)),)))
    told = node.state.told(node.now)
    assert sum(len(one.proof) for one in told) <= MAX_PROOFS_TOLD_BYTES
    assert told[-1].grant_id == grant_id(b"%d" % (MAX_REVOKED - 1))


# --------------------------------------------------------------------------------------------------------------- renewals

RENEWAL = Renewal(NOW + 10 * HOUR, 3 * HOUR)


def held(
    end: int = NOW + HOUR, *, renewal: Renewal | None = RENEWAL, maker: PeerId = ME.peer_id, to: PeerId = ASKER
) -> Proven:
    """A grant of this node, near its end."""
    rights = Rights({TIME: end}, {"peer": (to,)})
    return Proven(ME.peer_id, (ROOT,), rights, (PeerId(""),), maker, ROOT, renewal)


def asks(node: Believer, proven: Proven) -> Renew | str:
    """What ASKER gets for its question: a renewal, or why not."""
    node.tell(RenewalAsked(ASKER, b"grant", proven))
    (effect,) = node.effects
    match effect:
        case Renew():
            return effect
        case Send(peer=peer, message=Refusal(code="not_granted", detail=detail)) if peer == ASKER:
            return detail
        case _:
            raise AssertionError(effect)


def test_a_grant_near_its_end_is_made_anew_as_was_promised_and_once_is_written_down() -> None:
    node = Believer()
    node.tell(GrantMade(ROOT, held().rights, renewal=RENEWAL))
    assert asks(node, held()) == Renew(ASKER, b"grant", NOW + 3 * HOUR)
    assert node.state.issued[ROOT].until == NOW + 3 * HOUR
    assert isinstance(node.log[-1], GrantRenewed)
    written = len(node.log)
    node.now += 60_000

    again = asks(node, held())  # the answer was lost, or another holder asks

    assert again == Renew(ASKER, b"grant", node.now + 3 * HOUR)
    assert len(node.log) == written


def test_it_is_made_anew_though_it_is_remembered_no_longer() -> None:
    """The promise stands in the grant."""
    assert isinstance(asks(Believer(), held()), Renew)


@pytest.mark.parametrize(
    ("proven", "why"),
    [
        (held()._replace(issuer=ANCHOR.peer_id, maker=ANCHOR.peer_id), "not made here"),
        (held()._replace(ids=(ROOT, CHILD), delegators=(PeerId(""), ME.peer_id)), "made of another"),
        (held(maker=PeerId("")), "made of another"),
        (held(to=STRANGER.peer_id), "for another node"),
        (held(NOW - CLOCK_SKEW_MS - 1000), "ended 31 s ago"),
        (held(renewal=None), "made to run out"),
        (held(NOW + 2 * HOUR), "not near its end"),
        (held(renewal=Renewal(NOW + HOUR, 3 * HOUR)), "to be renewed no longer"),
    ],
)
def test_what_was_not_promised_is_refused_by_name(proven: Proven, why: str) -> None:
    node = Believer()
    answer = asks(node, proven)
    assert isinstance(answer, str)
    assert why in answer
    assert not node.events


def test_what_is_revoked_is_not_made_anew_nor_what_stands_for_it() -> None:
    node = Believer()
    node.tell(RevocationsHeard((revoke(ME, ROOT, 0),)))
    renewed = held()._replace(ids=(ROOT, CHILD), delegators=(PeerId(""), PeerId("")))
    for proven in (held(), renewed):
        answer = asks(node, proven)
        assert isinstance(answer, str)
        assert "is revoked" in answer


def test_what_names_another_issuer_is_refused_unread() -> None:
    node = Believer()
    for grant in (b"junk", ANCHOR.public_key + b"junk"):
        node.tell(RenewalAsked(ASKER, grant, None))
        (send,) = node.effects
        assert isinstance(send, Send)
        assert isinstance(send.message, Refusal)
        assert "not made here" in send.message.detail


def test_what_is_no_grant_is_an_offence_and_not_answered() -> None:
    node = Believer()
    node.tell(RenewalAsked(ASKER, ME.public_key + b"junk", None))
    assert node.effects == (Blame(ASKER, Offence.MALFORMED),)
