from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from dms.hardware.cgroups import CgroupLimits
from dms.hardware.facts import cpu_model, memory_available, read_facts


def test_the_facts_are_those_of_this_machine(tmp_path: Path) -> None:
    facts = read_facts(tmp_path)
    assert facts.architecture == platform.machine()
    assert facts.cores == os.cpu_count()
    assert 0 < facts.cpu_millicores <= len(os.sched_getaffinity(0)) * 1000
    assert 0 < facts.memory_available_bytes <= facts.memory_bytes <= psutil.virtual_memory().total
    assert 0 < facts.disk_free_bytes <= facts.disk_total_bytes
    assert facts.kernel.startswith("Linux ")
    assert 0 <= facts.steal_permille <= 1000


def test_disk_is_that_of_the_nearest_existing_directory(tmp_path: Path) -> None:
    assert read_facts(tmp_path / "not" / "yet").disk_total_bytes == read_facts(tmp_path).disk_total_bytes


def test_affinity_is_respected_and_said(tmp_path: Path) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs 2 cores to take one away")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from pathlib import Path; from dms.hardware.facts import read_facts;"
        "f = read_facts(Path('/')); print(f.cpu_millicores <= 1000, [l for l in f.limits if 'affinity' in l])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.startswith("True ['CPU affinity: 1 of ")


def test_a_containers_limits_are_the_facts_not_its_hosts(tmp_path: Path) -> None:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "self/cgroup").write_text("0::/\n")
    (proc / "self/mountinfo").write_text("31 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "cpu.max").write_text("30000 100000\n")
    (group / "memory.max").write_text(f"{256 << 20}\n")
    (group / "memory.current").write_text(f"{56 << 20}\n")
    facts = read_facts(tmp_path, proc, tmp_path)
    assert facts.cpu_millicores == 300
    assert facts.memory_bytes == 256 << 20
    assert facts.memory_available_bytes == 200 << 20
    assert len(facts.limits) >= 2


def test_available_memory_is_never_negative() -> None:
    assert memory_available(10**9, CgroupLimits()) == 10**9
    assert memory_available(10**9, CgroupLimits(memory_bytes=100, memory_used_bytes=30)) == 70
    assert memory_available(10, CgroupLimits(memory_bytes=100, memory_used_bytes=30)) == 10
    assert memory_available(10**9, CgroupLimits(memory_bytes=100, memory_used_bytes=130)) == 0


@pytest.mark.parametrize(
    ("cpuinfo", "model"),
    [
        (
            "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Intel(R) Xeon(R)  Gold 6130 CPU @ 2.10GHz\n",
            "Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz",
        ),
        ("processor\t: 0\nBogoMIPS\t: 243.75\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n", "Neoverse-N1"),
        ("processor\t: 0\nCPU part\t: 0xfff\n", "ARM part 0xfff"),
        ("processor\t: 0\nhart\t: 0\nisa\t: rv64imafdc\nuarch\t: sifive,u74-mc\n", "sifive,u74-mc"),
        ("processor\t: 0\ncpu\t\t: POWER9, altivec supported\n", "POWER9, altivec supported"),
        ("", ""),
    ],
)
def test_the_processors_name_is_found_on_every_architecture(cpuinfo: str, model: str) -> None:
    assert cpu_model(cpuinfo) == model


def test_importing_the_package_loads_neither_psutil_nor_nvml() -> None:
    code = (
        "import sys; import dms.hardware.facts, dms.hardware.gpu, dms.hardware.monitor, dms.hardware.capability, dms.hardware.benchmark;"
        "print(sorted({'psutil', 'pynvml', 'cryptography'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"
