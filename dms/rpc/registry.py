"""The table of methods.

A method is declared once, as an async method of an interface, with a mark::

    class NodeMethods(Protocol):
        @method("node.status")
        async def node_status(self) -> NodeStatus:
            '''What this node is doing.'''

Its parameters are the struct its one argument names (none: no parameters), its result the struct it returns, its description the docstring.
So dispatcher, OpenRPC document, reference page and implementation cannot disagree. What changes something, speaks to other nodes in this one's
name, or hands out a right, is marked `mutates=True`: a token that only looks does not open it. One that takes over the connection it is called on is
marked `hands_over=True`; its implementation returns a `Handover`.
"""

from __future__ import annotations

import inspect
import socket
from collections.abc import AsyncIterator, Callable, Iterable
from enum import StrEnum
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

F = TypeVar("F", bound=Callable[..., Any])
_MARK: Final = "__rpc__"


class Access(StrEnum):
    """What a caller may do, less first: the one who only looks, or the owner."""

    READ = "read"
    FULL = "full"


class Mark(NamedTuple):
    """What a declaration says of itself."""

    name: str
    mutates: bool
    feed: bool
    hands_over: bool = False


class Handover(NamedTuple):
    """What a method returns that takes over the connection.

    Attributes:
        answer: told first, the struct that is declared as the method's result.
        take: given the socket, once the answer was sent.
        abort: called instead when that is not to be.
    """

    answer: msgspec.Struct
    take: Callable[[socket.socket], None]
    abort: Callable[[], None]


class Method(msgspec.Struct, frozen=True):
    """One entry of the table.

    Attributes:
        name: as callers write it, ``area.verb``; for a feed the topic of `subscribe`.
        attribute: of the object that implements it.
        params: struct of its parameters, or None when it takes none.
        result: type of its result; for a feed, of each item.
        doc: the docstring.
        mutates: whether a call changes anything, speaks to other nodes in this one's name, or hands out a right.
        feed: whether it is a stream to subscribe to, not a call.
        hands_over: whether after its answer the connection carries something else.
    """

    name: str
    attribute: str
    params: type[msgspec.Struct] | None
    result: Any
    doc: str
    mutates: bool
    feed: bool
    hands_over: bool = False

    @property
    def access(self) -> Access:
        """What a caller needs."""
        return Access.FULL if self.mutates else Access.READ

    @property
    def summary(self) -> str:
        """The first line of the description."""
        return self.doc.partition("\n")[0]


def method(name: str, *, mutates: bool = False, hands_over: bool = False) -> Callable[[F], F]:
    """Marks an async method of an interface as callable under `name`."""
    return _marking(Mark(name, mutates, feed=False, hands_over=hands_over))


def feed(topic: str) -> Callable[[F], F]:
    """Marks a method that gives an async iterator as the feed behind `topic`."""
    return _marking(Mark(topic, mutates=False, feed=True))


def _marking(mark: Mark) -> Callable[[F], F]:
    def apply(function: F) -> F:
        setattr(function, _MARK, mark)
        return function

    return apply


def methods_of(*interfaces: type) -> dict[str, Method]:
    """The marked methods of `interfaces` by name, sorted.

    Raises:
        TypeError: a declaration lacks a type, a docstring or has more than one parameter: a defect, found at import.
    """
    table: dict[str, Method] = {}
    for interface in interfaces:
        for attribute, function in inspect.getmembers(interface, inspect.isfunction):
            mark = getattr(function, _MARK, None)
            if mark is None:
                continue
            key = f"feed:{mark.name}" if mark.feed else mark.name
            if key in table:
                raise TypeError(f"{mark.name} is declared twice")
            table[key] = _entry(mark, attribute, function)
    return dict(sorted(table.items()))


def calls(table: Iterable[Method]) -> list[Method]:
    """The entries that are called."""
    return [entry for entry in table if not entry.feed]


def feeds(table: Iterable[Method]) -> list[Method]:
    """The entries that are subscribed to."""
    return [entry for entry in table if entry.feed]


def _entry(mark: Mark, attribute: str, function: Callable[..., Any]) -> Method:
    hints = get_type_hints(function, include_extras=True)
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    doc = inspect.getdoc(function)
    if len(names) > 1 or "return" not in hints or not doc or any(name not in hints for name in names):
        raise TypeError(f"{attribute}: one typed parameter at most, a result type and a docstring are needed")
    result = hints["return"]
    if mark.feed:
        if get_origin(result) is not AsyncIterator:
            raise TypeError(f"{attribute}: a feed returns an AsyncIterator")
        (result,) = get_args(result)
    return Method(mark.name, attribute, hints[names[0]] if names else None, result, doc, *mark[1:])
