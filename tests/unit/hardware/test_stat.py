from __future__ import annotations

from pathlib import Path

from dms.hardware.stat import CpuTicks, parse_ticks, read_ticks


def test_the_line_of_all_cores_is_read_by_field() -> None:
    line = "cpu  100 20 30 4000 50 6 7 80 900 1000"
    assert parse_ticks(line) == CpuTicks(busy=100 + 20 + 30 + 6 + 7, idle=4050, steal=80)


def test_an_old_kernel_with_fewer_fields_is_read_too() -> None:
    assert parse_ticks("cpu 1 2 3 4") == CpuTicks(busy=6, idle=4, steal=0)


def test_what_passed_is_never_negative() -> None:
    assert CpuTicks(10, 10, 0) - CpuTicks(5, 20, 1) == CpuTicks(5, 0, 0)


def test_the_machines_own_counters_only_grow() -> None:
    first = read_ticks()
    assert first.total > 0
    assert read_ticks().total >= first.total


def test_without_proc_the_counters_are_zero(tmp_path: Path) -> None:
    assert read_ticks(tmp_path) == CpuTicks(0, 0, 0)
