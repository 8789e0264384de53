"""What a hostile program finds inside: one program tries everything, each test looks at one wall."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor
from dms.testing.executor_contract import events_of, output_of, sweep_all
from dms_proto.errors import MachineError
from dms_proto.work import Task

PROGRAM = Path(__file__).parent / "programs" / "look_around.py"
SECRET = "a-secret-of-the-node"


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    if not any(Path(place, "python3").exists() for place in ("/usr/bin", "/usr/local/bin")):
        pytest.skip("no python3 below /usr to run inside")
    home = tmp_path_factory.mktemp("walls")
    leaky = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(leaky, True)
    os.environ["DMS_TEST_SECRET"] = SECRET
    try:
        return asyncio.run(look_around(home))
    except MachineError as error:
        pytest.skip(f"no sandbox on this machine: {error}")
    finally:
        os.close(leaky)
        del os.environ["DMS_TEST_SECRET"]


async def look_around(home: Path) -> dict[str, Any]:
    settings = ExecutorSettings(home / "state")
    sandbox = Sandbox(settings)
    sandbox.start()
    directory = home / "job"
    directory.mkdir(mode=0o700)
    shutil.copy(PROGRAM, directory / "look.py")
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        abstract = f"dms-test-{os.getpid()}"
        unix.bind("\0" + abstract)
        unix.listen()
        command = ("python3", "-I", "look.py", str(tcp.getsockname()[1]), abstract)
        run = await SandboxExecutor(sandbox).run(
            "a-1", Task("sandbox", command, environment={"ASKED": "for"}), directory
        )
        events = await events_of(run)
    await sandbox.close()
    await sweep_all(settings)
    assert not output_of(events, "stderr").decode()
    result: dict[str, Any] = json.loads(output_of(events, "stdout"))
    return result


def test_the_job_is_nobody_special(found: dict[str, Any]) -> None:
    assert found["ids"][:3] == [10_000, 10_000, 10_000]
    assert set(found["ids"][3]) <= {10_000, 65_534}
    assert "NoNewPrivs:\t1" in found["status"]
    assert "Seccomp:\t2" in found["status"]
    for capabilities in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert f"{capabilities}:\t0000000000000000" in found["status"]


def test_no_environment_of_the_node(found: dict[str, Any]) -> None:
    assert found["environ"].pop("LC_CTYPE", "C.UTF-8") == "C.UTF-8"
    assert set(found["environ"]) == {"PATH", "HOME", "LANG", "PWD", "ASKED"}
    assert found["environ"]["ASKED"] == "for"


def test_nothing_leaks_through_the_first_process(found: dict[str, Any]) -> None:
    assert found["launcher_environ"].strip("\0") == ""
    assert SECRET not in json.dumps(found)
    assert found["launcher_cmdline"].split("\0")[1:4] == ["--args", "4", "--"]


def test_no_descriptor_of_the_node(found: dict[str, Any]) -> None:
    assert found["fds"] == {}
    assert "/etc/passwd" not in json.dumps(found["launcher_fds"])
    assert "socket:" not in json.dumps(found["launcher_fds"])


def test_no_other_processes(found: dict[str, Any]) -> None:
    assert len(found["pids"]) == 2


def test_no_files_of_the_host(found: dict[str, Any]) -> None:
    links = {name for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32") if Path("/", name).exists()}
    assert set(found["root"]) == {"dev", "etc", "job", "proc", "tmp", "usr"} | links
    assert set(found["etc"]) <= {"alternatives", "group", "hosts", "ld.so.cache", "nsswitch.conf", "passwd"}
    assert found["home"] == []
    assert found["shadow"] == "!ENOENT"
    assert found["hostname"] == "job"


def test_files_of_the_machine_in_proc_are_masked(found: dict[str, Any]) -> None:
    assert set(found["masked"].values()) <= {"", "!EACCES", "!ENOENT", "!EPERM"}


def test_kernel_settings_cannot_be_written(found: dict[str, Any]) -> None:
    assert not [path for path, outcome in found["writes"].items() if outcome == "allowed"]


def test_only_scratch_and_its_own_directory_can_be_written(found: dict[str, Any]) -> None:
    assert {path for path, outcome in found["creates"].items() if outcome == "allowed"} == {
        "/tmp/x",
        "/dev/shm/x",
        "/job/x",
    }


def test_no_network(found: dict[str, Any]) -> None:
    assert found["interfaces"] in (["lo"], [])
    assert "allowed" not in found["connects"].values()


def test_only_harmless_kinds_of_sockets(found: dict[str, Any]) -> None:
    allowed = {name for name, outcome in found["sockets"].items() if outcome == "allowed"}
    assert allowed == {"inet", "unix", "route"}
    refused = {outcome for name, outcome in found["sockets"].items() if name not in allowed}
    assert refused == {"EPERM"}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the program names calls by their numbers on x86_64")
def test_dangerous_calls_are_refused_by_the_filter(found: dict[str, Any]) -> None:
    absent = {"io_uring": "ENOSYS", "clone3": "ENOSYS"}
    assert {name: outcome for name, outcome in found["calls"].items() if outcome != absent.get(name, "EPERM")} == {}
