"""Whom to ask: directly those most likely to be able, by gossip everybody else when those are too few.

A direct message saves the gossip's hops; gossip reaches nodes we have never met, at several times the price: it passes every node of the network,
and each forwards it to several others. So the first round gossips only when fewer capable peers are connected than bids are wanted, later rounds
always. Answers are bounded either way, and so are direct messages: the messages of a job that many can do stay flat as the network grows. In a
small network everybody is asked, in a large one about `bids_wanted` x OVERSAMPLING nodes, a different sample for each request (`market.reach`),
widened with each round.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from dms_proto.ids import PeerId
from dms_proto.market.comparison import fit_test
from dms_proto.market.reach import OVERSAMPLING, WIDENING, distance, reach_for
from dms_proto.membership.machine import Membership
from dms_proto.messages import BidRequest
from dms_proto.reputation.silence import SetAside


class Audience(msgspec.Struct, frozen=True):
    """Who is asked.

    Attributes:
        direct: peers asked by name.
        gossip: whether it is gossiped as well.
        known: nodes that may answer as far as this node knows, itself and those it has only heard of included.
        request: the request as it is to be sent: its reach fits the number of nodes known.
        passed_over: peers not asked by name in this round, since they were silent lately when they had won.
    """

    direct: tuple[PeerId, ...]
    gossip: bool
    known: int
    request: BidRequest
    passed_over: Mapping[PeerId, SetAside] = {}


def audience(
    membership: Membership,
    request: BidRequest,
    *,
    self_bids: bool,
    ask_directly: bool = True,
    only: PeerId | None = None,
    aside: Mapping[PeerId, SetAside] = {},
) -> Audience:
    """Chooses whom to ask for `request`.

    Args:
        membership: whom this node knows.
        request: as the auction wants it asked; its reach is set here.
        self_bids: whether this node takes work itself. It hears its own requests without the network, either way.
        ask_directly: whether connected peers are asked by name; False leaves them to the gossip.
        only: the one node that the request concerns; None: whoever can.
        aside: whose bids are taken last: they take nobody's place in the first round, unless there is nobody else, and are not waited for.
    """
    if only is not None:
        return Audience((only,), gossip=False, known=1, request=msgspec.structs.replace(request, reach=0))
    everybody = [peer for peer in membership.greeted() if peer.hello is not None and peer.hello.accepts_work]
    peers = [peer for peer in everybody if request.round > 0 or peer.peer not in aside] or everybody
    taken = {peer.peer for peer in peers}
    passed_over = {peer.peer: aside[peer.peer] for peer in everybody if peer.peer not in taken}
    limit = request.bids_wanted * OVERSAMPLING * WIDENING ** min(request.round, 16)
    known = len(peers) + self_bids
    direct = [peer.peer for peer in peers]
    fits = fit_test(request.needs)
    able = {p.peer for p in peers if p.hello is not None and fits(p.hello.summary)}
    if len(peers) > limit:
        direct.sort(key=lambda peer: (peer not in able, distance(request.request_id, peer)))
        direct = direct[:limit]
    if not ask_directly:
        direct.clear()
    if self_bids:
        direct.append(membership.me)
    gossip = not ask_directly or len(able) < request.bids_wanted or request.round > 0
    left_out = passed_over.keys() if gossip else set()  # the gossip reaches them, and they are not waited for
    known = max(known, len(_heard_of(membership) - left_out) + self_bids)
    reach = reach_for(request.bids_wanted, known, request.round)
    sent = msgspec.structs.replace(request, reach=reach)
    return Audience(tuple(direct), gossip, known, sent, passed_over)


def _heard_of(membership: Membership) -> set[PeerId]:
    """The peers, and the peers they named, less those that say they take no work: a lower bound of how large the market is."""
    greeted = [(peer.peer, peer.hello) for peer in membership.greeted() if peer.hello is not None]
    heard = {peer for peer, _ in greeted}
    for _, hello in greeted:
        heard.update(told.peer for told in hello.peers)
    return heard - {membership.me} - {peer for peer, hello in greeted if not hello.accepts_work}
