"""Questions to peers that are open, and what is answered to them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Generic, TypeVar

from dms_proto.ids import PeerId

Name = TypeVar("Name")
Answer = TypeVar("Answer")


class Questions(Generic[Name, Answer]):
    """Those of one kind. Lives on the loop."""

    def __init__(self) -> None:
        self._open: dict[Name, _Question[Answer]] = {}

    async def ask(
        self, name: Name, peers: Iterable[PeerId], send: Callable[[PeerId], bool], first_s: float, more_s: float = 0.0
    ) -> Mapping[PeerId, Answer]:
        """Asks peers, and gives the first answer of each; none, when nobody answers.

        Args:
            name: by which the answers are known. Asked for the second time at once, it is the newer question that is answered.
            peers: who is asked.
            send: asks one; False: it cannot be asked now.
            first_s: seconds in which the first answer has to come.
            more_s: seconds in which others may answer after it.
        """
        question = self._open[name] = _Question[Answer](frozenset(peers))
        try:
            is_sent = [send(peer) for peer in question.asked]
            if any(is_sent):
                async with asyncio.timeout(first_s):
                    await question.is_answered.wait()
                await asyncio.sleep(more_s)
        except TimeoutError:
            pass
        finally:
            if self._open.get(name) is question:
                del self._open[name]
        return question.answers

    def heard(self, name: Name, peer: PeerId, answer: Answer) -> None:
        """Takes an answer from one that was asked; what else is said changes nothing."""
        question = self._open.get(name)
        if question is not None and peer in question.asked:
            question.answers.setdefault(peer, answer)
            question.is_answered.set()


class _Question(Generic[Answer]):
    """One that was asked."""

    def __init__(self, asked: frozenset[PeerId]) -> None:
        self.asked = asked
        self.answers: dict[PeerId, Answer] = {}
        self.is_answered = asyncio.Event()
