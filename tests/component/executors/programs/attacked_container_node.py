"""A node with something to steal: runs the attacks in a container, and two idle jobs beside each other. Prints what they saw as JSON.

`attacked_container_node.py HOME SOCKET IMAGE`
"""

import asyncio
import json
import os
import shutil
import socket
import sys
from pathlib import Path

from dms.executors import ExecutorSettings, OciExecutor, OciSettings, collect_into
from dms.testing.executor_contract import RunWatcher, events_of, output_of
from dms_proto.capability import Resources
from dms_proto.work import Task

ATTACKS = Path(__file__).with_name("attacks.py")


async def attack(executor, image, home, marker, port):
    directory = home / "attacks"
    directory.mkdir(mode=0o700)
    shutil.copy(ATTACKS, directory / "attacks.py")
    variables = {"MARKER": marker, "NODE": str(os.getpid()), "PORT": str(port)}
    command = ("/usr/bin/python3", "-I", "attacks.py")
    task = Task("oci", command, image=image, environment=variables, resources=Resources(memory_bytes=1 << 30))
    events = await events_of(await executor.run("a-attacks", task, directory))
    errors = output_of(events, "stderr").decode()
    assert not errors, errors
    outputs = collect_into(directory, ("out.*",), home / "outputs")
    return json.loads(output_of(events, "stdout")), {output.path: output.size for output in outputs}


async def users_of_two_jobs(executor, image, home):
    watchers, users = [], []
    for name in ("a-1", "a-2"):
        (home / name).mkdir(mode=0o700)
        task = Task("oci", ("/bin/sleep", "600"), image=image)
        watchers.append(RunWatcher(await executor.run(name, task, home / name)))
    for watcher in watchers:
        await watcher.wait_started()
    for pid in executor.processes:
        status = Path(f"/proc/{pid}/status").read_text()  # noqa: ASYNC240 - the kernel's
        users.append(next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid")))
    for watcher in watchers:
        await watcher.run.stop(0)
        await watcher.ending()
    return users


async def main():
    home, engine, image = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    marker = f"marker-{os.getpid()}"
    (home / marker).mkdir(mode=0o700)
    held = os.open(home / marker, os.O_RDONLY)
    os.set_inheritable(held, True)
    os.environ["DMS_TEST_SECRET"] = marker
    executor = OciExecutor(ExecutorSettings(home / marker / "state", oci=OciSettings(socket=engine)))
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + marker)
        abstract.listen()
        seen, outputs = await attack(executor, image, home / marker, marker, tcp.getsockname()[1])
    users = await users_of_two_jobs(executor, image, home / marker)
    await executor.close()
    print(json.dumps({"seen": seen, "outputs": outputs, "users": users}))


asyncio.run(main())
