"""`python -P -m dms.net FD FD`: the network process.

The first FD is its end of the pipe, over which everything comes but the sockets of tunnels; those come over the second.

It ends when the other end closes, so it cannot outlive the node however that dies.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys

from dms.net.guards import lean
from dms.telemetry import garbage


def main() -> int:
    """Runs the process; the exit code is 0 when the node ended it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # ctrl-C reaches the whole group; the node decides what it means
    logging.getLogger().setLevel(logging.CRITICAL)  # libp2p logs to the root logger what peers do wrong
    logging.getLogger().addHandler(
        logging.NullHandler()
    )  # without any, its first line there would add one for standard error
    logging.getLogger("dms").setLevel(logging.INFO)
    os.environ["PY_YAMUX_RELEASE_ON_READ"] = "0"
    lean.install()

    import trio  # noqa: PLC0415 - after lean.install, so that libp2p comes in prepared

    from dms.net.service import serve  # noqa: PLC0415

    garbage.settle()
    with socket.socket(fileno=int(sys.argv[1])) as pipe, socket.socket(fileno=int(sys.argv[2])) as beside:
        trio.run(serve, pipe, beside)
    return 0


if __name__ == "__main__":
    sys.exit(main())
