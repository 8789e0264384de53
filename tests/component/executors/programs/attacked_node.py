"""A node with something to steal: runs the attacks in its sandbox, and two idle jobs beside each other. Prints what they saw as JSON.

Arguments after the home are ports that the attacker declares.
"""

import asyncio
import json
import os
import shutil
import socket
import sys
from pathlib import Path

from dms.executors import ExecutorSettings, Sandbox, SandboxExecutor, collect_into
from dms.testing.executor_contract import RunWatcher, events_of, output_of
from dms_proto.work import Task

ATTACKS = Path(__file__).with_name("attacks.py")


async def attack(executor, home, marker, port):
    directory = home / "attacks"
    directory.mkdir(mode=0o700)
    shutil.copy(ATTACKS, directory / "attacks.py")
    variables = {"MARKER": marker, "NODE": str(os.getpid()), "PORT": str(port)}
    task = Task("sandbox", ("python3", "-I", "attacks.py"), environment=variables, ports=tuple(map(int, sys.argv[2:])))
    events = await events_of(await executor.run("a-attacks", task, directory))
    errors = output_of(events, "stderr").decode()
    assert not errors, errors
    outputs = collect_into(directory, ("out.*",), home / "outputs")
    return json.loads(output_of(events, "stdout")), {output.path: output.size for output in outputs}


async def users_of_two_jobs(executor, home):
    watchers, users = [], []
    for name in ("a-1", "a-2"):
        (home / name).mkdir(mode=0o700)
        watchers.append(RunWatcher(await executor.run(name, Task("sandbox", ("sleep", "600")), home / name)))
    for watcher in watchers:
        pid = (await watcher.wait_started()).partition(":")[0]
        status = Path(f"/proc/{pid}/status").read_text()  # noqa: ASYNC240 - the kernel's
        users.append(next(line.split()[1:] for line in status.splitlines() if line.startswith("Uid")))
    for watcher in watchers:
        await watcher.run.stop(0)
        await watcher.ending()
    return users


async def main():
    home = Path(sys.argv[1])
    marker = f"marker-{os.getpid()}"
    (home / marker).mkdir(mode=0o700)
    held = os.open(home / marker, os.O_RDONLY)
    os.set_inheritable(held, True)
    os.environ["DMS_TEST_SECRET"] = marker
    sandbox = Sandbox(ExecutorSettings(home / marker / "state"))
    executor = SandboxExecutor(sandbox)
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as abstract:
        abstract.bind("\0" + marker)
        abstract.listen()
        seen, outputs = await attack(executor, home / marker, marker, tcp.getsockname()[1])
    users = await users_of_two_jobs(executor, home / marker)
    await sandbox.close()
    print(json.dumps({"seen": seen, "outputs": outputs, "users": users}))


asyncio.run(main())
