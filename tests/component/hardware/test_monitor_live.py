"""The monitor on the real machine: a real program next door makes itself felt, our own does not."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dms.hardware.facts import read_facts
from dms.hardware.monitor import Monitor, look
from dms.hardware.own_use import own_use
from dms.hardware.pressure import Pressure
from dms_proto.capability import Resources

HOLD = 1 << 30
"""Bytes the program next door takes: far more than other tests, running at the same time, take or give back."""
HOLDER = f"import sys; held = bytearray(b'x') * {HOLD}; print('held', flush=True); sys.stdin.read()"


@contextlib.contextmanager
def program(code: str, *, ours: bool) -> Iterator[int]:
    """A Python program that has printed a line; `ours` False makes it a stranger's: its parent ends, so it is no child of this process."""
    command = [sys.executable, "-c", code]
    if not ours:
        command = ["setsid", "--fork", *command]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()
    try:
        yield process.pid
    finally:
        process.stdin.close()  # it reads to the end of its input, then ends
        process.stdout.read()
        process.stdout.close()
        process.wait()


async def eventually(condition: Callable[[], bool], deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come true"
        await asyncio.sleep(0.02)


@pytest.fixture
def monitor(tmp_path: Path) -> Monitor:
    facts = read_facts(tmp_path)
    everything = Resources(facts.cpu_millicores, facts.memory_bytes, facts.disk_total_bytes)
    return Monitor(tmp_path, facts.cpu_millicores, lambda: everything, interval_s=0.05)


async def test_when_everything_is_registered_whatever_others_hold_is_pressure(monitor: Monitor) -> None:
    monitor.start()
    await eventually(lambda: monitor.last is not None)
    assert monitor.pressure.memory_bytes > 0  # the system itself uses some
    assert monitor.pressure.explain().startswith("other programs use")
    await monitor.stop()


async def test_a_program_next_door_raises_the_pressure_and_its_end_lowers_it(tmp_path: Path) -> None:
    facts = read_facts(tmp_path)
    if facts.memory_available_bytes < 3 * HOLD:
        pytest.skip(f"needs {3 * HOLD} bytes of free memory, there are {facts.memory_available_bytes}")
    before = look(tmp_path, {os.getpid()})
    others = before.memory_total - before.memory_available - before.own.memory_bytes
    spare = HOLD // 2
    registered = Resources(memory_bytes=facts.memory_bytes - others - spare)
    changes: list[Pressure] = []
    monitor = Monitor(tmp_path, facts.cpu_millicores, lambda: registered, interval_s=0.05, on_change=changes.append)
    monitor.start()
    with program(HOLDER, ours=False):
        await eventually(lambda: monitor.pressure.memory_bytes >= HOLD // 4)
        felt = monitor.pressure.memory_bytes
    await eventually(lambda: monitor.pressure.memory_bytes < felt)
    await monitor.stop()
    assert len(changes) >= 2


def test_a_program_of_ours_counts_as_ours() -> None:
    before = own_use({os.getpid()})
    with program(HOLDER, ours=True) as pid:
        during = own_use({os.getpid()})
        assert pid in during.processes
        assert during.memory_bytes - before.memory_bytes > HOLD // 2


def test_cpu_of_a_child_that_ended_is_ours() -> None:
    before = own_use({os.getpid()})
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"], check=True)
    ticks = own_use({os.getpid()}).ticks_since(before)
    assert ticks >= 0.15 * os.sysconf("SC_CLK_TCK")


async def test_stopping_twice_and_checking_by_hand_do_no_harm(monitor: Monitor) -> None:
    monitor.check()
    monitor.start()
    monitor.check()
    await monitor.stop()
    await monitor.stop()
    assert isinstance(monitor.check(), Pressure)


async def test_a_home_that_went_away_does_not_end_the_monitor(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "home"
    home.mkdir()
    monitor = Monitor(home, 1000, Resources, interval_s=0.02)
    monitor.start()
    home.rmdir()
    await eventually(lambda: "could not be sampled" in caplog.text)
    home.mkdir()
    await eventually(lambda: monitor.last is not None)
    await monitor.stop()
