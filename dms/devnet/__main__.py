"""`dms devnet`: starts the market of `topology` on this machine and keeps it until ctrl-C."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import threading
from pathlib import Path

from dms.devnet.network import DevNet
from dms.devnet.topology import TOPOLOGY
from dms_proto.errors import DmsError
from dms_proto.units import format_count


def main(arguments: list[str] | None = None) -> int:
    """Runs a devnet; 0 after ctrl-C, 1 when it could not start."""
    parser = argparse.ArgumentParser(prog="dms devnet", description=__doc__)
    parser.add_argument(
        "--dir", type=Path, help="where the homes are kept and found again; default: a temporary directory"
    )
    parser.add_argument("--measure", action="store_true", help="benchmark each node (a second each)")
    parser.add_argument("--json", action="store_true", help="one line of JSON when the market is open")
    options = parser.parse_args(arguments)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
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
                print(f"\nthe market is open: {format_count(len(net.nodes), 'node')} in {root}")
                print(f"  export DMS_HOME={requester}\n  dms run -- echo hello\n  dms peers list")
                print("ctrl-C closes it")
            stop.wait()
    except DmsError as error:
        print(f"dms devnet: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
