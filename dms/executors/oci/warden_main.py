"""The warden: ends containers whose wall time is over while no node is there to do it.

It runs as `python -I -S warden_main.py SOCKET HOME` and uses the standard library only. While its node lives it waits for the end of its standard
input, which costs nothing. Then it looks at the node's running containers, by their labels, ends each at its deadline, and is gone with the last of
them.
"""

import contextlib
import http.client
import json
import socket
import sys
import time
import urllib.parse

PERIOD_S = 5.0
MARGIN_S = 2.0
"""A node that has come back ends a run at its deadline itself, and says so."""
FIRST_S = 60.0
GIVE_UP_S = 3600.0
"""An engine that has not answered for so long, at first and later, is gone, and its containers with it."""
ANSWER_S = 60.0


class _Connection(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("engine", timeout=ANSWER_S)
        self._path = path

    def connect(self) -> None:
        """Connects."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(ANSWER_S)
        self.sock.connect(self._path)


def ask(path: str, method: str, what: str) -> bytes:
    """An answer of the engine.

    Raises:
        OSError: it does not answer.
        http.client.HTTPException: it answers something else.
    """
    with contextlib.closing(_Connection(path)) as connection:
        connection.request(method, what)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status >= 500:
            raise http.client.HTTPException(f"{answer.status}: {body[:200]!r}")
        return body


def deadlines(path: str, home: str) -> dict[str, float]:
    """When each running container of the node has to be over, in Unix seconds."""
    filters = urllib.parse.quote(json.dumps({"label": [f"dms.home={home}"], "status": ["running"]}))
    found = json.loads(ask(path, "GET", f"/containers/json?filters={filters}"))
    return {each["Id"]: int(each["Labels"]["dms.deadline"]) / 1000 + MARGIN_S for each in found}


def watch(path: str, home: str) -> None:
    """Until nothing of the node runs any more."""
    answered, patience = time.monotonic(), FIRST_S
    while time.monotonic() - answered < patience:
        pause = PERIOD_S
        try:
            running = deadlines(path, home)
            if not running:
                return
            for container in [each for each, at in running.items() if at <= time.time()]:
                ask(path, "POST", f"/containers/{container}/kill?signal=SIGKILL")
            pause = min(PERIOD_S, max(0.1, min(running.values()) - time.time()))
            answered, patience = time.monotonic(), GIVE_UP_S
        except (OSError, ValueError, LookupError, http.client.HTTPException) as error:
            print(f"warden: {error}", file=sys.stderr, flush=True)
        time.sleep(pause)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    watch(sys.argv[1], sys.argv[2])
