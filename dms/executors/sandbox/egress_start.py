"""Opens the port at which a job finds its proxy (`dms.egress`), from inside its sandbox, and hands it out. Then it becomes the job's command.

It runs as `python -I -S -c THIS EGRESS RESULT PORT LIBRARY_PATH COMMAND…`, before anything of the job's runs there. The other end of the socket
EGRESS is the proxy's. Nothing of this stays inside: who connects to the port is in the queue of a socket that the proxy alone holds.
"""

import os
import socket
import sys

from dms.executors.sandbox.agent_start import become, environment_given

BACKLOG = 128


def main(arguments: list[str]) -> None:
    """Hands the port out, and becomes the command."""
    egress, result, port, library_path, *command = arguments
    with socket.socket(fileno=int(egress)) as way, socket.socket() as listener:
        listener.bind(("127.0.0.1", int(port)))
        listener.listen(BACKLOG)
        socket.send_fds(way, [b"\0"], [listener.fileno()])
    if int(result) >= 0:
        os.set_inheritable(int(result), False)
    become(command, environment_given(library_path), int(result))


if __name__ == "__main__":
    main(sys.argv[1:])
