"""Functions called on machines of a market: whole nodes, real sandboxes, and the client as a program uses it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, CancelledError, TimeoutError, as_completed, wait  # noqa: A004
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import psutil
import pytest

from dms.client import AsyncMarket, Market, MarketExecutor, NoWorkers, RemoteError, RemoteTraceback, WorkerLost
from dms.client.joblib import register
from dms.devnet.topology import NodeSpec
from dms.testing.whole_market import PROVIDER, REQUESTER, WholeMarket, wait_until, whole_market
from dms_proto.errors import UserError

pytestmark = [pytest.mark.slow, pytest.mark.libp2p]

S = 60.0
"""A result that takes longer has been lost."""
SMALL: dict[str, Any] = {"cpu": 0.5, "memory": "64MiB", "disk": "16MiB", "max_price": 10}
TWO = (REQUESTER, PROVIDER, NodeSpec("other", "provider", PROVIDER.settings))

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WholeMarket]:
    with whole_market(tmp_path_factory.mktemp("functions"), *TWO) as market:
        yield market


@pytest.fixture(autouse=True)
def all_is_free_afterwards(market: WholeMarket) -> Iterator[None]:
    yield
    market.wait_free("provider")
    market.wait_free("other")


def client(market: WholeMarket) -> Market:
    return Market(market["requester"].home.root)


def made(market: WholeMarket, workers: int = 2, **options: Any) -> MarketExecutor:
    return client(market).executor(workers, **{**SMALL, **options})


@pytest.fixture
def executor(market: WholeMarket) -> Iterator[MarketExecutor]:
    with made(market) as executor:
        yield executor


def until(path: str) -> str:
    """Runs until its job's directory has that file, which another call on the same worker cannot make: that is, for ever."""
    while not os.path.exists(path):  # noqa: PTH110 - it runs elsewhere
        time.sleep(0.01)
    return path


# ----------------------------------------------------------------------------------------------- as concurrent.futures has it


def test_results_come_back_whatever_the_order_of_their_ends(executor: MarketExecutor) -> None:
    assert executor.submit(pow, 2, 10).result(S) == 1024
    assert executor.submit(lambda *args, **kwargs: (args, kwargs), 1, self=2, fn=3).result(S) == (
        (1,),
        {"self": 2, "fn": 3},
    )
    futures = {executor.submit(lambda x: x * x, number): number for number in range(100)}
    assert {futures[future]: future.result() for future in as_completed(futures, S)} == {n: n * n for n in range(100)}
    assert all(future.done() and not future.running() for future in futures)


@pytest.mark.parametrize("chunksize", [1, 3, 1_000])
def test_map_keeps_the_order_and_chunks_change_nothing(executor: MarketExecutor, chunksize: int) -> None:
    assert list(executor.map(pow, range(20), range(20), timeout=S, chunksize=chunksize)) == [n**n for n in range(20)]
    assert list(executor.map(pow, [], [], chunksize=chunksize)) == []
    results = executor.map(divmod, [1, 1, 1], [1, 0, 1], chunksize=1)
    assert next(results) == (1, 0)
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_has_a_deadline_and_refuses_no_chunks(executor: MarketExecutor) -> None:
    assert executor.submit(int).result(S) == 0
    assert next(executor.map(time.sleep, [0], timeout=S)) is None
    with pytest.raises(TimeoutError):
        next(executor.map(time.sleep, [3], timeout=0.1))
    with pytest.raises(ValueError, match="chunksize"):
        executor.map(int, [1], chunksize=0)


def test_what_a_function_raises_is_raised_here_with_its_traceback_there(executor: MarketExecutor) -> None:
    def deep() -> None:
        raise LookupError("not there", 7)

    future = executor.submit(deep)
    error = future.exception(S)
    assert isinstance(error, LookupError)
    assert error.args == ("not there", 7)
    assert isinstance(error.__cause__, RemoteTraceback)
    assert "in deep" in str(error.__cause__)
    done, _ = wait([executor.submit(deep), executor.submit(int)], S, FIRST_EXCEPTION)
    assert done
    assert isinstance(executor.submit(sys.exit, 3).exception(S), SystemExit)


def test_an_exception_that_cannot_be_brought_over_is_told_in_words(executor: MarketExecutor) -> None:
    def fail() -> None:
        class TwoArguments(Exception):  # noqa: N818
            def __init__(self, one: int, two: int) -> None:
                super().__init__("both are needed")

        raise TwoArguments(1, 2)

    error = executor.submit(fail).exception(S)
    assert isinstance(error, RemoteError)
    assert error.type.endswith("TwoArguments")
    assert error.message == "both are needed"
    assert "TwoArguments" in str(error.__cause__)


def test_what_cannot_be_sent_or_brought_back_is_the_futures_error_and_others_go_on(market: WholeMarket) -> None:
    with made(market, workers=1, memory="400MiB") as executor:
        try_the_unsendable(executor)


def try_the_unsendable(executor: MarketExecutor) -> None:
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(print, threading.Lock()).result(S)
    with pytest.raises(ValueError, match="can be sent at once"):
        executor.submit(len, bytes(65 << 20)).result(S)
    with pytest.raises(TypeError, match="pickle"):
        executor.submit(threading.Lock).result(S)
    with pytest.raises(ValueError, match="can be sent at once"):
        executor.submit(bytes, 65 << 20).result(S)
    large = os.urandom(8 << 20)
    assert executor.submit(lambda data: data[::-1], large).result(S) == large[::-1]


def test_only_what_no_worker_has_can_be_cancelled(market: WholeMarket) -> None:
    executor = made(market, workers=1)
    running = executor.submit(until, "never")
    wait_until(running.running, "the call is under way")
    waiting = [executor.submit(int) for _ in range(3)]
    assert not running.cancel()
    assert waiting[0].cancel()
    with pytest.raises(CancelledError):
        waiting[0].result(S)
    executor.shutdown(wait=False, cancel_futures=True)
    assert wait(waiting, S).not_done == set()
    assert all(future.cancelled() for future in waiting)
    executor.abandon()
    assert isinstance(running.exception(S), WorkerLost)


def test_shutting_down_does_what_was_called_and_takes_no_more(market: WholeMarket) -> None:
    executor = made(market, workers=1)
    futures = [executor.submit(pow, number, 2) for number in range(50)]
    executor.shutdown(wait=False)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(int)
    assert [future.result(S) for future in futures] == [n * n for n in range(50)]
    executor.shutdown()
    assert market.last_job()["reason"] == "completed"
    made(market).shutdown()  # one that was never used


def test_callbacks_see_the_result_and_may_call_again(executor: MarketExecutor) -> None:
    seen: list[Any] = []
    came = threading.Event()

    def again(future: Any) -> None:
        executor.submit(pow, future.result(), 2).add_done_callback(lambda f: (seen.append(f.result()), came.set()))

    executor.submit(pow, 3, 1).add_done_callback(again)
    assert came.wait(S)
    assert seen == [9]


def test_a_fork_leaves_the_executor_to_its_parent(executor: MarketExecutor) -> None:
    assert executor.submit(int).result(S) == 0
    child = os.fork()
    if not child:
        try:
            executor.submit(int)
        except RuntimeError:
            executor.shutdown()
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert executor.submit(int).result(S) == 0


# ---------------------------------------------------------------------------------------------------------- workers that go


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_who_dies_takes_its_call_along_and_nothing_else(market: WholeMarket) -> None:
    with made(market) as executor:
        assert executor.submit(int).result(S) == 0
        error = executor.submit(die).exception(S)
        assert isinstance(error, WorkerLost)
        assert "killed_by_signal" in str(error)
        assert [executor.submit(pow, n, 1).result(S) for n in range(10)] == list(range(10))
        assert isinstance(executor.submit(die).exception(S), WorkerLost)
        assert executor.submit(int).result(S) == 0, "others were asked for"


def test_a_call_that_may_be_made_again_is_where_its_worker_was_lost(market: WholeMarket) -> None:
    def only_the_second() -> str:
        if os.environ["DMS_INDEX"] == "0":
            die()
        return os.environ["DMS_INDEX"]

    with made(market, retries=2) as executor:
        assert {executor.submit(only_the_second).result(S) for _ in range(2)} == {"1"}
        assert isinstance(executor.submit(die).exception(S), WorkerLost), "but not for ever"


def scribble(data: bytes) -> None:
    """Says something to the caller past the worker."""
    import socket
    import stat

    for descriptor in range(3, 64):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                socket.socket(fileno=os.dup(descriptor)).send(data)
        except OSError:
            continue


@pytest.mark.parametrize(
    "said", [b"\0\0\0\4what", b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\6f\0\0\0\x01{", b"\0\0\0\1r\0\0\0\1r"]
)
def test_a_worker_that_answers_with_what_is_none_is_left(market: WholeMarket, said: bytes) -> None:
    with made(market, retries=0) as executor:
        error = executor.submit(scribble, said).exception(S)
        assert isinstance(error, (WorkerLost, EOFError)), "an empty pickle, or no answer"
        assert executor.submit(pow, 2, 3).result(S) == 8


def test_a_call_that_is_never_answered_can_be_left(market: WholeMarket) -> None:
    executor = made(market, workers=1)
    future = executor.submit(until, "never")
    with pytest.raises(TimeoutError):
        future.result(2)
    executor.abandon()
    assert isinstance(future.exception(S), WorkerLost)


def test_workers_without_a_call_are_let_go_and_others_are_asked_for(market: WholeMarket) -> None:
    with made(market, idle=0.3) as executor:
        assert executor.submit(int).result(S) == 0
        first = market.last_job()["job_id"]
        wait_until(lambda: market.last_job()["phase"] == "ended", "the workers were let go")
        assert executor.submit(int).result(S) == 0
        assert market.last_job()["job_id"] != first


def test_the_end_of_a_lease_is_told_and_the_next_call_has_another(market: WholeMarket) -> None:
    with made(market, workers=1, lease=2) as executor:
        assert isinstance(error := executor.submit(until, "never").exception(S), WorkerLost)
        assert "wall_time" in str(error)
        assert executor.submit(int).result(S) == 0


# ------------------------------------------------------------------------------------------------------- programs that go


@contextmanager
def program(market: WholeMarket, text: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A program with an executor of one worker, which prints "called" when a call without end is under way."""
    script = f"""
import signal, sys, time
from dms.client import Market
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run in the background of a shell
executor = Market({str(market["requester"].home.root)!r}).executor(1, **{ {**SMALL, **options}!r})
def call():
    future = executor.submit(time.sleep, 600)
    while not future.running(): time.sleep(0.01)
    print("called", flush=True)
    return future
{text}
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as started:
        try:
            yield started
        finally:
            if started.poll() is None:
                started.kill()


def first_word(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline()


def test_ctrl_c_ends_program_and_lease(market: WholeMarket) -> None:
    with program(market, "with executor:\n    call().result()") as started:
        assert first_word(started) == "called\n"
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=S)
        assert started.returncode == -signal.SIGINT, said
        assert said.splitlines()[-1] == "KeyboardInterrupt", said
        assert "market executor" not in said


@pytest.mark.parametrize("end", ["sys.exit(3)", "raise SystemExit(3)", "del executor, future; sys.exit(3)"])
def test_a_program_that_ends_lets_its_workers_go(market: WholeMarket, end: str) -> None:
    with program(market, f"future = call()\n{end}") as started:
        said = started.communicate(timeout=S)
        assert started.returncode == 3, said
        assert said == ("called\n", "")


def test_the_worker_of_a_program_that_was_killed_ends_by_itself(market: WholeMarket) -> None:
    with program(market, "call().result()", timeouts={"idle": "1s"}) as started:
        assert first_word(started) == "called\n"
        started.kill()
    wait_until(lambda: market.last_job()["phase"] == "ended", "the worker has ended")
    assert market.last_job()["reason"] == "completed"


# ------------------------------------------------------------------------------------------------------------ what is asked


def test_python_and_packages_that_nobody_has_are_refused_with_what_would_help(market: WholeMarket) -> None:
    with made(market, packages=["No_Such.Thing==1.0"]) as executor, pytest.raises(NoWorkers) as lacking:
        executor.submit(int).result(S)
    assert "library:no-such-thing: no-such-thing==1.0 is wanted, not there" in str(lacking.value)
    assert lacking.value.job_id in str(lacking.value)
    with made(market, libraries=["python==3.4"]) as executor, pytest.raises(NoWorkers) as older:
        executor.submit(int).result(S)
    assert "run this program with one that is there" in str(older.value)
    assert f"python==3.4 is wanted, python {sys.version_info[0]}.{sys.version_info[1]}" in str(older.value)


def test_options_are_checked_before_anything_is_asked(market: WholeMarket, tmp_path: Path) -> None:
    for options in (
        {"codec": "yaml"},
        {"retries": -1},
        {"idle": "soon"},
        {"memory": "much"},
        {"count": 3},
        {"colour": 1},
    ):
        with pytest.raises(UserError) as refused:
            made(market, **options)
        assert refused.value.code in ("bad_argument", "bad_job")
    with pytest.raises(UserError) as nowhere:
        Market(tmp_path).executor()
    assert nowhere.value.code == "not_onboarded"
    assert "dms onboard" in nowhere.value.hint


def test_modules_of_the_program_are_sent_along(
    market: WholeMarket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine_alone.py").write_text("def twice(x):\n    return 2 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import mine_alone  # type: ignore[import-not-found]

    with made(market) as executor:
        assert isinstance(executor.submit(mine_alone.twice, 1).exception(S), ModuleNotFoundError)
    try:
        with made(market, modules=[mine_alone]) as executor:
            assert executor.submit(mine_alone.twice, 1).result(S) == 2
    finally:
        cloudpickle.unregister_pickle_by_value(mine_alone)


def bomb(path: str) -> Any:
    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (path,)

    return Bomb()


def test_what_is_told_in_json_is_never_unpickled_here(market: WholeMarket, tmp_path: Path) -> None:
    with made(market, codec="json") as executor:
        assert executor.submit(lambda: {"a": (1, None)}).result(S) == {"a": [1, None]}
        error = executor.submit(bomb, str(tmp_path / "json")).exception(S)
        assert isinstance(error, RemoteError)
        assert error.type == "TypeError"
        assert isinstance(error.__cause__, RemoteTraceback)
    with made(market) as executor:
        executor.submit(bomb, str(tmp_path / "pickle")).exception(S)
    assert [path.name for path in tmp_path.iterdir()] == ["pickle"], "the other codec does, as it says"


def test_what_functions_print_is_in_the_jobs_logs(market: WholeMarket) -> None:
    with made(market, workers=1) as executor:
        executor.submit(print, "printed there").result(S)
    assert market.dms("job", "logs", market.last_job()["job_id"]).stdout == "printed there\n"


def test_an_owner_may_look_into_its_worker_between_calls(market: WholeMarket) -> None:
    with made(market, workers=1, exec="requester") as executor:
        executor.submit(Path("left.txt").write_text, "by a call").result(S)
        done = market.dms("job", "exec", market.last_job()["job_id"], "--", "cat", "left.txt")
        assert (done.returncode, done.stdout) == (0, "by a call"), done.stderr
        assert executor.submit(int).result(S) == 0


def test_a_job_is_run_and_its_words_are_given(market: WholeMarket) -> None:
    ran = client(market).run(["sh", "-c", "echo out; echo err >&2; exit 3"], resources={"memory": "64MiB"})
    assert (ran.is_well, ran.stdout, ran.stderr) == (False, b"out\n", b"err\n")
    ran = client(market).run("echo one", count=2, resources={"memory": "64MiB", "cpu": 0.5})
    assert (ran.is_well, ran.stdout) == (True, b"one\none\n")
    text = "print('in Python')"
    assert client(market).run(["-c", text], executor="python", resources={"memory": "64MiB"}).stdout == b"in Python\n"


def test_the_example_runs(market: WholeMarket) -> None:
    variables = {**os.environ, "DMS_HOME": str(market["requester"].home.root)}
    command = [sys.executable, "examples/python/estimate_pi.py", "4"]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=S, check=False)
    assert done.stdout.startswith("pi is about 3.1"), done.stderr


def test_ctrl_c_cancels_the_job_that_is_run(market: WholeMarket) -> None:
    running = "Market({!r}).run('echo up; sleep 600', resources={{'memory': '64MiB'}})".format(
        str(market["requester"].home.root)
    )
    with program(market, running) as started:
        wait_until(lambda: market.json("job", "list", "--active")["total"], "the job is asked for")
        wait_until(lambda: market.last_job()["running"], "the job runs")
        started.send_signal(signal.SIGINT)
        _, said = started.communicate(timeout=S)
        assert said.splitlines()[-1] == "KeyboardInterrupt", said
    wait_until(lambda: market.last_job()["reason"] == "cancelled", "the job is cancelled")


async def test_the_same_for_asyncio(market: WholeMarket) -> None:
    async with await AsyncMarket(market["requester"].home.root).executor(**SMALL) as executor:
        async with asyncio.timeout(S):
            assert await executor.submit(pow, 2, 5) == 32
            assert await asyncio.gather(*(executor.submit(pow, n, 2) for n in range(20))) == [n * n for n in range(20)]
            assert [result async for result in executor.map(pow, range(10), range(10), chunksize=3)] == [
                n**n for n in range(10)
            ]
            with pytest.raises(ZeroDivisionError):
                await executor.submit(divmod, 1, 0)
            with pytest.raises(ValueError, match="chunksize"):
                await anext(executor.map(int, [1], chunksize=0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await executor.submit(time.sleep, 2)
    ran = await AsyncMarket(market["requester"].home.root).run(["echo", "hi"], resources={"memory": "64MiB"})
    assert ran.stdout == b"hi\n"


def test_joblib_calls_where_the_market_says(market: WholeMarket) -> None:
    register()
    home = market["requester"].home.root
    with joblib.parallel_config(backend="dms", home=home, **SMALL):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(pow)(n, exp=2) for n in range(50)) == [n * n for n in range(50)]
        first = market.last_job()
        assert (first["name"], first["count"], first["phase"]) == ("functions", 2, "ended")
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(n, n - 5) for n in range(10))
    with made(market) as executor, joblib.parallel_config(backend="dms", executor=executor, home=home):
        assert joblib.effective_n_jobs(-1) == 2
        for _ in range(2):
            inside = joblib.Parallel()(joblib.delayed(os.getcwd)() for _ in range(4))
            assert inside == ["/job"] * 4
        jobs = market.json("job", "list")["total"]
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel()(joblib.delayed(divmod)(n, n - 5) for n in range(10))
        results = joblib.Parallel(return_as="generator")(joblib.delayed(abs)(-n) for n in range(10))
        assert list(results) == list(range(10))
        assert market.json("job", "list")["total"] == jobs, "the workers were held"


# ---------------------------------------------------------------------------------------------------------- nodes that go


def holder(market: WholeMarket) -> str:
    """The provider on which something runs."""
    return next(name for name in ("provider", "other") if market.status(name)["work"]["running"])


def kill_all(market: WholeMarket, name: str) -> None:
    process = market[name].process
    assert process is not None
    family = [child.pid for child in psutil.Process(process.pid).children()]
    market[name].kill()
    for pid in family:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def again(market: WholeMarket, name: str) -> None:
    market[name].launch()
    market[name].wait_ready()


def test_a_call_goes_on_elsewhere_when_its_provider_dies(market: WholeMarket) -> None:
    with made(market, workers=1, retries=1) as executor:
        assert executor.submit(int).result(S) == 0
        first = holder(market)
        future = executor.submit(time.sleep, 2)
        wait_until(future.running, "the call is under way")
        kill_all(market, first)
        try:
            assert future.result(S) is None
        finally:
            again(market, first)


def test_a_dead_node_of_ones_own_is_said_and_once_it_is_back_calls_are_done(market: WholeMarket) -> None:
    with made(market, workers=1, timeouts={"idle": "1s"}) as executor:
        assert executor.submit(int).result(S) == 0
        kill_all(market, "requester")
        try:
            with pytest.raises((NoWorkers, WorkerLost)):
                executor.submit(int).result(S)
            with pytest.raises(NoWorkers, match="dms up -d"):
                executor.submit(int).result(S)
        finally:
            again(market, "requester")

        def is_served() -> bool:
            return executor.submit(int).exception(S) is None

        wait_until(is_served, "calls are done again")
