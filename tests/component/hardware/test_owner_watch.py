"""Whether the owner uses this machine, seen on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dms.hardware.owner_watch import OwnerWatch, idle_ms, is_unplugged
from dms.testing.market import until
from dms_proto.owner_first import Rules


@pytest.fixture
def somebody_elses(tmp_path: Path) -> Iterator[int]:
    """A program that uses a core and is nobody's child here."""
    told = tmp_path / "pid"
    script = f"echo $$ > {told}.new; mv {told}.new {told}; while :; do :; done"
    subprocess.run(["setsid", "--fork", "sh", "-c", script], check=True, timeout=30)
    while not told.exists():
        os.sched_yield()
    pid = int(told.read_text())
    yield pid
    os.kill(pid, signal.SIGKILL)


async def test_a_program_that_is_not_ours_makes_the_machine_its_owners(somebody_elses: int) -> None:
    heard: list[str] = []
    watch = OwnerWatch(Rules(cpu_millicores=200, on_battery=False), heard.append)
    watch.start()
    await until(lambda: heard, bool, 60)
    await watch.stop()
    assert heard[0].startswith("other programs use ")
    assert watch.presence.because == heard[0]


def test_what_we_use_ourselves_is_not_counted() -> None:
    watch = OwnerWatch(Rules(on_battery=False), lambda _because: None, adopted=lambda: [1])
    watch.check()
    watch.check()  # the first process of the machine is ours here, and so is all below it
    assert watch.presence.because == ""


def test_when_somebody_typed_last_is_read_off_the_terminals(tmp_path: Path) -> None:
    assert idle_ms(tmp_path) is None
    (tmp_path / "pts").mkdir()
    for name, age in (("pts/0", 50), ("tty1", 500)):
        (tmp_path / name).touch()
        at = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (at, at))
    idle = idle_ms(tmp_path)
    assert idle is not None
    assert 49_000 <= idle < 400_000


def test_a_machine_without_a_battery_is_not_unplugged() -> None:
    if Path("/sys/class/power_supply").is_dir() and list(Path("/sys/class/power_supply").iterdir()):
        pytest.skip("this machine has a battery, or says what feeds it")
    assert not is_unplugged()
