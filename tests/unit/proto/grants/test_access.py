"""Who is served, and what those are told who are not."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dms_proto.capability import Gpu, JobClass, Resources
from dms_proto.grants.access import Access, Credential, refusals, stricter
from dms_proto.grants.rights import CEILINGS, Rights, uses_of
from dms_proto.ids import Digest, PeerId
from dms_proto.market.agreement import agreement_on, terms_digest
from dms_proto.market.offer_state import CommitHeard, RequestHeard
from dms_proto.market.preferences import ProviderPolicy
from dms_proto.messages import Bid, Commit, CommitAck, CommitRefusal, CommitRefused, Decline
from dms_proto.sim.provider import MACHINE, TARIFF, TASK, Provider, request
from dms_proto.units import CORE, GIB, HOUR

A100 = Gpu("0", "nvidia", "A100", 40 * GIB)
ANCHOR = PeerId("12D3KooWanchor")
ASKER = PeerId("asker")
NONE = Credential(anchors=(ANCHOR,))
ALL = Credential(Rights(), "", (ANCHOR,))
OWN = Credential(Rights(own=True), "", (ANCHOR,))


def provider(**policy: Any) -> Provider:
    machine = msgspec.structs.replace(MACHINE, resources=Resources(4 * CORE, 8 * GIB, GIB, (A100,)))
    return Provider(machine, ProviderPolicy(tariff=TARIFF, **policy))


def answer(there: Provider, credential: Credential, **asked: Any) -> Bid | tuple[str, ...]:
    there.tell(RequestHeard(ASKER, request(**asked), credential))
    for declined in there.sent(Decline):
        return tuple(clause.observed for clause in declined.clauses)
    (bid,) = there.sent(Bid)
    return bid


def agreed(there: Provider, bid: Bid) -> Digest:
    """The terms under which the asker commits to a bid."""
    return terms_digest(agreement_on(bid, request().needs, ASKER, there.state.me, (0,)))


@pytest.mark.parametrize(
    ("access", "credential", "served"),
    [
        (Access.PUBLIC, NONE, True),
        (Access.AUTHORISED, NONE, False),
        (Access.AUTHORISED, ALL, True),
        (Access.AUTHORISED, OWN, True),
        (Access.OWN, ALL, False),
        (Access.OWN, OWN, True),
    ],
)
def test_who_is_served(access: Access, credential: Credential, served: bool) -> None:
    assert isinstance(answer(provider(access=access), credential), Bid) == served


def test_gpus_can_need_more_than_the_rest() -> None:
    there = provider(gpu_access=Access.AUTHORISED)
    assert isinstance(answer(there, NONE), Bid)
    assert answer(there, NONE, name="gpu", gpus=(Gpu(),)) == ("no grant was shown",)
    assert isinstance(answer(there, ALL, name="granted", gpus=(Gpu(),)), Bid)
    assert stricter(Access.OWN, Access.PUBLIC) is stricter(Access.PUBLIC, Access.OWN) is Access.OWN


def test_own_machines_pay_nothing_by_grant_or_by_their_owners_word() -> None:
    for there, credential in (
        (provider(access=Access.OWN), OWN),
        (provider(access=Access.OWN, own_peers=(ASKER,)), NONE),
    ):
        bid = answer(there, credential)
        assert isinstance(bid, Bid)
        assert bid.price == 0


def test_a_commit_needs_the_right_when_it_comes() -> None:
    """The grant was revoked after the bid: the lock stays until it lapses, and nothing runs."""
    there = provider(access=Access.AUTHORISED)
    bid = answer(there, ALL)
    assert isinstance(bid, Bid)
    commit = Commit(bid.request_id, bid.bid_id, (0,), (TASK,), terms=agreed(there, bid))
    there.tell(CommitHeard(ASKER, commit, Credential(flaw="the grant g-abc is revoked", anchors=(ANCHOR,))))
    (refused,) = there.sent(CommitRefused)
    assert refused.refusal is CommitRefusal.NOT_GRANTED
    assert "is revoked" in refused.detail
    there.tell(CommitHeard(ASKER, commit, ALL))
    assert there.sent(CommitAck)
    there.check()


def test_a_repeated_commit_gets_its_answer_again_whatever_became_of_the_grant() -> None:
    there = provider(access=Access.AUTHORISED)
    bid = answer(there, ALL)
    assert isinstance(bid, Bid)
    commit = Commit(bid.request_id, bid.bid_id, (0,), terms=agreed(there, bid))
    there.tell(CommitHeard(ASKER, commit, ALL))
    there.tell(CommitHeard(ASKER, commit, NONE))
    assert there.sent(CommitAck)


def test_a_standing_request_is_bid_on_with_the_rights_it_came_with() -> None:
    there = provider(access=Access.OWN)
    first = answer(there, OWN, cores=4)
    assert isinstance(first, Bid)
    there.tell(RequestHeard(ASKER, request("later", cores=4, stands_ms=60_000), OWN))
    (declined,) = there.sent(Decline)
    assert all(clause.passing for clause in declined.clauses)
    there.wait(12_000)  # the first bid lapses
    (bid,) = there.sent(Bid)
    assert bid.price == 0


@pytest.mark.parametrize("name", CEILINGS)
def test_every_ceiling_is_asked_about(name: str) -> None:
    asked = request(cores=2, count=3)
    resources = Resources(2 * CORE, GIB, GIB, (Gpu(),))
    needs = msgspec.structs.replace(asked.needs, resources=resources, max_wall_ms=HOUR, job_classes=(JobClass.BATCH,))
    asked = msgspec.structs.replace(asked, needs=needs, max_price=7)
    amount = CEILINGS[name].of(asked)
    assert amount > 0
    for most, missing in ((amount, 0), (amount - 1, 1)):
        found = tuple(refusals(Access.AUTHORISED, uses_of(asked), Credential(Rights({name: most}), "", (ANCHOR,))))
        assert len(found) == missing
    (clause,) = found
    assert clause.dimension == "grant"
    assert clause.nearest == f"a grant with more {CEILINGS[name].words} from {ANCHOR}"


def test_a_class_that_is_not_granted_is_named() -> None:
    needs = msgspec.structs.replace(request().needs, job_classes=(JobClass.SERVICE,))
    asked = msgspec.structs.replace(request(), needs=needs)
    rights = Rights(one_of={"job_class": ("batch",)})
    (clause,) = refusals(Access.AUTHORISED, uses_of(asked), Credential(rights, "", (ANCHOR, ASKER)))
    assert (clause.wanted, clause.observed) == ("job classes service", "granted: job classes batch")
    assert clause.nearest == f"a grant with job classes service from one of {ANCHOR}, {ASKER}"


def test_a_dry_run_needs_the_right_to_ask_alone() -> None:
    there, may_ask = provider(access=Access.AUTHORISED), Credential(Rights(one_of={"kind": ("request",)}), "")
    assert isinstance(answer(there, may_ask, dry_run=True), Bid)
    assert answer(there, may_ask) == ("granted: rights request",)


def test_who_shows_nothing_is_told_all_the_rights_that_a_job_takes_and_which_grant_has_them() -> None:
    job, dry = ([*refusals(Access.OWN, uses_of(request(dry_run=dry)), NONE)] for dry in (False, True))

    assert [clause.wanted for clause in job] == ["the right to request, commit, invoke"]
    assert [clause.wanted for clause in dry] == ["the right to request"]
    assert {clause.nearest for clause in job + dry} == {f"a grant for own machines from {ANCHOR}"}


def test_rights_that_are_missing_are_named_together_and_each_limit_by_itself() -> None:
    shown = Credential(Rights({"cpu": 1}, {"kind": ("request",)}), "", (ANCHOR,))

    found = {clause.wanted: clause.nearest for clause in refusals(Access.AUTHORISED, uses_of(request()), shown)}

    assert found == {
        "cores 1": f"a grant with more cores from {ANCHOR}",
        "rights commit, invoke": f"a grant with rights commit, invoke from {ANCHOR}",
    }
