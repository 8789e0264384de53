"""How an agent inside a sandbox starts: the first process becomes the job's command, the agent goes on as an orphan beside it.

Of the agents (`port_agent`, `exec_agent`) only their text is inside, with the text of this module before it (`agents.text_of`): it uses the standard
library only. The sandbox's first process adopts them, and ends them with everything else.
"""

import os
import signal
from collections.abc import Callable

ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NOT_FOUND = 127
MOST_NAMED = 500
"""Characters of a command that are told of it."""


def start(serve: Callable[[], None], command: list[str], library_path: str, door: int, result: int) -> None:
    """Becomes the command and leaves a process behind that serves. Never returns.

    Args:
        serve: what the agent does until it is killed.
        command: the job's, or that of another agent.
        library_path: of the command.
        door: descriptor at which the agent serves: it has no other, and the command has not this one.
        result: descriptor of the result file, or -1. The command has not this one either.
    """
    if os.fork():
        os.wait()
        for descriptor in (door, result):
            if descriptor >= 0:
                os.set_inheritable(descriptor, False)
        become(command, environment_given(library_path), result)
    if os.fork():
        os._exit(0)
    for number in ASKED_TO_STOP:
        signal.signal(number, signal.SIG_IGN)  # asked to stop, the job may want to serve to the end
    null = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(null, standard)
    close_all_but(door)
    serve()


def close_all_but(kept: int) -> None:
    """Of what was passed in for other agents, nothing shall reach the commands that one starts."""
    last = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - pathlib would double this process
    os.closerange(3, kept)
    os.closerange(kept + 1, last + 1)


def become(command: list[str], environment: dict[bytes, bytes], result: int) -> None:
    """Executes a command in place of this process; says so in the result file if that cannot be. Never returns."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvpe(command[0], command, environment)  # noqa: S606 - no shell is the point
    except OSError as error:
        if result >= 0:
            os.write(result, f"{command[0][:MOST_NAMED]}: {error.strerror}".encode(errors="surrogateescape"))
    os._exit(NOT_FOUND)


def environment_given(library_path: str) -> dict[bytes, bytes]:
    """The variables as they were given: the interpreter may have added one, and needed another."""
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib would double this process
        pairs = [pair.partition(b"=") for pair in file.read().split(b"\0") if pair]
    given = {name: value for name, _, value in pairs}
    given.pop(b"LD_LIBRARY_PATH", None)
    if library_path:
        given[b"LD_LIBRARY_PATH"] = os.fsencode(library_path)
    return given
