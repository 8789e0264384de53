from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dms.hardware.own_use import MAX_TREE, OwnUse, ProcessUse, own_use


class Processes:
    """A /proc made of real files."""

    def __init__(self, proc: Path) -> None:
        self.proc = proc

    def add(
        self,
        pid: int,
        *children: int,
        ticks: tuple[int, int, int, int] = (0, 0, 0, 0),
        pages: int = 0,
        pss_kib: int = -1,
    ) -> Processes:
        directory = self.proc / str(pid)
        (directory / "task" / str(pid)).mkdir(parents=True)
        (directory / "task" / str(pid) / "children").write_text(" ".join(map(str, children)) + " ")
        fields = ["S", *["0"] * 10, *map(str, ticks), *["0"] * 4, "777", "0"]
        (directory / "stat").write_text(f"{pid} (a ) name) {' '.join(fields)}\n")
        (directory / "statm").write_text(f"{pages * 2} {pages} 0 0 0 0 0\n")
        if pss_kib >= 0:
            (directory / "smaps_rollup").write_text(f"00400000-7fff [rollup]\nRss: 1 kB\nPss:  {pss_kib} kB\n")
        return self


def test_a_tree_is_summed_with_the_children_of_every_thread(tmp_path: Path) -> None:
    processes = (
        Processes(tmp_path).add(1, 2, ticks=(1, 2, 3, 4)).add(2, ticks=(10, 20, 0, 0)).add(3, ticks=(5, 5, 0, 0)).add(9)
    )
    (tmp_path / "1/task/77").mkdir()
    (tmp_path / "1/task/77/children").write_text("3 ")
    use = own_use({1}, processes.proc)
    assert use.processes == {1: ProcessUse(777, 3, 7), 2: ProcessUse(777, 30, 0), 3: ProcessUse(777, 10, 0)}


def test_adopted_runs_are_roots_of_their_own_and_nothing_counts_twice(tmp_path: Path) -> None:
    processes = Processes(tmp_path).add(1, 2).add(2).add(50, 51).add(51)
    assert set(own_use({1, 2, 50}, processes.proc).processes) == {1, 2, 50, 51}


def test_a_process_that_ended_meanwhile_is_skipped(tmp_path: Path) -> None:
    assert set(own_use({1}, Processes(tmp_path).add(1, 2, 3).add(3).proc).processes) == {1, 3}


def test_small_processes_count_their_share_of_shared_pages_and_large_ones_what_is_resident(tmp_path: Path) -> None:
    import os

    page = os.sysconf("SC_PAGE_SIZE")
    processes = Processes(tmp_path).add(1, 2, 3, pages=100, pss_kib=8).add(2, pages=50).add(3, pages=1 << 20, pss_kib=8)
    assert own_use({1}, processes.proc).memory_bytes == 8 * 1024 + 50 * page + (1 << 20) * page


def test_a_fork_bomb_does_not_stall_the_node(tmp_path: Path) -> None:
    Processes(tmp_path).add(1, *range(2, 3 * MAX_TREE))
    assert len(own_use({1}, tmp_path).processes) == 1


def uses(**processes: tuple[int, int, int]) -> OwnUse:
    return OwnUse({int(pid.removeprefix("p")): ProcessUse(*use) for pid, use in processes.items()})


def test_what_the_living_used_is_counted() -> None:
    assert uses(p1=(7, 15, 0), p2=(8, 40, 0)).ticks_since(uses(p1=(7, 10, 0), p2=(8, 10, 0))) == 35


def test_a_child_waited_for_is_counted_once() -> None:
    before = uses(p1=(7, 10, 0), p2=(8, 100, 0))
    assert uses(p1=(7, 10, 130)).ticks_since(before) == 30


def test_a_child_that_came_and_went_in_between_is_counted() -> None:
    assert uses(p1=(7, 10, 25)).ticks_since(uses(p1=(7, 10, 0))) == 25


def test_a_child_killed_without_being_waited_for_does_not_hide_what_the_others_used() -> None:
    before = uses(p1=(7, 10, 0), p2=(8, 100_000, 0), p3=(9, 5, 0))
    assert uses(p1=(7, 12, 0), p3=(9, 205, 0)).ticks_since(before) == 202


def test_a_process_id_that_was_used_again_is_another_process() -> None:
    assert uses(p2=(99, 50, 0)).ticks_since(uses(p2=(8, 1000, 0))) == 50


processes = st.dictionaries(
    st.integers(1, 20), st.builds(ProcessUse, st.integers(0, 3), st.integers(0, 1000), st.integers(0, 1000))
)


@given(processes, st.dictionaries(st.integers(1, 20), st.integers(0, 100)), st.sets(st.integers(1, 20)))
def test_use_is_never_negative_when_counters_only_grow(
    before: dict[int, ProcessUse], grown: dict[int, int], died: set[int]
) -> None:
    after = {
        pid: ProcessUse(use.started, use.own_ticks + grown.get(pid, 0), use.waited_ticks)
        for pid, use in before.items()
        if pid not in died
    }
    used = OwnUse(after).ticks_since(OwnUse(before))
    assert used >= sum(grown.get(pid, 0) for pid in after)
