"""The one node that a job names: which that is, and what follows for the job."""

from __future__ import annotations

import msgspec

from dms.jobs.spec import JobSpec
from dms.rpc.ids import match_peer
from dms_proto.errors import UserError
from dms_proto.ids import PeerId, short
from dms_proto.market import named_node
from dms_proto.membership.machine import Membership


def pin_node(spec: JobSpec, membership: Membership, own_name: str, *, self_bids: bool) -> JobSpec:
    """The job with the node it names by its PeerID, for nobody else's bid; unchanged where it names none.

    Args:
        spec: as submitted.
        membership: who is known.
        own_name: what this node is called.
        self_bids: whether this node takes work.

    Raises:
        UserError: `not_found`, `ambiguous_id`; `bad_job`: that node takes no work, or the job asks for what takes several nodes.
    """
    if not spec.node:
        return spec
    hellos = {peer.peer: peer.hello for peer in membership.peers.values()}
    names: dict[str, str] = {peer: hello.name if hello is not None else "" for peer, hello in hellos.items()}
    node = PeerId(match_peer(spec.node, {**names, membership.me: own_name}))
    for field, rule in named_node.faults(spec.pricing, spec.verify):
        raise UserError("bad_job", f"{field}: {rule}")
    hello = hellos.get(node)
    if not (self_bids if node == membership.me else hello is None or hello.accepts_work):
        raise UserError("bad_job", f"node: {short(node)} takes no work", hint="dms peers list shows the others")
    return msgspec.structs.replace(
        spec,
        node=node,
        bids_wanted=1,
        retry_job_failures=1,  # there is no second node on which it could fail
        constraints=tuple(dict.fromkeys((*spec.constraints, named_node.only_there(node)))),
    )
