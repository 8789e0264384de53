"""When the machine is its owner's: quickly, with a reason, and not for a moment's use; free again only after some calm."""

from dms_proto.owner_first import LOOK_MS, LOOKS, Look, Presence, Rules, follow
from dms_proto.units import SECOND

RULES = Rules(cpu_millicores=1_000, on_battery=True, at_keys=True, calm_ms=10 * SECOND)


class Machine:
    """Looks at a regular pace."""

    def __init__(self, rules: Rules = RULES) -> None:
        self.rules, self.now, self.presence = rules, 0, Presence()

    def sees(self, times: int = 1, *, used: int = 0, unplugged: bool = False, idle_ms: int | None = None) -> str:
        for _ in range(times):
            self.now += LOOK_MS
            self.presence = follow(self.presence, Look(self.now, used, unplugged, idle_ms), self.rules)
        return self.presence.because


def test_use_by_others_is_a_reason_when_it_lasts_and_is_told_in_time() -> None:
    machine = Machine()
    assert machine.sees(used=1_500) == ""
    assert machine.sees(used=1_500) == "other programs use 1.5 cores, from 1 core on they come first"
    assert (LOOKS + 1) * LOOK_MS < 2 * SECOND


def test_a_burst_is_no_reason() -> None:
    machine = Machine()
    for _ in range(20):
        assert machine.sees(used=4_000) == ""
        assert machine.sees(used=999) == ""


def test_a_battery_and_keys_are_reasons_at_once() -> None:
    assert Machine().sees(unplugged=True) == "the machine runs on its battery"
    assert Machine().sees(idle_ms=0) == "somebody types at the machine"
    assert Machine().sees(idle_ms=60_000) == ""
    assert Machine().sees(idle_ms=None) == ""


def test_what_the_owner_does_not_count_is_no_reason() -> None:
    machine = Machine(Rules(cpu_millicores=0, on_battery=False, at_keys=False))
    assert machine.sees(10, used=64_000, unplugged=True, idle_ms=0) == ""


def test_it_is_free_again_after_the_calm_and_not_before() -> None:
    machine = Machine()
    machine.sees(2, used=2_000)
    calm = RULES.calm_ms // LOOK_MS
    assert machine.sees(calm) != ""
    assert machine.sees() == ""


def test_half_of_what_takes_it_keeps_it_and_any_sign_begins_the_calm_anew() -> None:
    machine = Machine()
    machine.sees(2, used=2_000)
    assert machine.sees(100, used=500) != ""
    assert machine.sees(RULES.calm_ms // LOOK_MS, used=499) != ""
    machine.sees(used=500)
    assert machine.sees(RULES.calm_ms // LOOK_MS, used=499) != ""
    assert machine.sees(used=499) == ""


def test_the_first_reason_stands() -> None:
    machine = Machine()
    first = machine.sees(2, used=2_000)
    assert machine.sees(used=3_000, unplugged=True) == first
