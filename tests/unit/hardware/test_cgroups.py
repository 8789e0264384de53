"""Recorded /proc and /sys trees of real set-ups, rebuilt as files: a Docker container on v2 and v1, a systemd unit, a bare machine, a hybrid one."""

from __future__ import annotations

from pathlib import Path

import pytest

from dms.hardware.cgroups import CgroupLimits, read_limits

GIB = 2**30


class Machine:
    """A /proc/self and a cgroup tree made of real files."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "proc/self").mkdir(parents=True)

    def groups(self, text: str) -> Machine:
        (self.root / "proc/self/cgroup").write_text(text)
        return self

    def mounts(self, *lines: str) -> Machine:
        (self.root / "proc/self/mountinfo").write_text("\n".join(lines) + "\n")
        return self

    def file(self, path: str, text: str) -> Machine:
        target = self.root / "sys/fs/cgroup" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
        return self

    def limits(self) -> CgroupLimits:
        return read_limits(self.root / "proc", self.root)


V2 = "31 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_CPU = "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory"


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_a_bare_machine_has_no_limits(machine: Machine) -> None:
    machine.groups("0::/user.slice\n").mounts(V2).file("user.slice/cpu.max", "max 100000").file(
        "user.slice/memory.max", "max"
    )
    assert machine.limits() == CgroupLimits()


def test_a_container_on_v2_sees_its_limits_at_the_mount_point(machine: Machine) -> None:
    # docker run --cpus 1.5 --memory 2g, private cgroup namespace (the default on v2)
    machine.groups("0::/\n").mounts(V2)
    machine.file("cpu.max", "150000 100000").file("memory.max", str(2 * GIB))
    machine.file("memory.current", str(3 * 2**28)).file("memory.stat", f"anon 5\ninactive_file {2**28}\nactive_file 7")
    limits = machine.limits()
    assert (limits.cpu_millicores, limits.memory_bytes, limits.memory_used_bytes) == (1500, 2 * GIB, 2**29)
    assert any("1.5 cores" in source for source in limits.sources)


def test_a_container_on_v1_without_namespace_is_found_below_what_is_mounted(machine: Machine) -> None:
    # docker on v1 mounts only the container's part (mountinfo field 4), while /proc/self/cgroup still shows the host's path
    machine.groups("4:memory:/docker/abc\n5:cpu,cpuacct:/docker/abc\n")
    machine.mounts(V1_CPU.replace(" / ", " /docker/abc ", 1), V1_MEMORY.replace(" / ", " /docker/abc ", 1))
    machine.file("cpu,cpuacct/cpu.cfs_quota_us", "50000").file("cpu,cpuacct/cpu.cfs_period_us", "100000")
    machine.file("memory/memory.limit_in_bytes", str(GIB)).file("memory/memory.usage_in_bytes", "1000")
    machine.file("memory/memory.stat", "cache 1\ntotal_inactive_file 400")
    limits = machine.limits()
    assert (limits.cpu_millicores, limits.memory_bytes, limits.memory_used_bytes) == (500, GIB, 600)


def test_the_tightest_limit_on_the_way_up_counts(machine: Machine) -> None:
    machine.groups("0::/a.slice/b.service/c\n").mounts(V2)
    machine.file("a.slice/cpu.max", "100000 100000").file("a.slice/memory.max", "max")
    machine.file("a.slice/b.service/cpu.max", "400000 100000").file("a.slice/b.service/memory.max", str(4 * GIB))
    machine.file("a.slice/b.service/c/cpu.max", "max 100000").file("a.slice/b.service/c/memory.max", str(8 * GIB))
    machine.file("a.slice/b.service/memory.current", "10").file("a.slice/b.service/c/memory.current", "5")
    limits = machine.limits()
    assert (limits.cpu_millicores, limits.memory_bytes, limits.memory_used_bytes) == (1000, 4 * GIB, 10)


def test_v1_without_limits_writes_a_huge_number_and_minus_one(machine: Machine) -> None:
    machine.groups("4:memory:/\n5:cpu,cpuacct:/\n").mounts(V1_CPU, V1_MEMORY)
    machine.file("cpu,cpuacct/cpu.cfs_quota_us", "-1").file("cpu,cpuacct/cpu.cfs_period_us", "100000")
    machine.file("memory/memory.limit_in_bytes", "9223372036854771712")
    assert machine.limits() == CgroupLimits()


def test_on_a_hybrid_machine_each_controller_is_read_where_it_lives(machine: Machine) -> None:
    machine.groups("8:memory:/m\n1:cpu,cpuacct:/c\n0::/u\n").mounts(
        V1_CPU, V1_MEMORY, V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ", 1)
    )
    machine.file("cpu,cpuacct/c/cpu.cfs_quota_us", "200000").file("cpu,cpuacct/c/cpu.cfs_period_us", "100000")
    machine.file("memory/m/memory.limit_in_bytes", str(GIB)).file("unified/u/cgroup.procs", "")
    limits = machine.limits()
    assert (limits.cpu_millicores, limits.memory_bytes) == (2000, GIB)


def test_a_group_outside_of_what_is_mounted_is_read_at_the_mount_point(machine: Machine) -> None:
    machine.groups("0::/../other\n").mounts(V2).file("memory.max", str(GIB))
    assert machine.limits().memory_bytes == GIB


def test_without_proc_there_is_no_limit(tmp_path: Path) -> None:
    assert read_limits(tmp_path / "nothing") == CgroupLimits()


@pytest.mark.parametrize("text", ["", "max", "abc 100000", "100000 0", "-5 100000", "100000"])
def test_a_quota_that_cannot_be_read_is_no_quota(machine: Machine, text: str) -> None:
    machine.groups("0::/\n").mounts(V2).file("cpu.max", text)
    assert machine.limits().cpu_millicores is None
