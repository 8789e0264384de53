from __future__ import annotations

import json
from contextlib import suppress

import msgspec
import pytest

from dms.executors.oci.config import User
from dms.executors.oci.engine import Facts, facts_of, reading_of, unix_ms
from dms.executors.oci.executor import dialect_of, fault_of, user_of
from dms.executors.oci.filter import profile
from dms.executors.oci.finding import find_engine, sockets
from dms.executors.oci.memory_files import is_in_memory
from dms.executors.sandbox import program, seccomp
from dms.executors.sandbox.program import MAX_COMMAND_BYTES
from dms_proto.errors import MachineError
from dms_proto.secrets import OpenSecret
from dms_proto.work import Task


def test_rootless_engines_come_before_those_of_the_machine() -> None:
    found = sockets("", {"DOCKER_HOST": "unix:///d.sock", "XDG_RUNTIME_DIR": "/run/user/7"}, 7)
    assert found == [
        "/d.sock",
        "/run/user/7/podman/podman.sock",
        "/run/user/7/docker.sock",
        "/run/podman/podman.sock",
        "/run/docker.sock",
        "/var/run/docker.sock",
    ]


def test_a_configured_socket_is_the_only_one() -> None:
    assert sockets("unix:///x.sock", {"DOCKER_HOST": "unix:///d.sock"}, 7) == ["/x.sock"]


def test_another_machines_engine_is_not_asked() -> None:
    assert "tcp://192.0.2.1:2375" not in sockets("", {"DOCKER_HOST": "tcp://192.0.2.1:2375"}, 7)


async def test_where_no_engine_answers_it_says_what_to_do() -> None:
    with pytest.raises(MachineError) as caught:
        await find_engine(["/no/such/socket"])
    assert caught.value.code == "executor_unavailable"
    assert "podman.socket" in caught.value.hint


def test_engines_are_told_apart() -> None:
    docker = facts_of("/s", {"ServerVersion": "28.2.2", "CgroupVersion": "2"}, is_podman=False)
    podman = facts_of(
        "/s",
        {
            "ServerVersion": "4.3.1",
            "SecurityOptions": ["name=seccomp,profile=default", "name=rootless"],
            "CgroupVersion": "v2",
        },
        is_podman=True,
    )
    assert (docker.name, docker.rootless, docker.cgroup_version) == ("docker", False, "2")
    assert (podman.name, podman.rootless, podman.cgroup_version) == ("podman", True, "2")
    assert podman.has_cgroups
    assert not msgspec.structs.replace(podman, cgroup_version="1").has_cgroups
    assert docker.has_cgroups
    assert (dialect_of(docker).knows_cdi, dialect_of(podman).knows_cdi) == (True, False)
    assert not dialect_of(Facts("docker", "20.10.24", "/s")).knows_cdi


@pytest.mark.parametrize(
    ("facts", "uid", "user"),
    [
        (Facts("docker", "28", "/s"), 0, User("99:99", outside=99)),
        (Facts("docker", "28", "/s"), 1000, User("1000:1001")),
        (Facts("podman", "5", "/s", rootless=True), 1000, User("1000:1001", namespace="keep-id")),
        (Facts("docker", "28", "/s", rootless=True), 1000, User("0:0")),
    ],
)
def test_what_a_job_leaves_can_be_the_nodes_again(facts: Facts, uid: int, user: User) -> None:
    assert user_of(facts, uid, 1001, 99) == user


def test_a_secret_that_is_no_text_cannot_be_a_variable() -> None:
    task = Task("oci", ("x",), image="sha256:" + "0" * 64)
    assert fault_of(task, [OpenSecret("A", b"a\0b", variable=True)])
    assert not fault_of(task, [OpenSecret("A", b"a\0b")])
    assert fault_of(Task("oci", ("x",)), ())


@pytest.mark.parametrize("words", [("a\0b",), ("\udc80",), ("x" * (MAX_COMMAND_BYTES + 1),)])
def test_sandbox_and_container_refuse_the_same_words(words: tuple[str, ...]) -> None:
    task = Task("oci", words, image="x@sha256:" + "0" * 64)
    assert fault_of(task, ()) == program.fault_of(task, program.Program("sandbox", words, {})) != ""


def test_calls_without_a_name_in_an_older_libseccomp_are_refused_in_containers_too() -> None:
    pyseccomp = pytest.importorskip("pyseccomp")
    refused = {name for rule in json.loads(profile())["syscalls"] if not rule["args"] for name in rule["names"]}
    assert set(seccomp.NEWER) <= refused
    for name, number in seccomp.NEWER.items():
        with suppress(ValueError):  # this libseccomp has no name for it either
            assert pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name) in {number, -1}


def test_figures_are_read() -> None:
    figures = {"cpu_stats": {"cpu_usage": {"total_usage": 5_000_000}}, "memory_stats": {"usage": 7, "max_usage": 9}}
    reading = reading_of(figures)
    assert (reading.cpu_us, reading.memory_bytes, reading.memory_peak_bytes) == (5_000, 7, 9)
    assert reading_of({}).cpu_us == 0


def test_times_are_read_as_engines_write_them() -> None:
    assert unix_ms("1970-01-01T00:00:01.123456789Z") == 1_123
    assert unix_ms("1970-01-01T01:00:02+01:00") == 2_000
    assert unix_ms("0001-01-01T00:00:00Z") == 0
    assert unix_ms("") == 0


def test_the_last_mount_at_a_place_says_whether_it_is_in_memory() -> None:
    mounts = (
        "22 1 8:1 / / rw - ext4 /dev/a rw\n"
        "23 22 0:5 / /dev rw - devtmpfs d rw\n"
        "24 23 0:6 / /dev/shm rw - tmpfs t rw\n"
        "25 22 0:7 / /run rw - tmpfs t rw\n"
        "26 25 8:2 / /run/user rw - ext4 /dev/b rw\n"
    )
    assert is_in_memory("/dev/shm", mounts)
    assert not is_in_memory("/run/user/7", mounts)
    assert not is_in_memory("/home", mounts)
    assert is_in_memory("/run/x", mounts)
