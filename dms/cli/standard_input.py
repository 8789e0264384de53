"""Standard input, given on from a loop."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any, Final

PIECE: Final = 32_768
STDIN: Final = 0


def pass_on(send: Callable[[bytes], Coroutine[Any, Any, None]]) -> None:
    """Has a thread read, since what is piped in may be a file, which no loop can wait for; and no faster than it is taken.

    The thread ends with the input, with the loop, or with the process: the input may never end.

    Args:
        send: takes a piece on the running loop; an empty one is the end.
    """
    loop = asyncio.get_running_loop()

    def read() -> None:
        with suppress(OSError, RuntimeError, CancelledError):  # the other end, or the loop, is gone
            while True:
                data = os.read(STDIN, PIECE)
                sending = send(data)  # has a name here, since a loop that closes lets go of what it did not begin
                try:
                    asyncio.run_coroutine_threadsafe(sending, loop).result()
                finally:
                    sending.close()
                if not data:
                    return

    threading.Thread(target=read, name="input", daemon=True).start()
