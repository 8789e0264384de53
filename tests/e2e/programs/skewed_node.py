"""A node whose machine's clock is wrong: `skewed_node.py MILLISECONDS --home DIR …`; everything else as `python -m dms.node up --json --quiet`."""

from __future__ import annotations

import asyncio
import json
import sys

from dms.config.identity import load
from dms.config.paths import resolve_home
from dms.node.app import unix_ms
from dms.node.up import up

ahead, home = int(sys.argv[1]), resolve_home(sys.argv[sys.argv.index("--home") + 1])


def ready(line: str) -> None:
    print(json.dumps({"ready": True, "message": line}), flush=True)


asyncio.run(up(home, load(home), foreground=False, ready=ready, clock=lambda: unix_ms() + ahead))
