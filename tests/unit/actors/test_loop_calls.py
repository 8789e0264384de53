"""Calls to the loop: those that lead to others do not keep the loop from everything else."""

from __future__ import annotations

import asyncio

from dms_actors.loop_calls import LoopCalls


async def test_a_call_that_comes_while_others_run_waits_for_the_loop() -> None:
    loop = asyncio.get_running_loop()
    calls, ran, is_over = LoopCalls(loop), list[str](), loop.create_future()

    def again(left: int) -> None:
        ran.append("call")
        if left:
            calls.call(again, left - 1)
        else:
            is_over.set_result(None)

    calls.call(again, 9)
    loop.call_soon(ran.append, "other")
    await is_over

    assert ran == ["call", "other", *["call"] * 9]
