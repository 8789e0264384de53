"""Standard input given on from a loop: whole, and quietly let go of."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

COUNTED: Final = """
import asyncio
from dms.cli.standard_input import pass_on

async def main():
    ended, sizes = asyncio.Event(), []
    async def send(data):
        sizes.append(len(data))
        if not data:
            ended.set()
    pass_on(send)
    await ended.wait()
    print(sum(sizes), sizes[-1])

asyncio.run(main())
"""
LEFT: Final = """
import asyncio, threading
from dms.cli.standard_input import pass_on

async def main():
    begun = asyncio.Event()
    async def send(data):
        begun.set()
        await asyncio.Event().wait()
    pass_on(send)
    await begun.wait()

asyncio.run(main())
for thread in threading.enumerate():
    if thread.name == "input":
        thread.join(60)
        print("left" if thread.is_alive() else "ended")
"""


def told(program: str) -> tuple[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", program], input=b"x" * 300_000, capture_output=True, check=True, timeout=120
    )
    return done.stdout.decode(), done.stderr.decode()


def test_all_of_it_comes_and_then_its_end() -> None:
    assert told(COUNTED) == ("300000 0\n", "")


def test_nothing_is_said_where_the_loop_ends_before_the_input() -> None:
    assert told(LEFT) in (("ended\n", ""), ("", ""))
