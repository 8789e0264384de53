"""`dms devnet`: starts the market of `topology` on this machine and keeps it until ctrl-C, or until its terminal is closed."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Final

from dms.devnet.network import DevNet
from dms.devnet.topology import TOPOLOGY
from dms_proto.errors import DmsError
from dms_proto.units import format_count

LOOK_S: Final = 1.0
ABOUT: Final = "Starts a market of five nodes on this machine, each its own process, and keeps it until ctrl-C or until the terminal is closed."


def main(arguments: list[str] | None = None) -> int:
    """Runs a devnet; 0 after ctrl-C, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="dms devnet", description=ABOUT)
    parser.add_argument(
        "--dir", type=Path, help="where the homes are kept and found again; default: a temporary directory"
    )
    parser.add_argument("--measure", action="store_true", help="benchmark each node (a second each)")
    parser.add_argument("--json", action="store_true", help="one line of JSON when the market is open")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    if options.dir is not None:
        return _run(options.dir.absolute(), options, stop)
    with tempfile.TemporaryDirectory(prefix="dms-devnet-") as directory:
        return _run(Path(directory), options, stop)


def _run(root: Path, options: argparse.Namespace, stop: threading.Event) -> int:
    def report(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    try:
        with DevNet(root, TOPOLOGY, measure=options.measure, report=report) as net:
            if options.json:
                homes = {name: str(node.home.root) for name, node in net.nodes.items()}
                print(json.dumps({"ready": True, "homes": homes}), flush=True)
            else:
                requester = net["requester"].home.root
                report(f"\nthe market is open: {format_count(len(net.nodes), 'node')} in {root}")
                report(f"  export DMS_HOME={requester}\n  dms run -- echo hello\n  dms peers list\nctrl-C closes it")
            _watch(net, stop)
    except DmsError as error:
        print(f"dms devnet: {error}", file=sys.stderr)
        return 1
    return 0


def _watch(net: DevNet, stop: threading.Event) -> None:
    """Until it is to stop, says of each node that ends by itself that it did, and how it is started again."""
    up = dict(net.nodes)
    while not stop.wait(LOOK_S):
        for name, node in list(up.items()):
            code = node.process.poll() if node.process is not None else None
            if code is not None:
                del up[name]
                how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
                print(f"{name} has ended ({how}); DMS_HOME={node.home.root} dms up -d starts it again", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
