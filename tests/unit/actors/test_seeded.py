"""The seeded runtime: the same seed gives the same run, and its actors keep the rules of those on threads."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dms_actors.behaviour import Address
from dms_actors.testing.seeded import EPOCH, SeededLoop, SeededRuntime
from dms_proto.errors import InternalError, MachineError

FOREVER = EPOCH + 3_600_000


class Player:
    """Notes everything in a story shared by all; passes numbers on to the next player, counted down."""

    def __init__(self, name: str, story: list[str], others: list[Address]) -> None:
        self._name = name
        self._story = story
        self._others = others
        self.wake_at: int | None = None

    def start(self, me: Address, *, is_new: bool) -> None:
        self._is_new = True

    def receive(self, batch: Sequence[object], now: int) -> Sequence[object]:
        if self._is_new:
            self._is_new = False
            self._note("start", now)
        if batch or self.wake_at is not None:
            self._note(" ".join(map(str, batch)) or "woken", now)
        if not batch:
            self.wake_at = None
        for message in batch:
            if isinstance(message, int) and message > 0:
                self._others[message % len(self._others)].tell(message - 1)
            if message == "sleep":
                self.wake_at = now + 500
            if message == "broken":
                raise ValueError("broken")
        return [message if isinstance(message, Exception) else f"{self._name}: {message}" for message in batch]

    def deadline(self) -> int | None:
        return self.wake_at

    def stop(self) -> None:
        self._note("stop", 0)

    def _note(self, what: str, now: int) -> None:
        self._story.append(f"{self._name} {what} at {now - EPOCH}")


def play(seed: int, count: int = 3) -> list[str]:
    """A game of passing on, to its end; what happened."""
    story, players = list[str](), list[Address]()
    runtime = SeededRuntime(SeededLoop(seed))
    for number in range(count):
        players.append(runtime.spawn(f"p{number}", lambda n=number: Player(f"p{n}", story, players)))  # type: ignore[misc]
    for player in players:
        player.tell(30)
    runtime.loop.run(lambda: False, FOREVER)
    return story


def one(seed: int = 1) -> tuple[SeededRuntime, Address, list[str]]:
    story: list[str] = []
    runtime = SeededRuntime(SeededLoop(seed))
    return runtime, runtime.spawn("one", lambda: Player("one", story, [])), story


def test_the_same_seed_gives_the_same_run() -> None:
    assert [play(seed) for seed in range(20)] == [play(seed) for seed in range(20)]


def test_other_seeds_give_other_orders() -> None:
    assert len({tuple(play(seed)) for seed in range(20)}) > 15


def test_nothing_told_is_lost() -> None:
    for seed in range(20):
        numbers = [word for line in play(seed) for word in line.split(" at ")[0].split() if word.isdigit()]
        assert sorted(map(int, numbers)) == sorted([*range(31)] * 3)


def test_a_question_has_the_others_go_on_until_it_is_answered() -> None:
    _, player, _ = one()
    assert player.ask("hello", 1) == "one: hello"
    with pytest.raises(MachineError, match="no room"):
        player.ask(MachineError("disk_full", "no room"), 1)


def test_time_goes_to_the_next_deadline_when_nothing_else_is_due() -> None:
    runtime, player, story = one()
    player.tell("sleep")
    runtime.later(200, lambda: story.append("timer"))
    runtime.loop.run(lambda: False, FOREVER)
    assert [line.split(" at ")[0] for line in story] == ["one start", "one sleep", "timer", "one woken"]
    assert int(story[-1].split()[-1]) >= 500


def test_time_does_not_go_beyond_what_was_asked_for() -> None:
    runtime, _, _ = one()
    runtime.loop.later(10_000, lambda: None)
    runtime.loop.later(20_000, lambda: None)
    assert not runtime.loop.run(lambda: False, EPOCH + 5_000)
    assert runtime.loop.now == EPOCH + 10_000


def test_a_skewed_process_wakes_at_the_right_moment_of_the_common_clock() -> None:
    story: list[str] = []
    runtime = SeededRuntime(SeededLoop(1), skew_ms=7_000)
    player = runtime.spawn("one", lambda: Player("one", story, []))
    player.tell("sleep")
    runtime.loop.run(lambda: False, FOREVER)
    begun, woken = (int(line.split()[-1]) for line in story[1:])
    assert begun >= 7_000
    assert 500 <= woken - begun < 600


def test_a_full_mailbox_refuses_and_counts() -> None:
    runtime = SeededRuntime(SeededLoop(1))
    player = runtime.spawn("one", lambda: Player("one", [], []), capacity=2)
    assert [player.tell("m") for _ in range(3)] == [True, True, False]
    assert player.refused == 1


def test_a_behaviour_that_raises_is_built_anew_and_the_asker_told() -> None:
    runtime, player, story = one()
    with pytest.raises(InternalError, match="failed"):
        player.ask("broken", 1)
    assert player.ask("now?", 1) == "one: now?"
    assert sum("start" in line for line in story) == 2
    assert [name for name, _ in runtime.loop.failures] == ["one"]


def test_a_failure_that_was_asked_for_is_not_counted_as_a_defect() -> None:
    runtime, player, story = one()
    player.ask("there?", 1)
    runtime.actors[0].fail_next()
    with pytest.raises(InternalError, match="failed"):
        player.ask("hello", 1)
    assert runtime.loop.failures == []
    assert sum("start" in line for line in story) == 2


def test_one_that_fails_too_often_is_given_up_with_notice() -> None:
    given_up: list[str] = []
    runtime = SeededRuntime(SeededLoop(1))
    player = runtime.spawn("one", lambda: Player("one", [], []), given_up.append)
    for _ in range(4):
        with pytest.raises(InternalError):
            player.ask("broken", 1)
    assert given_up == ["one"]
    assert not player.tell("anybody?")


def test_a_killed_process_does_nothing_more() -> None:
    runtime, player, story = one()
    player.tell("sleep")
    runtime.later(100, lambda: story.append("timer"))
    runtime.loop.run(lambda: len(story) == 2, FOREVER)
    runtime.kill()
    assert not runtime.loop.run(lambda: False, FOREVER)
    assert not player.tell("hello")
    assert len(story) == 2


def test_stopping_all_ends_the_youngest_first_after_what_waits() -> None:
    story: list[str] = []
    runtime = SeededRuntime(SeededLoop(3))
    for name in "abc":
        runtime.spawn(name, lambda name=name: Player(name, story, [])).tell("m")  # type: ignore[misc]
    runtime.stop_all()
    assert [line.split(" at ")[0] for line in story] == [f"{n} {w}" for n in "cba" for w in ("start", "m", "stop")]
    assert runtime.actors == []


def test_each_batch_is_shown_to_whoever_watches() -> None:
    runtime, player, _ = one()
    seen: list[str] = []
    runtime.loop.watch = lambda name, _behaviour: seen.append(name)
    player.ask("hello", 1)
    player.ask("and again", 1)
    assert seen == ["one", "one"]
