"""Methods that every connection has, whatever the node: rpc.*, subscribe, unsubscribe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from dms.rpc.jsonrpc import INVALID_PARAMS, Call, Failure, failure
from dms.rpc.registry import Handover, Method, method
from dms.rpc.session import Session
from dms_proto.errors import UserError


class Refused(Exception):  # noqa: N818 - carries a response; it is no error of ours
    """The call is answered with `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Pong(msgspec.Struct, frozen=True):
    """The node is there.

    Attributes:
        version: of dms.
        pid: of the node process.
    """

    version: str
    pid: int


class SubscribeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to follow.

    Attributes:
        topic: name of the feed: "job" or "events".
        params: of the feed; `since` in them goes on after that id.
    """

    topic: str
    params: dict[str, Any] = {}


class Subscribed(msgspec.Struct, frozen=True):
    """A subscription.

    Attributes:
        subscription: its name, in every notification of it.
    """

    subscription: str


class UnsubscribeParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A subscription.

    Attributes:
        subscription: its name.
    """

    subscription: str


class Unsubscribed(msgspec.Struct, frozen=True):
    """What ending a subscription did.

    Attributes:
        ended: whether there was one of that name.
    """

    ended: bool


class Builtin:
    """The built-in methods for one message on one connection.

    Args:
        api: what implements the feeds.
        table: of methods, for the feeds' parameters.
        describe: gives the OpenRPC document.
        pong: the answer to rpc.ping.
        session: of the connection, or None where nothing can be sent unasked (HTTP POST).
    """

    def __init__(
        self,
        api: object,
        table: Mapping[str, Method],
        describe: Callable[[], dict[str, Any]],
        pong: Pong,
        session: Session | None,
    ) -> None:
        self._api = api
        self._table = table
        self._describe = describe
        self._pong = pong
        self._session = session
        self.after_response: list[Callable[[], None]] = []
        """To be called once the response was sent."""
        self.can_hand_over = session is not None and session.can_hand_over
        self.handover: Handover | None = None

    @method("rpc.ping")
    async def ping(self) -> Pong:
        """Whether the node answers, and its version."""
        return self._pong

    @method("rpc.discover")
    async def discover(self) -> dict[str, Any]:
        """This interface as an OpenRPC document."""
        return self._describe()

    @method("subscribe")
    async def subscribe(self, params: SubscribeParams) -> Subscribed:
        """Follows a feed: notifications `update` with growing ids, then `end`. On the Unix socket and WebSocket."""
        session = self._need_session()
        entry = self._table.get(f"feed:{params.topic}")
        if entry is None or entry.params is None:
            known = ", ".join(item.name for item in self._table.values() if item.feed)
            raise UserError("bad_argument", f"there is no feed {params.topic!r}", hint=f"feeds: {known}")
        try:
            wanted = msgspec.convert(params.params, entry.params)
        except msgspec.ValidationError as error:
            raise Refused(failure(INVALID_PARAMS, str(error), "bad_argument")) from error
        items = getattr(self._api, entry.attribute)(wanted)
        name, start = session.subscribe(items, getattr(wanted, "since", 0))
        self.after_response.append(start)
        return Subscribed(name)

    @method("unsubscribe")
    async def unsubscribe(self, params: UnsubscribeParams) -> Unsubscribed:
        """Stops following a feed."""
        return Unsubscribed(await self._need_session().unsubscribe(params.subscription))

    def need_handover(self, call: Call) -> None:
        """Refuses a call that takes over the connection where there is none to be had.

        Raises:
            UserError: `bad_argument`.
        """
        if not self.can_hand_over or call.notification:
            raise UserError(
                "bad_argument",
                f"{call.method} takes over its connection, so it is called on the Unix socket, by itself and with an id",
            )

    def _need_session(self) -> Session:
        if self._session is None:
            raise UserError(
                "bad_argument",
                "a single HTTP request cannot be sent updates",
                hint="use the WebSocket /ws or the Unix socket",
            )
        return self._session
