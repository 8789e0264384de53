"""One requester among strangers, some of whom lie: what its checks cost it, and what gets past them.

The decisions are the real ones (`verification`, `reputation`, `market.canaries`); the market around them is reduced to what matters here. Each piece
of work has `BIDDERS` bidders by chance, ranked by their standing and by a share of luck that stands for price, speed and nearness; the first
`by_luck` pieces go by luck alone, so that everybody has been tried, each liar as well. Colluders know each other: they give the same wrong answer,
agree beforehand whether to lie, see when two of them have copies of one piece, and recognise a canary of which one of them has seen the work.

The work comes in jobs of one piece, or of several, which have the same bidders for all pieces: there what was taken as it came can be done again
until the job is over (`market.auction_lots`). Whoever is asked for that can tell, and gives the right answer, unless a colluder is to be covered.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from random import Random
from typing import Final

import msgspec

from dms_proto.ids import AllocationId, Digest, PeerId, RequestId
from dms_proto.market.auction_events import ResultJudged
from dms_proto.market.auction_terms import Answer, Canary, Terms
from dms_proto.market.canaries import KnownWork, Work, known_votes
from dms_proto.market.seen import seen_in
from dms_proto.reputation import FULL, Evidence, Kind, Record, standing
from dms_proto.sim.chance import chance
from dms_proto.sim.requester import terms
from dms_proto.units import HOUR, MINUTE
from dms_proto.verification.chance import drawn, is_drawn
from dms_proto.verification.policy import Policy, Verification, is_proven, is_trusted, looks_due
from dms_proto.verification.quorum import Result, Verdict, Vote, Voter, camps_of, judge, next_voter, weight_of
from dms_proto.work import Ending, EndReason, Output

BIDDERS: Final = 12
LUCK: Final = 0.15
"""How far luck moves a bidder up or down, in shares of a perfect standing."""
EVERY_MS: Final = MINUTE
FADES_EVERY_MS: Final = 6 * HOUR
LONG_ONE_IN: Final = 20
"""One piece of work in so many is long."""
VERIFICATION: Final = Verification(Policy.ADAPTIVE)


class Habit(StrEnum):
    """How a provider answers."""

    HONEST = "honest"
    ALWAYS = "always"
    """Always wrong."""
    HALF = "half"
    """Wrong every other time."""
    TENTH = "one in 10"
    """Wrong once in ten times, whatever it is thought of."""
    TWENTIETH = "one in 20"
    FORTIETH = "one in 40"
    EIGHTIETH = "one in 80"
    LONG = "long jobs"
    """Wrong where it pays most: on long pieces, the same ones for all."""
    SLEEPER = "sleeper"
    """Right until it is trusted, from then on wrong every other time."""
    TOGETHER = "together"
    """Wrong only where it sees that another colluder has a copy of the same piece, so that each confirms the other."""
    TURNCOAT = "turncoat"
    """Right until long after the warm-up, then wrong every other time: one after another turns."""


ONE_IN: Final[Mapping[Habit, int]] = {
    Habit.ALWAYS: 1,
    Habit.HALF: 2,
    Habit.TENTH: 10,
    Habit.TWENTIETH: 20,
    Habit.FORTIETH: 40,
    Habit.EIGHTIETH: 80,
}
EVERY_HABIT: Final = tuple(habit for habit in Habit if habit not in (Habit.HONEST, Habit.TURNCOAT))
"""Of those that lie from the start. What a turncoat gets past is per turncoat, not per piece of work."""


class Plan(msgspec.Struct, frozen=True):
    """Whom the requester meets.

    Attributes:
        honest: providers that answer right.
        lonely: malicious ones that each give an answer of their own when they lie.
        colluding: malicious ones that lie together.
        habits: of the malicious ones, taken in turn.
        underbids: how far the malicious ones are cheaper, in shares of a perfect standing.
        by_luck: the first pieces of work, for which bidders are taken whatever they are thought of.
        warm_up: pieces of work before anything is counted, those by luck included.
        pieces: pieces of work that are counted.
        job: pieces of work in one job, of those that are counted.
    """

    honest: int = 80
    lonely: int = 10
    colluding: int = 10
    habits: tuple[Habit, ...] = EVERY_HABIT
    underbids: float = 0.0
    by_luck: int = 1_000
    warm_up: int = 3_000
    pieces: int = 10_000
    job: int = 1


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
    turns_at: int


def simulate(plan: Plan, seed: int) -> Figures:
    """Runs one requester's work among the strangers of `plan`."""
    return _Requester(plan, seed).work()


class _Requester:
    def __init__(self, plan: Plan, seed: int) -> None:
        self._plan = plan
        self._rng = chance("crowd", seed)
        self._terms = terms(verify=VERIFICATION, seed=f"crowd {seed}".encode())
        self._strangers = _strangers(plan)
        self._peers: Sequence[PeerId] = tuple(self._strangers)
        self._record = Record()
        self._known = KnownWork()
        self._results: dict[Work, Result] = {}
        """What was accepted."""
        self._bidders: Sequence[PeerId] = ()
        """Of the job, where it is of several pieces."""
        self._lots = _Lots(self._terms.seed)
        """What providers gave to it."""
        self._is_again = False
        """What runs now was answered before, and whoever is asked can tell."""
        self._agreed: dict[str, bool] = {}
        """Per request: whether the colluders lie about it."""
        self._accused: set[PeerId] = set()
        """Honest strangers that were called wrong."""
        self._scores: dict[PeerId, tuple[Evidence, int, int]] = {}
        self._number = 0
        self._runs = 0

    @property
    def _now(self) -> int:
        return (self._number + 1) * EVERY_MS

    def work(self) -> Figures:
        plan, figures = self._plan, Figures()
        for number in range(plan.warm_up):
            self._single(number)
        self._accused.clear()
        for first in range(plan.warm_up, plan.warm_up + plan.pieces, plan.job):
            figures += self._single(first) if plan.job == 1 else self._job(range(first, first + plan.job))
        return figures + Figures(accused=len(self._accused), honest=plan.honest)

    def _single(self, number: int) -> Figures:
        """A job of one piece: its result is final, and it may be a canary later."""
        self._number, self._runs = number, 0
        beside = msgspec.structs.replace(self._terms, request_id=RequestId(str(number)))
        answer = self._piece(beside)
        work = self._known.drawn(beside, number)
        if work is not None:
            self._canary(work)
        return Figures(1, self._runs, answer not in (None, _RIGHT), answer is None)

    def _job(self, numbers: range) -> Figures:
        """A job of several pieces: what was taken as it came is final when all is done."""
        self._runs, self._lots = 0, _Lots(drawn(self._terms.seed, "job", numbers.start))
        self._bidders = self._rng.sample(self._peers, min(BIDDERS, len(self._peers)))
        answers: dict[int, Result | None] = {}
        for self._number in numbers:
            first, *rest = self._ranked()
            if VERIFICATION.first_copies(first.streak, self._terms.seed, self._number) > 1:
                self._lots.answered(first.provider)
                self._lots.checked(first.provider)
                answers[self._number] = self._result_of([], [first], rest, self._number)
            else:
                (vote,) = self._run([first], str(self._number))
                self._lots.hold(self._number, vote)
            while (again := self._lots.due()) is not None:
                number, vote = again
                answers[number] = self._again(number, vote)
        answers |= {number: vote.result for number, vote in self._lots.held.items()}
        wrong = sum(answer not in (None, _RIGHT) for answer in answers.values())
        return Figures(len(numbers), self._runs, wrong, sum(answer is None for answer in answers.values()))

    def _again(self, number: int, vote: Vote) -> Result | None:
        """Has a provisional answer done again. Who is in doubt votes as a newcomer."""
        if vote.voter.provider in self._lots.blamed:
            vote = msgspec.structs.replace(vote, voter=msgspec.structs.replace(vote.voter, streak=0))
        if self._strangers[vote.voter.provider].colludes:
            self._agreed[str(number)] = vote.result != _RIGHT
        self._is_again = True
        result = self._result_of([vote], [], self._ranked(), number)
        self._is_again = False
        return result

    def _result_of(self, votes: list[Vote], called: list[Voter], rest: Sequence[Voter], number: int) -> Result | None:
        request = RequestId(str(number))
        votes, verdict = self._settle(votes, called, rest, request)
        self._judged(request, votes, verdict)
        return verdict.accepted.result if verdict.accepted is not None else None

    def _piece(self, beside: Terms) -> Result | None:
        """One piece of work, with as many copies as it takes."""
        first, *rest = self._ranked()
        if VERIFICATION.first_copies(first.streak, beside.seed, self._number) == 1:
            votes = self._run([first], beside.request_id)
            verdict = Verdict(votes[0])
        else:
            votes, verdict = self._settle([], [first], rest, beside.request_id)
        self._judged(beside.request_id, votes, verdict)
        return verdict.accepted.result if verdict.accepted is not None else None

    def _canary(self, work: Work) -> None:
        """Known work once more. An answer that is not the known one does not prove who lied: others do the work anew."""
        seen, request = self._known.witnesses(work), f"{work[0]} again"
        known = Canary(*work, 1, self._results[work], seen.right, seen.asked)
        asked = [Voter(answer.provider, answer.source) for answer in seen.asked]
        bidders = self._ranked()
        first = next_voter(bidders, asked)
        if first is None:
            return
        if any(self._strangers[voter.provider].colludes for voter in asked):
            self._agreed[request] = known.result != _RIGHT  # they recognise it, and say what they said
        votes, verdict = [], Verdict()
        if known.is_confirmed or is_proven(first.streak):
            votes = self._run([first], request)
            if votes[0].result == known.result:
                verdict = Verdict(votes[0], (first.provider,))
        if verdict.accepted is None:
            known_by = known_votes(known)
            votes, verdict = self._settle(votes, [] if votes else [first], bidders, request, asked, known_by)
        self._judged(RequestId(request), votes, verdict, known)

    def _settle(  # noqa: PLR0917 - what a piece of work is settled with
        self,
        votes: list[Vote],
        called: list[Voter],
        rest: Sequence[Voter],
        request: str,
        asked: Sequence[Voter] = (),
        known_by: Sequence[Vote] = (),
    ) -> tuple[list[Vote], Verdict]:
        """Asks as many as would suffice if they agree, then one more at a time until it is clear who is right."""
        seen = [*asked, *(vote.voter for vote in votes)]
        present = [vote.voter for vote in votes] if self._is_again else []
        while (called or present) and weight_of([*present, *called], VERIFICATION) < VERIFICATION.quorum:
            voter = next_voter(rest, [*seen, *called])
            if voter is None:
                break
            called.append(voter)
        votes += self._run(called, request)
        witnesses = {vote.voter.provider for vote in known_by}
        while not (verdict := judge(camps_of([*votes, *known_by]), VERIFICATION, witnesses)).accepted:
            if verdict.undecided:
                break
            voter = next_voter(rest, [*asked, *(vote.voter for vote in votes)])
            if voter is None:
                break
            votes += self._run([voter], request, votes)
        return votes, verdict

    def _judged(
        self, request: RequestId, votes: Sequence[Vote], verdict: Verdict, canary: Canary | None = None
    ) -> None:
        """Remembers what follows, as the real requester does."""
        answers = {vote.voter.provider: self._answer(vote.voter.provider) for vote in votes}
        clear = {*verdict.right, *verdict.wrong}
        is_same = canary is not None and verdict.accepted is not None and verdict.accepted.result == canary.result
        is_other = canary is not None and verdict.accepted is not None and not is_same
        event = ResultJudged(
            0,
            self._now,
            accepted=0 if verdict.accepted is not None else None,
            right=tuple(answers[peer] for peer in verdict.right),
            wrong=tuple(answers[peer] for peer in verdict.wrong),
            unjudged=tuple(answer for peer, answer in answers.items() if peer not in clear),
            canary=(canary.request_id, canary.piece) if canary is not None else None,
            overturned=canary.right if canary is not None and is_other else (),
            confirmed=canary.right if canary is not None and is_same and not canary.is_confirmed else (),
            pieces=1 if self._number < self._plan.warm_up else self._plan.job,
        )
        self._known.note(request, event)
        self._lots.blamed |= set(verdict.wrong)
        if verdict.accepted is not None and canary is None:
            self._results[request, 0] = verdict.accepted.result
        for peer, _, kind in seen_in(event):
            self._note(peer, kind)

    def _answer(self, peer: PeerId) -> Answer:
        return Answer(0, peer, AllocationId(""), source=self._strangers[peer].source)

    def _ranked(self) -> list[Voter]:
        chosen = self._rng.sample(self._bidders or self._peers, min(BIDDERS, len(self._peers)))
        if self._number >= self._plan.by_luck:
            score = {peer: self._score(peer) for peer in chosen}
            chosen.sort(key=lambda peer: -score[peer] - FULL * self._rng.uniform(-LUCK, LUCK))
        return [Voter(peer, self._strangers[peer].source, self._record.of(peer).streak) for peer in chosen]

    def _score(self, peer: PeerId) -> int:
        """Its standing, and what it is cheaper; worked out anew when something was seen of it, and every few hours since it fades."""
        discount = 0 if self._strangers[peer].habit is Habit.HONEST else round(FULL * self._plan.underbids)
        evidence, period = self._record.of(peer), self._now // FADES_EVERY_MS
        held = self._scores.get(peer)
        if held is None or held[0] is not evidence or held[1] != period:
            held = self._scores[peer] = evidence, period, standing(evidence, self._now).score + discount
        return held[2]

    def _run(self, voters: Sequence[Voter], request: str, earlier: Iterable[Vote] = ()) -> list[Vote]:
        """Copies at these voters at once; each knows who of its own has one."""
        present = [*voters, *(vote.voter for vote in earlier)]
        are_together = sum(self._strangers[voter.provider].colludes for voter in present) > 1
        return [self._vote(voter, request, are_together=are_together) for voter in voters]

    def _vote(self, voter: Voter, request: str, *, are_together: bool) -> Vote:
        self._runs += 1
        self._note(voter.provider, Kind.KEPT)
        stranger = self._strangers[voter.provider]
        lies = not self._is_again and self._lies(stranger, voter, request, are_together=are_together)
        if stranger.colludes:
            lies = self._agreed.setdefault(request, lies)
        liar = "the colluders" if stranger.colludes else stranger.peer
        return Vote(voter, _result(f"{liar} {_number_of(request)}") if lies else _RIGHT)

    def _lies(self, stranger: _Stranger, voter: Voter, request: str, *, are_together: bool) -> bool:
        match stranger.habit:
            case Habit.HONEST:
                return False
            case Habit.LONG:
                return is_drawn(self._terms.seed, LONG_ONE_IN, "long", _number_of(request))
            case Habit.SLEEPER:
                return is_trusted(voter.streak) and _happens(2, self._rng)
            case Habit.TOGETHER:
                return stranger.colludes and are_together
            case Habit.TURNCOAT:
                return self._number >= stranger.turns_at and _happens(2, self._rng)
            case habit:
                return _happens(ONE_IN[habit], self._rng)

    def _note(self, peer: PeerId, kind: Kind) -> None:
        stranger = self._strangers[peer]
        if kind is Kind.WRONG and stranger.habit is Habit.HONEST:
            self._accused.add(peer)
        self._record.note(peer, stranger.source, kind, self._now)


class _Lots:
    """What each provider gave to one job, as `market.auction_lots` sees it."""

    def __init__(self, seed: bytes) -> None:
        self.held: dict[int, Vote] = {}
        """What was taken as it came, by piece."""
        self.blamed: set[PeerId] = set()
        self._seed = seed
        self._answers: Counter[PeerId] = Counter()
        self._checked: Counter[PeerId] = Counter()

    def answered(self, provider: PeerId) -> None:
        self._answers[provider] += 1

    def checked(self, provider: PeerId) -> None:
        self._checked[provider] += 1

    def hold(self, number: int, vote: Vote) -> None:
        self.held[number] = vote
        self.answered(vote.voter.provider)

    def due(self) -> tuple[int, Vote] | None:
        """An answer to be done again; it is not held any more."""
        providers = {vote.voter.provider for vote in self.held.values()}
        are_due = {provider for provider in providers if self._is_due(provider)}
        if not are_due:
            return None
        lots = (number for number, vote in self.held.items() if vote.voter.provider in are_due)
        number = min(lots, key=lambda number: drawn(self._seed, "look", number))
        vote = self.held.pop(number)
        self.checked(vote.voter.provider)
        return number, vote

    def _is_due(self, provider: PeerId) -> bool:
        looks = looks_due(self._answers[provider], self._seed, provider) - self._checked[provider]
        return looks > 0 or provider in self.blamed


def _strangers(plan: Plan) -> Mapping[PeerId, _Stranger]:
    """Everybody, each with a source of its own."""
    count = plan.lonely + plan.colluding
    malicious = [plan.habits[index % len(plan.habits)] for index in range(count)]
    habits = [Habit.HONEST] * plan.honest + malicious
    colluding_from = plan.honest + plan.lonely
    strangers = [
        _Stranger(
            PeerId(f"p{index}"),
            f"source {index}",
            habit,
            index >= colluding_from,
            plan.warm_up + plan.pieces * (index - plan.honest) // (2 * max(1, count)),
        )
        for index, habit in enumerate(habits)
    ]
    return {stranger.peer: stranger for stranger in strangers}


def _happens(one_in: int, rng: Random) -> bool:
    return rng.random() * one_in < 1


def _number_of(request: str) -> str:
    """Of new work and of the canary of it: the same work."""
    return request.partition(" ")[0]


def _result(text: str) -> Result:
    return Result(Ending(EndReason.COMPLETED, 0), (Output("answer", Digest(text), 1),))


_RIGHT: Final = _result("right")
