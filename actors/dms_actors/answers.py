"""Answers on their way to whoever waits for them, on a thread or on the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any


def settle(answer: concurrent.futures.Future[Any] | asyncio.Future[Any], result: object) -> None:
    """Gives whoever asked the result, or raises it there; nothing when nobody waits any more."""
    if answer.done():
        return
    if isinstance(result, BaseException):
        answer.set_exception(result)
    else:
        answer.set_result(result)
