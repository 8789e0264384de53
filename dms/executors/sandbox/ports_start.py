"""Opens ports on the loopback of a sandbox, from inside, and hands them out to who leads out of it. Then it becomes the job's command.

It runs as `python -I -S -c THIS WAY RESULT ADDRESSES LIBRARY_PATH COMMAND…`, before anything of the job's runs there. ADDRESSES are written
"127.1.0.1:8080,127.1.0.2:8080". The other end of the socket WAY is the proxy's (`dms.egress`), or that of who keeps a job's names (`keeper_main`).
Nothing of this stays inside: who connects to a port is in the queue of a socket that is held outside alone.
"""

import os
import socket
import sys

from dms.executors.sandbox.agent_start import become, environment_given

BACKLOG = 128


def opened(address: str) -> socket.socket:
    """A socket that listens there."""
    host, _, port = address.rpartition(":")
    listener = socket.socket()
    listener.bind((host, int(port)))
    listener.listen(BACKLOG)
    return listener


def main(arguments: list[str]) -> None:
    """Hands the ports out, and becomes the command."""
    way, result, addresses, library_path, *command = arguments
    listeners = [opened(address) for address in addresses.split(",")]
    with socket.socket(fileno=int(way)) as out:
        socket.send_fds(out, [b"\0"], [listener.fileno() for listener in listeners])
    for listener in listeners:
        listener.close()
    if int(result) >= 0:
        os.set_inheritable(int(result), False)
    become(command, environment_given(library_path), int(result))


if __name__ == "__main__":
    main(sys.argv[1:])
