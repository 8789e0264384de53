"""Messages about logs of jobs: where each goes, and who may read what."""

from __future__ import annotations

from dms_actors.children import Children
from dms_actors.listeners import Listeners
from dms_actors.shell import Shell
from dms_actors.world import World
from dms_proto.grants.access import Access, Credential, in_words, refusals
from dms_proto.grants.rights import uses_of
from dms_proto.ids import PeerId
from dms_proto.market.offer_judgement import is_known
from dms_proto.market.offer_state import OfferBook
from dms_proto.messages import AllocationMessage, Refusal
from dms_proto.messages.kinds import NOT_GRANTED


class LogMessages:
    """Routes them; they are written down nowhere. One per node actor; lives on its thread."""

    def __init__(self, world: World, children: Children, listeners: Listeners, book: Shell[OfferBook]) -> None:
        self._world = world
        self._children = children
        self._listeners = listeners
        self._book = book

    def hear(self, peer: PeerId, message: AllocationMessage, shown: Credential, cause_id: str) -> None:
        """Bytes for a job of ours, a question of the requester of a job here; or of another reader, who needs the right to it."""
        if not message.is_question:
            self._listeners.pass_on(f"log:{message.allocation_id}", peer, message)
            self._world.logs(peer, message)
        elif self._children.is_held_by(peer, message.allocation_id):
            self._world.logs(peer, message)
        else:
            self._show(peer, message, shown, cause_id)

    def _show(self, peer: PeerId, message: AllocationMessage, shown: Credential, cause_id: str) -> None:
        book = self._book.state
        access = Access.PUBLIC if is_known(book, peer) else book.policy.log_access
        missing = next(refusals(access, uses_of(message), shown), None)
        if missing is None:
            self._world.show_log(peer, message, cause_id)
        else:
            self._world.post.send(peer, Refusal(NOT_GRANTED, cause_id, in_words(missing)), cause_id)
