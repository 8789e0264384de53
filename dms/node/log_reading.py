"""Logs read in parts: this node's own, and those of others' jobs, shown to who may read them, and read from nodes that let us."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

from dms.node.logs import STREAMS, LogStore
from dms.node.post import NodePost
from dms.node.services import Services
from dms.rpc.api.allocations import AllocationLogParams, LogPart
from dms.rpc.api.jobs import JobLogParams
from dms_actors.letters import ListenFor, StopListening
from dms_proto.errors import PeerError
from dms_proto.ids import ID_BYTES, AllocationId, PeerId, request_id, short
from dms_proto.messages import AllocationMessage, AnyMessage, Refusal
from dms_proto.messages.kinds import NOT_GRANTED, NOT_KEPT, WANTED
from dms_proto.wire import Envelope, read_frame

PIECE: Final = 64 * 1024
"""Bytes of an answer: who reads on asks again, so that a reader is given no more than it takes."""
PATIENCE_S: Final = 10.0
"""How long an answer is waited for."""
NO_REQUEST: Final = request_id(bytes(ID_BYTES))
"""A reader need not know which request an allocation was for."""


def log_part(
    logs: LogStore, allocation_id: AllocationId, params: AllocationLogParams | JobLogParams, *, is_over: bool
) -> LogPart:
    """The part that is asked for. Beyond a gap it goes only once the allocation is over: until then the gap may still be filled."""
    offset, stream = params.offset, params.stream
    if params.since:
        offset = max(offset, logs.offset_since(allocation_id, stream, params.since))
    if not is_over:
        data = logs.read(allocation_id, stream, offset, params.limit)
        return LogPart(data, offset, offset + len(data), complete=False)
    piece = logs.piece(allocation_id, stream, offset, params.limit)
    after = piece.offset + len(piece.data)
    accounted = after if piece.data else after + piece.missing
    is_complete = accounted >= logs.written(allocation_id, stream)
    return LogPart(piece.data, piece.offset, after, is_complete, piece.missing)


class Question(NamedTuple):
    """What a reader wants that may have it. `about`: the id of its envelope."""

    reader: PeerId
    message: AllocationMessage
    about: str


def answer(kept: Iterable[LogStore], post: NodePost, question: Question) -> None:
    """Sends a reader the next piece of a log, empty where it ends for now; or that it is not kept here. On the loop."""
    message = question.message
    logs = next((logs for logs in kept if logs.holds(message.allocation_id)), None)
    if logs is None or message.stream not in STREAMS:
        detail = f"no log of {message.allocation_id} is kept here"
        post.send_now(question.reader, Refusal(NOT_KEPT, question.about, detail))
        return
    data = logs.read(message.allocation_id, message.stream, message.offset, PIECE)
    piece = AllocationMessage(message.request_id, message.allocation_id, message.stream, message.offset, data)
    post.send_now(question.reader, piece)


async def read(services: Services, asked: PeerId, params: AllocationLogParams, cause: str) -> LogPart:
    """Asks another node for the next piece of a log; of `params`, `limit` is the other node's to choose.

    Raises:
        PeerError: `not_granted`, `not_found`: what it answers; `peer_timeout`: it does not.
    """
    allocation_id = AllocationId(params.allocation_id)
    wanted = AllocationMessage(NO_REQUEST, allocation_id, f"{WANTED}{params.stream}", params.offset)
    answered: asyncio.Future[AnyMessage] = services.loop.create_future()

    def note(peer: PeerId, message: AnyMessage) -> None:
        is_other = isinstance(message, AllocationMessage) and (message.channel, message.offset) != (
            params.stream,
            params.offset,
        )
        if peer == asked and not is_other and not answered.done():
            answered.set_result(message)

    def hear(peer: PeerId, message: AnyMessage) -> None:
        services.loop.call_soon_threadsafe(note, peer, message)

    opened = read_frame(services.post.send(asked, wanted, cause))
    about = opened.id.hex() if isinstance(opened, Envelope) else ""
    keys = (f"log:{params.allocation_id}", f"about:{about}")
    for key in keys:
        services.node.tell(ListenFor(key, hear))
    try:
        async with asyncio.timeout(PATIENCE_S):
            return _part(asked, params, await answered)
    except TimeoutError:
        raise PeerError("peer_timeout", f"{short(asked)} did not answer within {PATIENCE_S:.0f} s") from None
    finally:
        for key in keys:
            services.node.tell(StopListening(key, hear))


def _part(asked: PeerId, params: AllocationLogParams, message: AnyMessage) -> LogPart:
    match message:
        case AllocationMessage(data=data):
            return LogPart(data, params.offset, params.offset + len(data), complete=False)
        case Refusal(code=code, detail=detail):
            known = {NOT_GRANTED: "not_granted", NOT_KEPT: "not_found"}.get(code, "bad_frame")
            raise PeerError(known, f"{short(asked)}: {detail}", retryable=False)
        case _:
            raise TypeError(f"no answer to a question for a log: {message!r}")
