"""Every method of the local JSON-RPC. The node implements `NodeApi`; `METHODS` is read off it.

::

    node         node.*                what this node is, offers and prefers (its answers are in `status`)
    jobs         job.*                 the owner's work
    allocations  alloc.*               single runs, on either side
    market       market.* bids.* requests.*
    peers        peers.*               other nodes
    grants       grants.*              signed permissions
    events       events.* doctor.*     what happened; is this machine fit
    data         data.*                datasets that are kept here
    audit        audit.*               what was agreed, run and owed, for somebody else to check

An id in a parameter may be a unique beginning of the id (of a PeerID also its end, or the peer's name): `not_found` and `ambiguous_id` otherwise.
Times are Unix milliseconds, spans milliseconds, prices micro-credits, sizes bytes, CPU millicores. Bytes are base64 in JSON.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dms.rpc.api.everything import METHODS, NodeApi

__all__ = ["METHODS", "NodeApi"]


def __getattr__(name: str) -> Any:  # PEP 562: a command that needs one group's types does not load the others
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dms.rpc.api import everything  # noqa: PLC0415

    return getattr(everything, name)
