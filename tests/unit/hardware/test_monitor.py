from __future__ import annotations

import os
from pathlib import Path

from dms.hardware.monitor import Look, sample_between
from dms.hardware.own_use import OwnUse, ProcessUse
from dms.hardware.pressure import Amounts
from dms.hardware.stat import CpuTicks

CORES = (os.cpu_count() or 1) * 1000
TOTAL = 100 * (os.cpu_count() or 1)
"""Ticks of the whole machine in one second."""


def look(at: float, busy: int, own: int, steal: int = 0, available: int = 600) -> Look:
    machine = CpuTicks(busy, int(at * TOTAL) - busy - steal, steal)
    return Look(at, machine, OwnUse({1: ProcessUse(5, own, 0)}, 100), 1000, available, 2000, 1500)


def test_what_is_used_less_what_is_ours_is_others() -> None:
    sample = sample_between(look(1, 0, 0), look(2, TOTAL // 2, TOTAL // 4), CORES)
    assert sample.capacity == Amounts(CORES, 1000, 2000)
    assert sample.used == Amounts(CORES // 2, 400, 500)
    assert sample.own == Amounts(CORES // 4, 100, 0)
    assert sample.others == Amounts(CORES // 4, 300, 500)


def test_what_the_hypervisor_kept_is_not_there_to_offer() -> None:
    sample = sample_between(look(1, 0, 0), look(2, 0, 0, steal=TOTAL // 2), CORES)
    assert sample.others.cpu_millicores == CORES // 2


def test_under_a_quota_others_may_use_the_rest_of_the_machine() -> None:
    half = CORES // 2
    assert sample_between(look(1, 0, 0), look(2, TOTAL // 2, 0), half).others.cpu_millicores == 0
    assert sample_between(look(1, 0, 0), look(2, TOTAL, 0), half).others.cpu_millicores == half
    assert sample_between(look(1, 0, 0), look(2, TOTAL, TOTAL // 2), half).others.cpu_millicores == 0


def test_own_use_never_exceeds_the_machines() -> None:
    sample = sample_between(look(1, 0, 0), look(2, TOTAL // 4, TOTAL * 5), CORES)
    assert sample.own.cpu_millicores == sample.used.cpu_millicores == CORES // 4


def test_own_disk_is_not_others() -> None:
    assert sample_between(look(1, 0, 0), look(2, 0, 0), CORES, own_disk_bytes=400).others.disk_bytes == 100


def test_two_looks_in_the_same_tick_see_no_cpu_and_do_not_divide_by_zero() -> None:
    assert sample_between(look(1, 0, 0), look(1, 0, 0), CORES).used.cpu_millicores == 0


def test_a_look_reads_this_machine(tmp_path: Path) -> None:
    from dms.hardware.monitor import look as real_look

    seen = real_look(tmp_path, {os.getpid()}, clock=lambda: 42.0)
    assert seen.at == 42.0
    assert 0 < seen.memory_available <= seen.memory_total
    assert 0 < seen.disk_free <= seen.disk_total
    assert os.getpid() in seen.own.processes
    assert seen.own.memory_bytes > 1 << 20
