"""A process that dies at a persistence point, many times over.

Reads cases as JSON lines on stdin: {"path": …, "acks": …, "point": …, "nth": …}. For each it forks; the fork opens the store, appends and
follows, and kills itself with SIGKILL the `nth` time `point` is reached. Answered with one JSON line: {"status": waitpid's, "hits": […]}.
Without a point the fork runs to its end and reports every point it passed, in order: that is the enumeration. Forking spares each of some
hundred cases the start of an interpreter.
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from dms.store.connection import connect_writer
from dms.store.events import EventStore
from dms.store.migrations import MIGRATIONS, Migration, migrate
from dms.store.projections import ProjectionRunner
from dms.testing.projections import PROJECTIONS, ended, started
from dms_actors.ports import NewEvent

ROUNDS = ((1, 2, 67), (3,), (1, 1))
"""Sizes of the appends that are made at once, round by round; 67 rows take three statements."""
NEXT = (
    *MIGRATIONS,
    Migration(
        len(MIGRATIONS) + 1, "notes", ("CREATE TABLE notes (seq INTEGER)", "CREATE INDEX notes_seq ON notes (seq)")
    ),
    Migration(len(MIGRATIONS) + 2, "authors", ("ALTER TABLE notes ADD COLUMN author TEXT",)),
)


def group(name: str, size: int) -> list[NewEvent]:
    """One append whose events all name it and its size, on streams that others share."""
    first = started(f"{name}:{size}", "p1") if size > 1 else ended(f"{name}:{size}")
    rest = [NewEvent(f"s{n % 5}", "noted", f"{name}:{size}", bytes([n % 256]) * 50) for n in range(1, size)]
    return [NewEvent(first.stream, first.kind, f"{name}:{size}", first.body), *rest]


class Bomb:
    """The checkpoint: notes each point and dies at the chosen one."""

    def __init__(self, point, nth):
        self.point, self.left, self.hits = point, nth, []

    def __call__(self, point):
        self.hits.append(point)
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def live(case, bomb):
    """Opens, appends in rounds with the acknowledged names written down, and follows after each round."""
    acks = os.open(case["acks"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    async def append(name, size):
        await store.append(group(name, size))
        os.write(acks, f"{name}:{size}\n".encode())

    async with await EventStore.open(Path(case["path"]), checkpoint=bomb) as store:
        runner = ProjectionRunner(store, PROJECTIONS, checkpoint=bomb)
        await runner.start()
        for number, sizes in enumerate(ROUNDS):
            tag = f"{case['life']}.{number}"
            await asyncio.gather(*(append(f"{tag}.{place}", size) for place, size in enumerate(sizes)))
            await runner.catch_up()


def upgrade(case, bomb):
    """Brings an existing file two schema versions further."""
    connection = connect_writer(Path(case["path"]))
    migrate(connection, NEXT, checkpoint=bomb)
    connection.close()


def child(case, report):
    bomb = Bomb(case.get("point"), case.get("nth", 0))
    if case.get("upgrade"):
        upgrade(case, bomb)
    else:
        asyncio.run(live(case, bomb))
    os.write(report, json.dumps(bomb.hits).encode())


def main():
    for line in sys.stdin:
        case = json.loads(line)
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(case, writing)
            except BaseException:  # noqa: BLE001 - the edge of a forked process: it must not go on as its parent
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        os.close(writing)
        hits = b"".join(iter(lambda fd=reading: os.read(fd, 65536), b""))
        os.close(reading)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"status": status, "hits": json.loads(hits or "[]")}), flush=True)


if __name__ == "__main__":
    main()
