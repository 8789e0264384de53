"""What peers show as grants and are none: few are looked at, and who has shown a good one is not kept from showing it by its neighbours."""

from __future__ import annotations

import os

from dms.trust.grant import issue, read_grant
from dms_actors.grant_reading import OF_PEER, OF_SOURCE, GrantReading
from dms_proto.grants.rights import Rights
from dms_proto.grants.trust import Proven
from dms_proto.ids import PeerId
from dms_proto.units import SECOND

SEED = b"\x07" * 32
GOOD = issue(SEED, Rights())
HOLDER, NEIGHBOUR, STRANGER = PeerId("holder"), PeerId("neighbour"), PeerId("elsewhere")


def forged() -> bytes:
    """Its issuer is the right one, and its last signature is not."""
    return GOOD[:-20] + os.urandom(20)


class Reading(GrantReading):
    """Of three peers, two of them of one source, where the holder may have shown a grant before."""

    def __init__(self) -> None:
        self.verified = 0
        self.holders: set[PeerId] = set()
        super().__init__(
            self._verify,
            lambda peer: "there" if peer == STRANGER else "here",
            lambda peer, _now: peer in self.holders,
        )

    def _verify(self, grant: bytes) -> Proven | None:
        self.verified += 1
        return read_grant(grant)


def test_of_one_peer_few_are_verified_that_are_none_and_more_as_time_passes() -> None:
    reading = Reading()
    assert [reading.by(STRANGER, 0)(forged()) for _ in range(200)] == [None] * 200
    assert reading.verified == OF_PEER.burst
    assert reading.by(STRANGER, 0)(GOOD) is None
    assert reading.by(STRANGER, SECOND)(GOOD) is not None


def test_those_that_are_grants_are_read_however_many() -> None:
    reading = Reading()
    assert all(reading.by(HOLDER, 0)(GOOD) for _ in range(1_000))


def test_peers_of_one_source_share_what_is_looked_at_and_others_do_not_wait() -> None:
    reading = Reading()
    for sybil in range(100):
        for _ in range(OF_PEER.burst):
            reading.by(PeerId(f"sybil {sybil}"), 0)(forged())
    assert reading.verified == OF_SOURCE.burst
    assert reading.by(NEIGHBOUR, 0)(GOOD) is None
    assert reading.by(STRANGER, 0)(GOOD) is not None
    reading.holders.add(HOLDER)
    assert reading.by(HOLDER, 0)(GOOD) is not None
