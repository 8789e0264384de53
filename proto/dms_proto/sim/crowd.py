"""One requester among strangers, some of whom lie: what its checks cost it, and what gets past them.

The decisions are the real ones (`verification`, `reputation`); the market around them is reduced to what matters here. Each piece of work has
`BIDDERS` bidders by chance, ranked by their standing and by a share of luck that stands for price, speed and nearness. Colluders
know each other: they give the same wrong answer, agree beforehand whether to lie, and recognise a canary of which one of them has seen the work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from random import Random
from typing import Final

import msgspec

from dms_proto.ids import Digest, PeerId
from dms_proto.reputation import FULL, Kind, Record, standing
from dms_proto.sim.chance import chance
from dms_proto.units import MINUTE
from dms_proto.verification.policy import PROVEN, Policy, Verification, is_canary_due
from dms_proto.verification.quorum import Result, Verdict, Vote, Voter, camps_of, judge, next_voter
from dms_proto.work import Ending, EndReason, Output

BIDDERS: Final = 12
LUCK: Final = 0.15
"""How far luck moves a bidder up or down, in shares of a perfect standing."""
EVERY_MS: Final = MINUTE
KEPT_ANSWERS: Final = 256
"""Checked pieces of work that canaries are taken from."""
VERIFICATION: Final = Verification(Policy.ADAPTIVE)


class Habit(StrEnum):
    """How a provider answers."""

    HONEST = "honest"
    ALWAYS = "always"
    """Always wrong."""
    HALF = "half"
    """Wrong every other time."""
    SLEEPER = "sleeper"
    """Right until it counts as proven, from then on wrong every other time."""
    RARE = "rare"
    """Wrong once in twenty times, whatever it is thought of."""


class Plan(msgspec.Struct, frozen=True):
    """Whom the requester meets.

    Attributes:
        honest: providers that answer right.
        lonely: malicious ones that each give an answer of their own when they lie.
        colluding: malicious ones that lie together.
        habits: of the malicious ones, taken in turn.
        warm_up: pieces of work before anything is counted.
        pieces: pieces of work that are counted.
    """

    honest: int = 80
    lonely: int = 10
    colluding: int = 10
    habits: tuple[Habit, ...] = (Habit.ALWAYS, Habit.HALF, Habit.SLEEPER, Habit.RARE)
    warm_up: int = 3_000
    pieces: int = 10_000


class Figures(msgspec.Struct, frozen=True):
    """What came of it, after the warm-up.

    Attributes:
        pieces: of work done.
        runs: of all copies and canaries.
        wrong: wrong results that were accepted.
        undecided: pieces without an accepted result.
        accused: honest providers that were called wrong at least once.
        honest: providers that are honest.
    """

    pieces: int = 0
    runs: int = 0
    wrong: int = 0
    undecided: int = 0
    accused: int = 0
    honest: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(mine + theirs for mine, theirs in zip(astuple(self), astuple(other), strict=True)))

    @property
    def cost(self) -> float:
        """Runs per piece of work."""
        return self.runs / self.pieces

    @property
    def wrong_share(self) -> float:
        """Wrong results per piece of work."""
        return self.wrong / self.pieces


astuple = msgspec.structs.astuple


class _Stranger(msgspec.Struct, frozen=True):
    peer: PeerId
    source: str
    habit: Habit
    colludes: bool


class _Piece(msgspec.Struct, frozen=True):
    """A piece of work that was checked: who has seen it, who was right, and the accepted answer."""

    number: int
    asked: tuple[Voter, ...]
    right: tuple[PeerId, ...]
    answer: Result


def simulate(plan: Plan, seed: int) -> Figures:
    """Runs one requester's work among the strangers of `plan`."""
    return _Requester(plan, seed).work()


class _Requester:
    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan = plan
        self._seed = f"crowd {seed}".encode()
        self._rng = chance("crowd", seed)
        self._strangers = _strangers(plan)
        self._peers: Sequence[PeerId] = tuple(self._strangers)
        self._record = Record()
        self._known: list[_Piece] = []
        self._agreed: dict[int, bool] = {}
        """Per piece: whether the colluders lie about it."""
        self._accused: set[PeerId] = set()
        """Honest strangers that were called wrong."""
        self._runs = 0
        self._now = 0

    def work(self) -> Figures:
        plan, figures = self._plan, Figures()
        for number in range(plan.warm_up + plan.pieces):
            self._now += EVERY_MS
            self._runs = 0
            answer = self._piece(number)
            if is_canary_due(self._seed, number):
                self._canary()
            if number < plan.warm_up:
                self._accused.clear()
            else:
                figures += Figures(1, self._runs, answer not in (None, _RIGHT), answer is None)
        return figures + Figures(accused=len(self._accused), honest=plan.honest)

    def _piece(self, number: int) -> Result | None:
        """One piece of work, with as many copies as it takes."""
        first, *rest = self._ranked()
        vote = self._run(first, number)
        if VERIFICATION.first_copies(first.streak, self._seed, number) == 1:
            return vote.result
        votes, verdict = self._settle([vote], rest, number)
        if verdict.accepted is None:
            return None
        self._keep(_Piece(number, tuple(vote.voter for vote in votes), verdict.right, verdict.accepted.result))
        return verdict.accepted.result

    def _settle(
        self, votes: list[Vote], rest: Sequence[Voter], number: int, asked: tuple[Voter, ...] = ()
    ) -> tuple[list[Vote], Verdict]:
        """Asks one more until it is clear who is right; and remembers who was not."""
        while not (verdict := judge(camps_of(votes), VERIFICATION)).accepted and not verdict.undecided:
            voter = next_voter(rest, [*asked, *(vote.voter for vote in votes)])
            if voter is None:
                break
            votes.append(self._run(voter, number))
        for peer in verdict.right:
            self._note(peer, Kind.RIGHT)
        for peer in verdict.wrong:
            self._note(peer, Kind.WRONG)
        return votes, verdict

    def _keep(self, piece: _Piece) -> None:
        if len(self._known) < KEPT_ANSWERS:
            self._known.append(piece)
        else:
            self._known[self._rng.randrange(KEPT_ANSWERS)] = piece

    def _canary(self) -> None:
        """Known work once more. An answer that is not the known one does not prove who lied: others do the work anew."""
        if not self._known:
            return
        at = self._rng.randrange(len(self._known))
        piece, bidders = self._known[at], self._ranked()
        self._rng.shuffle(bidders)
        voter = next_voter(bidders, piece.asked)
        if voter is None:
            return
        was_seen = any(self._strangers[asked.provider].colludes for asked in piece.asked)
        if was_seen and self._strangers[voter.provider].colludes:
            self._agreed[-piece.number] = piece.answer != _RIGHT  # they recognise it, and say what they said
        vote = self._run(voter, -piece.number)
        self._known[at] = msgspec.structs.replace(piece, asked=(*piece.asked, voter))
        if vote.result == piece.answer:
            self._note(voter.provider, Kind.RIGHT)
            return
        _, verdict = self._settle([vote], bidders, -piece.number, piece.asked)
        if verdict.accepted is None or verdict.accepted.result != piece.answer:
            del self._known[at]
        if verdict.accepted is not None and verdict.accepted.result != piece.answer:
            for peer in piece.right:
                self._note(peer, Kind.WRONG)

    def _ranked(self) -> list[Voter]:
        chosen = self._rng.sample(self._peers, min(BIDDERS, len(self._peers)))
        score = {peer: standing(self._record.of(peer), self._now).score for peer in chosen}
        chosen.sort(key=lambda peer: -score[peer] - FULL * self._rng.uniform(-LUCK, LUCK))
        return [Voter(peer, self._strangers[peer].source, self._record.of(peer).streak) for peer in chosen]

    def _run(self, voter: Voter, number: int) -> Vote:
        self._runs += 1
        self._note(voter.provider, Kind.KEPT)
        stranger = self._strangers[voter.provider]
        lies = _lies(stranger.habit, voter.streak, self._rng)
        if stranger.colludes:
            lies = self._agreed.setdefault(number, lies)
        liar = "the colluders" if stranger.colludes else stranger.peer
        return Vote(voter, _answer(f"{liar} {abs(number)}") if lies else _RIGHT)

    def _note(self, peer: PeerId, kind: Kind) -> None:
        stranger = self._strangers[peer]
        if kind is Kind.WRONG and stranger.habit is Habit.HONEST:
            self._accused.add(peer)
        self._record.note(peer, stranger.source, kind, self._now)


def _strangers(plan: Plan) -> Mapping[PeerId, _Stranger]:
    """Everybody, each with a source of its own."""
    malicious = [plan.habits[index % len(plan.habits)] for index in range(plan.lonely + plan.colluding)]
    habits = [Habit.HONEST] * plan.honest + malicious
    colluding_from = plan.honest + plan.lonely
    strangers = [
        _Stranger(PeerId(f"p{index}"), f"source {index}", habit, index >= colluding_from)
        for index, habit in enumerate(habits)
    ]
    return {stranger.peer: stranger for stranger in strangers}


def _lies(habit: Habit, streak: int, rng: Random) -> bool:
    match habit:
        case Habit.HONEST:
            return False
        case Habit.ALWAYS:
            return True
        case Habit.HALF:
            return rng.random() < 0.5
        case Habit.SLEEPER:
            return streak >= PROVEN and rng.random() < 0.5
        case Habit.RARE:
            return rng.random() < 0.05


def _answer(text: str) -> Result:
    return Result(Ending(EndReason.COMPLETED, 0), (Output("answer", Digest(text), 1),))


_RIGHT: Final = _answer("right")
