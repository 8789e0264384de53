"""One connection: what it is subscribed to, and what it may still be sent.

Lives on the node's asyncio loop. A subscription is a task that takes items from a feed and sends them as notifications, only as fast as the
connection takes them; the feed keeps what is not taken yet, or drops it and is asked again from the last id seen.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import msgspec

from dms.rpc import jsonrpc
from dms_proto.errors import DmsError, InternalError, UserError

logger = logging.getLogger(__name__)

MAX_SUBSCRIPTIONS: Final = 32
"""Per connection; a person's terminal uses one."""

Send = Callable[[bytes], Awaitable[None]]


class Update(msgspec.Struct, frozen=True):
    """An item of a feed, as the notification "update" carries it.

    Attributes:
        subscription: as `subscribe` returned it.
        id: of the item: strictly increasing within a subscription; the `since` to go on after it.
        item: what happened.
    """

    subscription: str
    id: int
    item: Any


class End(msgspec.Struct, frozen=True):
    """A feed is over, as the notification "end" tells.

    Attributes:
        subscription: as `subscribe` returned it.
        error: why, or None when there is simply nothing more to come.
    """

    subscription: str
    error: jsonrpc.Failure | None = None


class Session:
    """The subscriptions of one connection.

    Args:
        send: sends one message; waits while the connection is slow, and raises `OSError` when it is gone.
        can_hand_over: whether a method may take over the connection.
    """

    def __init__(self, send: Send, *, can_hand_over: bool = False) -> None:
        self.can_hand_over = can_hand_over
        self._send = send
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._count = 0

    def subscribe(self, items: AsyncIterator[Any], since: int) -> tuple[str, Callable[[], None]]:
        """Prepares a subscription: its name, and what starts it once the name was sent.

        Raises:
            UserError: `bad_argument`: the connection has as many as it may have.
        """
        if len(self._tasks) >= MAX_SUBSCRIPTIONS:
            raise UserError("bad_argument", f"this connection already has {MAX_SUBSCRIPTIONS} subscriptions")
        self._count += 1
        name = f"s{self._count}"
        may_start = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._pump(name, items, since, may_start), name=f"subscription {name}")
        return name, may_start.set

    async def unsubscribe(self, name: str) -> bool:
        """Ends a subscription; nothing more of it is sent. False: there is none of that name."""
        task = self._tasks.pop(name, None)
        if task is None:
            return False
        await _finish(task)
        return True

    async def close(self) -> None:
        """Ends all subscriptions. Idempotent."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            await _finish(task)

    async def _pump(self, name: str, items: AsyncIterator[Any], since: int, may_start: asyncio.Event) -> None:
        error: jsonrpc.Failure | None = None
        try:
            await may_start.wait()
            async for item in items:
                if item.id > since:  # delivered at least once; ids say what was seen
                    since = item.id
                    await self._notify("update", Update(name, item.id, item))
        except OSError:
            return  # the connection is gone, and with it who could be told
        except DmsError as cause:
            error = jsonrpc.failure_of(cause)
        except Exception as cause:  # part of the RPC edge: a defect of one feed ends that feed alone
            logger.error("a feed failed", exc_info=cause)
            error = jsonrpc.failure_of(InternalError("internal", "the feed failed; the node's log has the details"))
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()
        self._tasks.pop(name, None)
        try:
            await self._notify("end", End(name, error))
        except OSError:
            return

    async def _notify(self, method: str, params: object) -> None:
        await self._send(msgspec.json.encode(jsonrpc.notification(method, params)))


async def _finish(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
