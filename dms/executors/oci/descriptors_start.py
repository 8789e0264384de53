"""Takes the descriptors of a run from its node, inside its container, before anything of the job's runs there. Then it becomes the job's command.

It runs as `python -I -S -c THIS NODE NUMBERS COMMAND…`. NODE is a Unix socket that the container shows; the node accepts there once, is given the
job's log, and sends one message. NUMBERS say as which descriptors the command finds what comes, written "32,33". A socket that was made outside
cannot be put there by the job, and nothing that the job could write is opened by the node.
"""

import os
import socket
import sys

LOG = 2
"""Standard error of the job, for who tells it of connections that it does not get."""
NODE_GONE = 125
"""Nothing came: who made the container has ended, and whoever finds it next ends it."""


def main(arguments: list[str]) -> None:
    """Takes them, and becomes the command."""
    node_socket, numbers, *command = arguments
    wanted = [int(number) for number in numbers.split(",")]
    with socket.socket(socket.AF_UNIX) as node:
        node.connect(node_socket)
        socket.send_fds(node, [b"\0"], [LOG])
        given = socket.recv_fds(node, 1, len(wanted))[1]
    if len(given) != len(wanted):
        os._exit(NODE_GONE)
    for descriptor, number in zip(given, wanted, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.execv(command[0], command)  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    main(sys.argv[1:])
