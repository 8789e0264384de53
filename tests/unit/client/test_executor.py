"""What an executor does without a market."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dms.client.asking import wish_of
from dms.client.errors import NoWorkers
from dms.client.executor import MarketExecutor
from dms_proto.errors import UserError
from dms_proto.work import takes_calls

OPTIONS: dict[str, Any] = {
    "workers": 2,
    "cpu": 1,
    "memory": "64MiB",
    "disk": "16MiB",
    "max_price": 1,
    "preferences": "",
    "packages": [],
    "lease": "1h",
    "idle": 60,
}


def test_what_is_asked_is_a_job_of_workers() -> None:
    wish = wish_of(**{**OPTIONS, "packages": ["Num_Py == 2"]}, more={"country": "DE", "timeouts": {"queue": "5s"}})
    assert takes_calls(wish.spec.task)
    assert (wish.spec.count, wish.spec.needs.country, wish.spec.queue_ms) == (2, "DE", 5_000)
    assert wish.spec.needs.libraries[1:] == ("num-py==2",)
    assert wish.spec.task.limits.idle_ms == 70_000
    assert wish.spec.retry_job_failures == 1


@pytest.mark.parametrize("more", [{"command": ["x"]}, {"executor": "wasm"}, {"count": 1}, {"colour": "red"}])
def test_what_is_no_option_is_refused_by_name(more: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=next(iter(more))):
        wish_of(**OPTIONS, more=dict(more))


def test_where_no_node_answers_every_call_says_so(tmp_path: Path) -> None:
    with MarketExecutor(tmp_path / "none.sock", wish_of(**OPTIONS, more={}), "pickle", 0) as executor:
        futures = [executor.submit(abs, -1) for _ in range(3)]
        for future in futures:
            with pytest.raises(NoWorkers, match="dms up -d"):
                future.result(60)


def test_an_executor_that_cannot_have_its_loop_says_so_at_once() -> None:
    script = f"""
import os, resource
from pathlib import Path
from dms.client.asking import wish_of
from dms.client.executor import MarketExecutor
wish = wish_of(**{OPTIONS!r}, more={{}})
descriptor = os.open(os.devnull, os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NOFILE, (descriptor + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
try:
    MarketExecutor(Path("none.sock"), wish, "pickle", 0)
except OSError as error:
    print(error.strerror)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "Too many open files\n", done.stderr
