"""Limiters on made-up trees: what they write, what they read, which one is chosen. What the kernel then does is in the component tests."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
from pathlib import Path

import pytest

from dms.executors.limiter import Allowance, cgroup_files, cgroup_v2, detect, process_tree, signals
from dms.executors.limiter.cgroup_v1 import CgroupV1
from dms.executors.limiter.rlimits import Rlimits
from dms_proto.errors import MachineError
from dms_proto.units import MIB

ALLOWANCE = Allowance(1500, 64 * MIB, 10, 20 * MIB, MIB, 60_000)


def v2_tree(root: Path, controllers: str = "cpu io memory pids") -> Path:
    """A plain directory with the files a delegated group has; a real one makes those of its children itself."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "cgroup.controllers").write_text(controllers + "\n")
    (root / "cgroup.subtree_control").touch()
    (root / "cgroup.procs").touch()
    return root


def v2_group(base: Path, name: str) -> Path:
    group = base / name
    group.mkdir(parents=True)
    for file in (
        "cpu.max",
        "cpu.weight",
        "memory.max",
        "memory.swap.max",
        "memory.oom.group",
        "pids.max",
        "cgroup.procs",
    ):
        (group / file).touch()
    (group / "cpu.stat").write_text("usage_usec 1234\nuser_usec 1000\n")
    (group / "memory.current").write_text("1000\n")
    (group / "memory.peak").write_text("2000\n")
    (group / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    return group


def test_v2_limits_are_written(tmp_path: Path) -> None:
    base = v2_tree(tmp_path / "dms")
    group = v2_group(base, "a-1")
    prepared = cgroup_v2.CgroupV2("cgroup-v2", base).prepare("a-1")
    prepared.limit(ALLOWANCE)
    assert (group / "cpu.max").read_text() == "150000 100000"
    assert (group / "cpu.weight").read_text() == "150"
    assert (group / "memory.max").read_text() == str(64 * MIB)
    assert (group / "memory.swap.max").read_text() == "0"
    assert (group / "memory.oom.group").read_text() == "1"
    assert (group / "pids.max").read_text() == "12"
    assert list(prepared.join) == [f"{group}/cgroup.procs"]


def test_v2_figures_are_read(tmp_path: Path) -> None:
    group = v2_group(v2_tree(tmp_path / "dms"), "a-1")
    reading = cgroup_v2.GroupV2(str(group)).read()
    assert (reading.cpu_us, reading.memory_bytes, reading.memory_peak_bytes, reading.oom_kills) == (1234, 1000, 2000, 1)
    (group / "memory.peak").unlink()
    assert cgroup_v2.GroupV2(str(group)).read().memory_peak_bytes == 1000


def test_figures_of_a_group_that_is_gone_are_zero(tmp_path: Path) -> None:
    group = cgroup_v2.GroupV2(str(tmp_path / "none"))
    assert group.read().cpu_us == 0
    assert group.processes() == []
    assert group.remove()


def test_a_limit_that_cannot_be_written_is_the_machines_fault(tmp_path: Path) -> None:
    base = v2_tree(tmp_path / "dms")
    with pytest.raises(FileNotFoundError):
        cgroup_v2.CgroupV2("cgroup-v2", base).prepare("a-1").limit(ALLOWANCE)


def test_a_group_that_cannot_be_made_is_the_machines_fault(tmp_path: Path) -> None:
    (tmp_path / "dms").touch()
    with pytest.raises(MachineError, match="a-1 could not be made"):
        CgroupV1([tmp_path / "dms"] * 4).prepare("a-1")


def test_a_delegated_group_is_rearranged_before_it_is_used(tmp_path: Path) -> None:
    own = v2_tree(tmp_path / "user.slice/dms.service")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n")
    leaf = own / cgroup_v2.NODE_LEAF
    leaf.mkdir()
    (leaf / "cgroup.procs").touch()
    base = own / "dms-x"
    base.mkdir()
    (base / "cgroup.subtree_control").touch()
    found = cgroup_v2.find_delegated(tmp_path, "dms-x", "/user.slice/dms.service", [os.getpid()])
    assert found is not None
    assert found.name == "cgroup-v2-delegated"
    assert (leaf / "cgroup.procs").read_text() == str(os.getpid())
    assert (own / "cgroup.subtree_control").read_text() == "+cpu +memory +pids"


def test_a_group_with_other_programs_in_it_is_left_alone(tmp_path: Path) -> None:
    own = v2_tree(tmp_path / "session.scope")
    (own / "cgroup.procs").write_text(f"{os.getpid()}\n1\n")
    assert cgroup_v2.find_delegated(tmp_path, "dms-x", "/session.scope", [os.getpid()]) is None
    assert (own / "cgroup.subtree_control").read_text() == ""


def test_a_group_without_the_controllers_is_not_used(tmp_path: Path) -> None:
    v2_tree(tmp_path / "dms.service", "hugetlb")
    (tmp_path / "dms.service/node").mkdir()
    assert cgroup_v2.find_delegated(tmp_path, "dms-x", "/dms.service", [os.getpid()]) is None
    assert cgroup_v2.find_root(v2_tree(tmp_path, "hugetlb"), "dms-x") is None


def test_the_root_of_the_hierarchy_is_nobodys_delegation(tmp_path: Path) -> None:
    assert cgroup_v2.find_delegated(v2_tree(tmp_path), "dms-x", "/", [os.getpid()]) is None


def v1_group(base: Path, name: str) -> None:
    files = {
        "cpu": ("cpu.shares", "cpu.cfs_quota_us"),
        "cpuacct": ("cpuacct.usage",),
        "memory": ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control"),
        "pids": ("pids.max", "cgroup.procs"),
    }
    for controller, names in files.items():
        (base / controller / name).mkdir(parents=True)
        for file in names:
            (base / controller / name / file).touch()


def test_v1_limits_are_written_and_figures_read(tmp_path: Path) -> None:
    v1_group(tmp_path, "a-1")
    limiter = CgroupV1([tmp_path / controller for controller in ("cpu", "cpuacct", "memory", "pids")])
    group = limiter.prepare("a-1")
    group.limit(ALLOWANCE)
    assert (tmp_path / "cpu/a-1/cpu.cfs_quota_us").read_text() == "150000"
    assert (tmp_path / "cpu/a-1/cpu.shares").read_text() == "1536"
    assert (tmp_path / "memory/a-1/memory.limit_in_bytes").read_text() == str(64 * MIB)
    assert (tmp_path / "pids/a-1/pids.max").read_text() == "12"
    (tmp_path / "cpuacct/a-1/cpuacct.usage").write_text("7000000\n")
    (tmp_path / "memory/a-1/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert group.read().cpu_us == 7000
    assert group.read().oom_kills == 2
    assert [left.paths for left in limiter.leftovers()] == [group.paths]
    assert limiter.reopen(group.paths, ALLOWANCE).paths == group.paths


def test_controllers_mounted_together_are_joined_once(tmp_path: Path) -> None:
    v1_group(tmp_path, "a-1")
    limiter = CgroupV1([tmp_path / controller for controller in ("cpu", "cpu", "memory", "pids")])
    (tmp_path / "cpu/a-1/cpuacct.usage").touch()
    assert len(limiter.prepare("a-1").join) == 3


def test_v1_has_what_gives_way_beside_the_other_runs_and_finds_both(tmp_path: Path) -> None:
    for group in ("dms/a-1", "lent-dms-a-1"):
        v1_group(tmp_path, group)
    (tmp_path / "cpu/lent-dms-a-1/cpu.idle").touch()
    limiter = CgroupV1([tmp_path / controller / "dms" for controller in ("cpu", "cpuacct", "memory", "pids")])
    usual, gives_way = groups = [limiter.prepare("a-1"), limiter.prepare("a-1", gives_way=True)]
    assert [Path(group.paths[0]) for group in groups] == [tmp_path / "cpu/dms/a-1", tmp_path / "cpu/lent-dms-a-1"]
    assert [left.paths for left in limiter.leftovers()] == [group.paths for group in groups]
    for group in groups:
        group.limit(ALLOWANCE)
    assert (tmp_path / "cpu/lent-dms-a-1/cpu.idle").read_text() == "1"
    assert (tmp_path / "cpu/lent-dms-a-1/cpu.shares").read_text() == ""
    limiter.reopen(gives_way.paths, ALLOWANCE).hurry()
    usual.hurry()
    assert (tmp_path / "cpu/lent-dms-a-1/cpu.idle").read_text() == "0"
    assert (tmp_path / "cpu/lent-dms-a-1/cpu.shares").read_text() == "1024"
    assert (tmp_path / "cpu/dms/a-1/cpu.shares").read_text() == "1536"


def test_v2_has_what_gives_way_beside_the_other_runs_and_finds_both(tmp_path: Path) -> None:
    base = v2_tree(tmp_path / "dms")
    usual, lent = v2_group(base, "a-1"), v2_group(tmp_path, "lent-dms-a-1")
    limiter = cgroup_v2.CgroupV2("cgroup-v2", base)
    groups = [limiter.prepare("a-1"), limiter.prepare("a-1", gives_way=True)]
    assert [group.paths for group in groups] == [(str(usual),), (str(lent),)]
    assert [left.paths for left in limiter.leftovers()] == [group.paths for group in groups]
    for group in groups:
        group.limit(ALLOWANCE)
    assert (lent / "cpu.weight").read_text() == "1", "the least, on a kernel without cpu.idle"
    (lent / "cpu.idle").touch()
    groups[1].kill()
    assert (lent / "cpu.idle").read_text() == "0"
    assert (lent / "cpu.weight").read_text() == "100", "it is to end, and soon"


def test_without_any_cgroup_file_system_resource_limits_remain(tmp_path: Path) -> None:
    assert detect(tmp_path, "dms-x").name == "rlimits"


def test_a_limiter_that_was_not_named_is_not_used() -> None:
    assert detect(Path("/sys/fs/cgroup"), "dms-test-x", ("rlimits",)).name == "rlimits"


def test_resource_limits_promise_only_what_they_hold() -> None:
    assert Rlimits(own_user=True).enforces == ("processes",)
    assert Rlimits(own_user=True).prepare("a-1").paused_start is False
    assert Rlimits(own_user=False).prepare("a-1").paused_start is True


def test_processes_are_found_with_their_children() -> None:
    pid = os.fork()
    if pid == 0:
        os.read(os.pipe()[0], 1)
    try:
        assert pid in process_tree.descendants(os.getpid())
        assert process_tree.parent(pid) == os.getpid()
        assert process_tree.start_time(pid) >= process_tree.start_time(os.getpid()) > 0
        assert process_tree.pss_bytes([pid]) > 0
    finally:
        os.kill(pid, 9)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert process_tree.start_time(pid) == 0, "a zombie is no process any more"
    os.waitpid(pid, 0)
    assert process_tree.descendants(1 << 30) == [1 << 30]
    assert process_tree.cpu_us([os.getpid()]) >= 0


def test_numbers_that_are_not_there_are_zero(tmp_path: Path) -> None:
    (tmp_path / "max").write_text("max\n")
    assert cgroup_files.number(str(tmp_path / "max")) == 0
    assert cgroup_files.number(str(tmp_path / "none")) == 0
    assert cgroup_files.field(str(tmp_path / "none"), "x") == 0


def test_empty_groups_of_nodes_that_are_gone_are_removed(tmp_path: Path) -> None:
    for name in ("dms-mine", "dms-empty", "dms-used/a-1", "other"):
        (tmp_path / name).mkdir(parents=True)
    cgroup_files.remove_empty_siblings(tmp_path / "dms-mine")
    assert {path.name for path in tmp_path.iterdir()} == {"dms-mine", "dms-used", "other"}


def test_v2_freezes_where_the_kernel_can_and_thaws(tmp_path: Path) -> None:
    group = v2_group(tmp_path, "a-1")
    (group / "cgroup.freeze").touch()
    found = cgroup_v2.GroupV2(str(group))
    found.freeze()
    assert (group / "cgroup.freeze").read_text() == "1"
    found.thaw()
    assert (group / "cgroup.freeze").read_text()[:1] == "0"


def test_where_the_kernel_cannot_every_member_is_frozen_by_a_signal_and_goes_on(tmp_path: Path) -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        group = v2_group(tmp_path, "a-1")
        (group / "cgroup.procs").write_text(f"{child.pid}\n")
        found = cgroup_v2.GroupV2(str(group))
        found.freeze()
        assert wait_status(child, os.WSTOPPED)
        found.thaw()
        assert wait_status(child, os.WCONTINUED)
    finally:
        child.kill()
        child.wait()


def test_processes_that_fork_faster_than_they_are_frozen_are_told() -> None:
    numbers = iter(range(1 << 22, 1 << 23))  # process ids that no process has
    with pytest.raises(OSError, match="fork faster"):
        signals.freeze(lambda: [next(numbers)])


def test_one_that_another_lets_go_on_meanwhile_is_stopped_again() -> None:
    with subprocess.Popen(["sleep", "600"]) as child:
        looks = itertools.count(1)

        def members() -> list[int]:
            if next(looks) in (2, 3):
                os.kill(child.pid, signal.SIGCONT)  # as one would that is not stopped yet
            return [child.pid]

        try:
            signals.freeze(members)
            assert process_tree.is_stopped(child.pid)
        finally:
            child.kill()
    assert process_tree.is_stopped(child.pid), "it has ended"


def wait_status(child: subprocess.Popen[bytes], what: int) -> bool:
    """Waits until its parent is told so of a child."""
    return os.waitid(os.P_PID, child.pid, what) is not None
