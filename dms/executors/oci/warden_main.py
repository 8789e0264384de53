"""The warden: ends containers whose wall time is over while no node is there to do it.

It runs as `python -I -S warden_main.py SOCKET HOME NOTES` and uses the standard library only. While its node lives it waits for the end of its
standard input, which costs nothing. Then it looks at the node's containers that run or stand still, by their labels, ends each at its deadline, and
is gone with the last of them. Of one that has stood still a file in NOTES says when that is (`notes`). Containers may outlive an engine that does not
answer, and be there when it is back: so it waits for an answer however long that takes, unless even the directory of the engine's socket has gone.
"""

import contextlib
import functools
import http.client
import json
import pathlib
import socket
import sys
import time
import urllib.parse

PERIOD_S = 5.0
MARGIN_S = 2.0
"""A node that has come back ends a run at its deadline itself, and says so."""
GONE_S = 60.0
"""An engine whose socket has had no directory for so long is gone for good."""
ANSWER_S = 60.0
"""Longest wait for one answer."""
FAILURES = (OSError, ValueError, TypeError, LookupError, http.client.HTTPException)


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


def deadlines(path: str, home: str, notes: pathlib.Path) -> dict[str, float]:
    """When each running container of the node has to be over, in Unix seconds."""
    filters = urllib.parse.quote(json.dumps({"label": [f"dms.home={home}"], "status": ["running", "paused"]}))
    found = json.loads(ask(path, "GET", f"/containers/json?filters={filters}"))
    return {each["Id"]: deadline_ms(each["Labels"], notes) / 1000 + MARGIN_S for each in found}


def deadline_ms(labels: dict[str, str], notes: pathlib.Path) -> int:
    """When one has to be over: as was noted when it stood still, else as it was made."""
    try:
        return int(json.loads((notes / labels["dms.allocation"]).read_bytes())["deadline_ms"])
    except FAILURES:
        return int(labels["dms.deadline"])


def end_overdue(path: str, running: dict[str, float]) -> float:
    """Ends those whose time is over, each whatever becomes of the others; gives the seconds after which to look again."""
    now, pause = time.time(), PERIOD_S
    for container, at in running.items():
        if at > now:
            pause = min(pause, at - now)
            continue
        try:
            with contextlib.suppress(http.client.HTTPException):  # it does not stand still; what does hears no signal
                ask(path, "POST", f"/containers/{container}/unpause")
            ask(path, "POST", f"/containers/{container}/kill?signal=SIGKILL")
        except FAILURES as error:
            complain(f"{container} was not ended: {error}")
    return pause


def watch(path: str, home: str, notes: str) -> None:
    """Until nothing of the node runs any more, or the engine is gone for good."""
    there = time.monotonic()
    while time.monotonic() - there < GONE_S:
        pause = PERIOD_S
        try:
            running = deadlines(path, home, pathlib.Path(notes))
        except FAILURES as error:
            complain(f"the engine does not answer: {error}")
        else:
            if not running:
                return
            pause = end_overdue(path, running)
        time.sleep(pause)
        if pathlib.Path(path).parent.is_dir():
            there = time.monotonic()


@functools.lru_cache(maxsize=32)
def complain(text: str) -> None:
    """Into the log, once: it may wait for days."""
    print(f"warden: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.stdin.buffer.read()
    watch(*sys.argv[1:4])
