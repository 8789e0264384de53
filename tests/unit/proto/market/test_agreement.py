"""Agreements: one digest on both sides, another for whatever differs; and what a receipt confirms."""

import msgspec
import pytest

from dms.testing.samples import ALLOCATION, DIGEST, FULL, PROVIDER, REQUEST, REQUESTER
from dms_proto.capability import Capability, Gpu, Price, Resources
from dms_proto.ids import BidId, Digest, RequestId
from dms_proto.market.agreement import (
    NO_DIGEST,
    Agreement,
    agreement_on,
    differences,
    receipt_for,
    request_digest,
    results_digest,
    terms_digest,
)
from dms_proto.messages import AllocationStatus, Bid, Commit
from dms_proto.sim.provider import MACHINE, Provider, request
from dms_proto.sim.requester import Requester
from dms_proto.units import CORE, GIB
from dms_proto.work import Output

NEEDS = Capability(
    resources=Resources(CORE, GIB, 0, (Gpu(vendor="nvidia"),)), max_wall_ms=60_000, labels={"b": "2", "a": "1"}
)
OFFERED = next(each for each in FULL if isinstance(each, Bid))
ENDED = next(each for each in FULL if isinstance(each, AllocationStatus))
AGREED = agreement_on(OFFERED, NEEDS, REQUESTER.peer_id, PROVIDER.peer_id, (0, 3))


def test_the_digests_are_those_that_other_implementations_compute() -> None:
    """Golden: as `proto/README.md` says, computed once and never to change."""
    assert request_digest(REQUEST, NEEDS) == "sha256:0dac7187e1b4326f626145e95ca1d49a47a359276d4c056b418213db7e1b36e2"
    assert terms_digest(AGREED) == "sha256:a7b50d4e9cd8810f0de7da3afe31a8ea9a46693da8164b006886c4a4b79742ce"
    assert (
        results_digest((Output("out/a.txt", DIGEST, 7),))
        == "sha256:6fd5ac5d8d7506fc56f9069b8de015602965aed2251061845518fdc1a88b969c"
    )


@pytest.mark.parametrize(
    "other",
    [
        {"request_id": RequestId("r")},
        {"request": Digest("x")},
        {"bid_id": BidId("b")},
        {"provider": REQUESTER.peer_id},
        {"requester": PROVIDER.peer_id},
        {"slots": (3, 0)},
        {"tariff": Price()},
        {"price": 1},
        {"limits": Resources()},
        {"wall_ms": 1},
        {"valid_until": 1},
    ],
    ids=lambda other: next(iter(other)),
)
def test_whatever_differs_is_another_agreement(other: dict[str, object]) -> None:
    assert terms_digest(msgspec.structs.replace(AGREED, **other)) != terms_digest(AGREED)


def test_every_field_of_an_agreement_is_tried_above() -> None:
    assert len(msgspec.structs.fields(Agreement)) == 11


def test_what_is_asked_is_part_of_it_to_the_last_field() -> None:
    other = msgspec.structs.replace(NEEDS, resources=Resources(CORE, GIB, 0, (Gpu(vendor="amd"),)))

    assert agreement_on(OFFERED, other, REQUESTER.peer_id, PROVIDER.peer_id, (0, 3)).request != AGREED.request
    assert request_digest(RequestId("r"), NEEDS) != request_digest(REQUEST, NEEDS)


def test_requester_and_provider_compute_the_same_digest_each_from_what_it_knows() -> None:
    """The two machines, joined by their messages alone; with a GPU, whose device only the provider knows."""
    needs = msgspec.structs.replace(request().needs, resources=Resources(CORE, GIB, 0, (Gpu(vendor="nvidia"),)))
    machine = Resources(4 * CORE, 8 * GIB, 0, (Gpu("0", "nvidia", "A100", 40 * GIB),))
    requester = Requester(bids_wanted=1, needs=needs, max_price=10_000)
    requester.submit("provider")
    provider = Provider(msgspec.structs.replace(MACHINE, resources=machine))
    asked = msgspec.structs.replace(request(), request_id=requester.terms.request_id, needs=requester.terms.needs)
    bid = provider.bids(asked, requester="me")
    requester.bid("provider", **{name: getattr(bid, name) for name in ("offer", "tariff", "price", "valid_until")})

    (commit,) = requester.sent(Commit)
    (taken,) = provider.commits(bid, requester="me")

    assert taken.reservation.bid_id == commit.bid_id
    assert provider.state.committed[commit.bid_id].terms == commit.terms


def test_a_receipt_states_what_the_status_stated() -> None:
    receipt = receipt_for(ENDED, ENDED.price)

    assert ENDED.ending is not None
    assert (receipt.request_id, receipt.allocation_id) == (REQUEST, ALLOCATION)
    assert (receipt.reason, receipt.usage, receipt.log_bytes) == (ENDED.ending.reason, ENDED.usage, ENDED.log_bytes)
    assert receipt.results == results_digest(ENDED.outputs)
    assert differences(ENDED, receipt) == ()


def test_a_receipt_of_another_price_differs_in_words() -> None:
    assert differences(ENDED, receipt_for(ENDED, 5)) == ("price: the provider says 1234, the requester 5",)


def test_a_run_that_left_nothing_has_no_digest_of_results() -> None:
    assert results_digest(()) == NO_DIGEST


def test_by_which_list_of_chunks_results_come_is_no_part_of_what_they_are() -> None:
    """Who knows no such lists computes the same digest."""
    listed = msgspec.structs.replace(Output("out/a.txt", DIGEST, 7), chunks=DIGEST)
    assert results_digest((listed,)) == results_digest((Output("out/a.txt", DIGEST, 7),))
