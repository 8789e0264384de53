from __future__ import annotations

import errno
from typing import Any

import msgspec
import pytest

from dms.executors.limiter import Allowance
from dms.executors.oci.config import Dialect, Image, Inside, Machine, Place, User, container, script
from dms.executors.oci.filter import profile
from dms.executors.oci.gpus import DeviceNode, Devices, Mount
from dms.executors.sandbox import seccomp
from dms_proto.secrets import OpenSecret
from dms_proto.units import KIB, MIB

ALLOWANCE = Allowance(
    cpu_millicores=1500, memory_bytes=512 * MIB, processes=20, disk_bytes=64 * MIB, log_bytes=MIB, wall_ms=60_000
)
PLACE = Place("a-1", "0123456789ab", "oci", "/home/jobs/a-1", "", User("7:7", outside=7), ALLOWANCE, 1_000)
IMAGE = Image("sha256:" + "0" * 64, ("/entry",), ("serve",), ("PATH=/bin", "HOME=/root"), ("/data", "/tmp/"), 1)


DIALECT = Dialect()


def made(place: Place = PLACE, dialect: Dialect = DIALECT, **program: Any) -> dict[str, Any]:
    return container(place, Inside(IMAGE, **program), dialect, Machine(20_000, 100))


def host(**changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = made(**changes)["HostConfig"]
    return found


def test_nothing_of_the_host_is_shared_but_the_jobs_directory() -> None:
    config = host()
    assert config["Binds"] == ["/home/jobs/a-1:/job:rw,Z"]
    assert (config["NetworkMode"], config["IpcMode"], config["CgroupnsMode"]) == ("none", "private", "private")
    assert not {"PidMode", "UTSMode", "Devices", "DeviceRequests", "VolumesFrom", "Mounts", "CapAdd"} & set(config)
    assert "host" not in config["UsernsMode"]


def test_it_has_no_rights() -> None:
    config = host()
    assert config["Privileged"] is False
    assert config["CapDrop"] == ["ALL"]
    assert config["ReadonlyRootfs"] is True
    assert config["SecurityOpt"][0] == "no-new-privileges"
    assert config["SecurityOpt"][1] == f"seccomp={profile()}"
    assert made()["User"] == "7:7"


def test_its_limits_are_the_engines() -> None:
    config = host()
    assert config["Memory"] == config["MemorySwap"] == 512 * MIB
    assert config["CpuQuota"] / config["CpuPeriod"] == 1.5
    assert config["PidsLimit"] == 20 + 1, "the engine's own first process does not count"
    limits = {each["Name"]: (each["Soft"], each["Hard"]) for each in config["Ulimits"]}
    assert limits == {
        "core": (0, 0),
        "fsize": (64 * MIB, 64 * MIB),
        "nofile": (1024, 20_000),
        "nproc": (100, 100),
    }


def test_what_an_image_calls_a_volume_is_room_in_memory() -> None:
    assert set(host()["Tmpfs"]) == {"/tmp", "/data"}
    assert all(f"size={64 * MIB}" in options for options in host()["Tmpfs"].values())


@pytest.mark.parametrize(("driver", "factor"), [("local", 32), ("k8s-file", 48)])
def test_the_engine_keeps_more_output_than_a_job_may_write(driver: str, factor: int) -> None:
    log = host(dialect=Dialect(driver, log_factor=factor))["LogConfig"]
    assert log["Type"] == driver
    assert int(log["Config"]["max-size"].removesuffix("k")) * KIB >= factor * ALLOWANCE.log_bytes


def test_a_command_is_in_place_of_the_images_own() -> None:
    assert made(command=("python3", "x.py"))["Entrypoint"] == ["python3", "x.py"]
    assert made()["Entrypoint"] == ["/entry", "serve"]
    assert made(command=("a",))["Cmd"] == []


def test_the_images_variables_stay_and_no_other_is_there() -> None:
    assert made(environment={"A": "1"})["Env"] == ["LANG=C.UTF-8", "A=1"], "its own HOME stays"


def test_no_health_check_of_the_image_runs() -> None:
    assert made()["Healthcheck"] == {"Test": ["NONE"]}


def test_labels_say_whose_it_is_and_when_it_must_be_over() -> None:
    labels = made()["Labels"]
    assert (labels["dms.home"], labels["dms.allocation"], labels["dms.deadline"]) == ("0123456789ab", "a-1", "61000")


def test_secrets_are_paths_only() -> None:
    place = msgspec.structs.replace(PLACE, memory="/dev/shm/dms-x-a-1")
    config = made(place, command=("tool",), has_variables=True)
    assert config["HostConfig"]["Binds"][1:] == [
        "/dev/shm/dms-x-a-1/files:/run/secrets:ro,Z",
        "/dev/shm/dms-x-a-1/variables:/run/dms/variables:ro,Z",
    ]
    assert config["Entrypoint"] == ["/bin/sh", "-c", '. /run/dms/variables && exec "$@"', "sh", "tool"]


def test_a_variable_of_any_text_is_quoted() -> None:
    secrets = [OpenSecret("A", b"it's $(rm) `x` \n \\ \"", variable=True), OpenSecret("B", b"\xff")]
    assert script(secrets) == b"export A='it'\"'\"'s $(rm) `x` \n \\ \"'\n"


def test_gpus_are_asked_for_by_cdi_name() -> None:
    wanted = [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0"]}]
    assert host(devices=Devices(("nvidia.com/gpu=0",)))["DeviceRequests"] == wanted


def test_what_a_file_says_of_a_gpu_is_asked_for_of_an_engine_that_reads_none() -> None:
    nodes, mounts = (DeviceNode("/dev/a", "/dev/b", "rw"), DeviceNode("/dev/c")), (Mount("/usr/x", "/lib/x"),)
    wanted = host(devices=Devices(nodes=nodes, mounts=mounts))
    assert wanted["Devices"] == [
        {"PathOnHost": "/dev/b", "PathInContainer": "/dev/a", "CgroupPermissions": "rw"},
        {"PathOnHost": "/dev/c", "PathInContainer": "/dev/c", "CgroupPermissions": "rwm"},
    ]
    assert wanted["Binds"][1:] == ["/usr/x:/lib/x:ro"]


def test_the_filter_has_the_rules_of_the_sandbox() -> None:
    rules = msgspec.json.decode(profile())
    assert rules["defaultAction"] == "SCMP_ACT_ALLOW"
    refused = {name for rule in rules["syscalls"] if not rule["args"] for name in rule["names"]}
    assert set(seccomp.DENIED) | set(seccomp.ABSENT) <= refused
    answers = {name: rule["errnoRet"] for rule in rules["syscalls"] for name in rule["names"]}
    assert answers["mount"] == errno.EPERM
    assert answers["clone3"] == errno.ENOSYS
    families = {
        rule["args"][0]["value"]
        for rule in rules["syscalls"]
        if rule["names"] == ["socket"] and len(rule["args"]) == 1 and rule["args"][0]["op"] == "SCMP_CMP_EQ"
    }
    assert families == set(range(seccomp.MAX_FAMILY + 1)) - {1, 2, 10, 16}
