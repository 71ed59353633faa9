"""How a client ends: closed, forgotten, or with the interpreter."""

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods import Client
from tests.support.client import KEY
from tests.support.server import Received
from tests.sync.conftest import Run
from tests.sync.harness import PODS, STATUS, Api, client_of, eventually, in_threads, loop_threads

late_threads = pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2),
    reason="Python 3.12.0 and 3.12.1 start no thread when the main thread has ended (gh-113964)",
)


# Exit, in interpreters of their own.


@pytest.mark.slow
def test_a_script_that_closes_nothing_ends_quietly(run: Run, api: Api) -> None:
    """No hang, no warning, exit code 0, whatever has been done and is half done or forgotten."""
    ended = run("""
        import primepods
        unused, client = primepods.Client(), primepods.Client()
        client.pods.statuses(["p0", "p1"])
        client.pods.wait(["p0"], interval=0.05)
        items = iter(client.pods.list(page_size=1)); next(items); next(items)
        pages = client.pods.list(page_size=1).pages(); next(pages); next(pages)
        changes = iter(client.pods.watch(["p0"], interval=0.05)); next(changes)
        others = [primepods.Client() for _ in range(5)]
        for other in others:
            other.pods.get("p0")

        def main():
            forgotten = primepods.Client()
            return [pod.id for pod in forgotten.pods.list()]

        print(main())
    """)
    assert ended.lines() == ["['p0', 'p1', 'p2']"]
    eventually(lambda: api.open == 0, "connections are closed")


@pytest.mark.parametrize(
    ("ending", "code", "last"),
    [
        pytest.param("sys.exit(7)", 7, "", marks=pytest.mark.slow),
        ("client.pods.get('nobody')", 1, "Pod not found"),
    ],
)
def test_exit_codes_and_exceptions_survive(run: Run, ending: str, code: int, last: str) -> None:
    """The client closes itself behind them, and changes nothing; what a crash shows is without the key."""
    ended = run(f"""
        import sys, traceback, primepods

        def show(kind, error, trace):
            print("".join(traceback.TracebackException(kind, error, trace, capture_locals=True).format()),
                  file=sys.stderr)

        sys.excepthook = show
        client = primepods.Client()
        changes = iter(client.pods.watch(["p0"], interval=0.05))
        next(changes)
        {ending}
    """)
    assert ended.code == code
    assert ended.err.count("Traceback") == bool(last)
    assert last in ended.err
    assert "Warning" not in ended.err
    assert KEY not in ended.out + ended.err


@pytest.mark.slow
def test_exit_while_daemon_threads_are_in_calls(run: Run, api: Api) -> None:
    """The interpreter takes them along: no hang, and no traceback of a client that was closed."""
    api.hold = lambda request: request.path == f"{PODS}p1"
    ended = run("""
        import threading, time, primepods
        client = primepods.Client()
        client.pods.get("p0")

        def call(what):
            what()
            print("never")

        def again_and_again():
            while True:
                client.pods.get("p0")

        def ever_new():
            while True:
                primepods.Client().pods.get("p0")

        for what in (
            again_and_again,
            ever_new,
            lambda: client.pods.get("p1"),
            lambda: list(client.pods.watch(["p0"], interval=0.05)),
            lambda: client.pods.wait(["p0"], until=lambda status: False, on_change=lambda change: None),
        ):
            threading.Thread(target=call, args=(what,), daemon=True).start()
        time.sleep(0.3)
        print("end of main")
    """)
    assert ended.lines() == ["end of main"]
    eventually(lambda: api.open == 0, "the calls are given up")


@pytest.mark.slow
@late_threads
def test_exit_waits_for_threads_that_are_no_daemons(run: Run) -> None:
    """The interpreter joins them first; their calls work to the end, also if a name must be looked up."""
    ended = run("""
        import os, threading, time, primepods
        from concurrent.futures import ThreadPoolExecutor
        client = primepods.Client(base_url=os.environ["PRIME_API_BASE_URL"].replace("127.0.0.1", "localhost"))

        def work():
            time.sleep(0.2)
            print(f"{client.pods.get('p0').id} {len(list(client.pods.list()))}\\n", end="", flush=True)

        threading.Thread(target=work).start()
        pool = ThreadPoolExecutor(1)
        for n in range(3):
            pool.submit(work)
    """)
    assert ended.lines() == ["p0 3"] * 4


@pytest.mark.slow
def test_a_slow_name_server_holds_nothing_up(run: Run) -> None:
    """Neither closing nor exit waits for a look-up that nobody wants any more."""
    ended = run("""
        import socket, threading, time, primepods
        from primepods.sync import _loop
        _loop._JOIN_TIMEOUT = 60.0
        asked = threading.Semaphore(0)

        def slow(*args, **kwargs):
            asked.release()
            time.sleep(60)

        socket.getaddrinfo = slow

        def call(pods):
            try:
                pods.get("p0")
            except primepods.ClientClosedError:
                print("closed")

        clients = [primepods.Client(base_url="https://slow.example.test") for _ in range(3)]
        for client in clients:
            threading.Thread(target=call, args=(client.pods,), daemon=True).start()
            asked.acquire()
        began = time.monotonic()
        clients[0].close()
        del client, clients[1]
        assert time.monotonic() - began < 20
    """)
    assert set(ended.lines()) <= {"closed"}
    assert ended.seconds < 40


def test_exit_handlers_may_use_a_client_until_it_is_closed(run: Run) -> None:
    """Handlers registered later run earlier; those that run too late get a clear error, not a hang."""
    ended = run("""
        import atexit

        def late():
            for client in (used, fresh):
                try:
                    client.pods.get("p0")
                except primepods.ClientClosedError as error:
                    print(error)

        atexit.register(late)
        import primepods
        used, fresh = primepods.Client(), primepods.Client()
        used.pods.get("p0")
        atexit.register(lambda: print(used.pods.get("p0").id))
    """)
    late = ["This client is closed. Make a new one.", "The interpreter is exiting. Make a new one."]
    assert ended.lines() == ["p0", *late]


@pytest.mark.slow
def test_exit_is_not_held_up_by_a_loop_that_does_not_end(run: Run) -> None:
    """A function that blocks the loop for ever costs five seconds at exit, for all such clients together."""
    ended = run("""
        import threading, time, primepods
        stuck = threading.Semaphore(0)

        def until(status):
            stuck.release()
            time.sleep(600)

        clients = [primepods.Client() for _ in range(12)]
        for client in clients:
            work = lambda: client.pods.wait(["p0"], until=until, interval=0.05)
            threading.Thread(target=work, daemon=True).start()
            stuck.acquire()
        print("end of main")
    """)
    assert (ended.code, ended.out) == (0, "end of main\n")
    assert 5 < ended.seconds < 50  # not 60, five for each


@pytest.mark.slow
def test_an_objects_finalizer_may_close_its_client(run: Run) -> None:
    """As people write them: `__del__` that calls `close()`, at whatever time, exit included."""
    ended = run("""
        import primepods

        class Fleet:
            def __init__(self):
                self.client = primepods.Client()
                self.client.pods.get("p0")
                self.me = self

            def __del__(self):
                self.client.close()

        for _ in range(20):
            Fleet()
        fleet = Fleet()
    """)
    assert ended.lines() == []


# Closing.


def test_closing_twice_and_calling_afterwards(api: Api) -> None:
    """The second close does nothing; every call afterwards says that the client is closed."""
    client = client_of(api)
    pager, watch = client.pods.list(), client.pods.watch(["p0"], interval=0.05)
    items = iter(pager)
    assert next(items).id == "p0"
    client.close()
    client.close()
    calls: list[Callable[[], object]] = [
        lambda: client.pods.get("p0"),
        lambda: client.pods.wait(["p0"], on_change=print, interval=0.05),
        lambda: list(pager),
        lambda: list(watch),
        lambda: next(pager.pages()),
        lambda: client.with_options(timeout=1).pods.get("p0"),
    ]
    for call in calls:
        with pytest.raises(primepods.ClientClosedError, match="closed"):
            call()
    assert [next(items).id, next(items).id] == ["p1", "p2"], "what is in hand is still given"
    with pytest.raises(primepods.ClientClosedError):
        next(items)
    with pager, watch:
        pass


def test_closing_ends_the_calls_of_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Promptly, and with ClientClosedError; the server sees them given up."""
    monkeypatch.setattr("primepods.sync._loop._JOIN_TIMEOUT", 40.0)

    def hold(request: Received) -> bool:
        return request.path != STATUS or len(request.values("pod_ids")) > 1

    calls: list[Callable[[], object]] = [
        lambda: client.pods.get("p1"),
        lambda: client.pods.statuses(["p0", "p1"]),
        lambda: list(client.pods.list()),
        lambda: client.pods.delete_many(["p0"]).raise_for_errors(),
        lambda: client.pods.wait(["p0"], until=lambda _: False, interval=0.05),
        lambda: client.pods.wait(["p0"], until=lambda _: False, on_change=lambda _: None, interval=0.05),
        lambda: list(client.pods.watch(["p0"], interval=0.05)),
    ]

    def close() -> float:
        eventually(lambda: api.in_flight == 4 and api.count(STATUS) > 1, "they ask")
        began = time.monotonic()
        client.close()
        return time.monotonic() - began

    with Api(hold=hold).in_thread() as api:
        client = client_of(api)
        *errors, took = in_threads(*calls, close)
        assert [type(error) for error in errors] == [primepods.ClientClosedError] * len(calls)
        assert isinstance(took, float)
        assert took < 20
        eventually(lambda: api.open == 0, "the calls are given up")


def test_closing_what_another_thread_iterates(api: Api) -> None:
    """What has not come to its end says so; the client goes on."""
    api.ids = [f"p{n}" for n in range(50)]
    api.hold = lambda request: request.path == PODS and "offset=0" not in request.target
    with client_of(api) as client:
        pager, watch = client.pods.list(page_size=20), client.pods.watch(["p0"], interval=0.05)

        def close() -> None:
            eventually(lambda: api.count(PODS) > 1 and api.count(STATUS), "both wait")
            pager.close()
            watch.close()

        *errors, _ = in_threads(lambda: list(pager), lambda: list(watch), close)
        assert [type(error) for error in errors] == [primepods.ClientClosedError] * 2
        assert client.pods.get("p0").id == "p0"
        eventually(lambda: api.in_flight == 0, "the requests are given up")


def open_files() -> int:
    """How many files this process has open, where the system tells."""
    return len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").is_dir() else 0


def test_a_loop_that_cannot_be_had_is_an_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, or threads: the call fails, leaves nothing open, and a later one works."""

    def no_loop() -> asyncio.AbstractEventLoop:
        raise OSError(24, "Too many open files")

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", no_loop)
        with pytest.raises(OSError, match="Too many open files"):
            client.pods.get("p0")
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        before = open_files()
        with pytest.raises(RuntimeError, match="can't start new thread"):
            client.pods.get("p0")
        assert open_files() <= before
    assert client.pods.get("p0").id == "p0"


def test_a_call_that_comes_when_its_loop_has_ended(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too late to be started, too early to be refused: it ends like those that were in progress."""
    items, ending, asked = iter(client.pods.list()), threading.Event(), threading.Event()
    close, call_soon = asyncio.SelectorEventLoop.close, asyncio.SelectorEventLoop.call_soon_threadsafe

    def close_late(self: asyncio.SelectorEventLoop) -> None:
        ending.set()
        asked.wait(40)
        close(self)

    def ask(*args: Any, **kwargs: Any) -> asyncio.Handle:
        handle = call_soon(*args, **kwargs)
        asked.set()
        return handle

    def call() -> object:
        ending.wait(40)
        monkeypatch.setattr(asyncio.SelectorEventLoop, "call_soon_threadsafe", ask)
        return next(items)

    monkeypatch.setattr(asyncio.SelectorEventLoop, "close", close_late)
    error, _ = in_threads(call, client.close)
    assert isinstance(error, primepods.ClientClosedError)
    assert "during the call" in str(error)


def test_a_client_that_is_closed_while_it_starts(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a finalizer or a signal handler, in the thread that starts it: the call says so; nothing hangs."""
    start = threading.Thread.start

    def closing(self: threading.Thread) -> None:
        client.close()
        start(self)

    monkeypatch.setattr(threading.Thread, "start", closing)
    with pytest.raises(primepods.ClientClosedError):
        client.pods.get("p0")


# Forgetting.


@pytest.mark.slow
@pytest.mark.parametrize(
    "hold",
    [
        lambda client: client.pods.statuses(["p0"]),
        lambda client: [client],
        lambda client: client.with_options(timeout=3),
        lambda client: iter(client.pods.list(page_size=10)),
        lambda client: iter(client.pods.watch(["p0"], interval=0.05)),
    ],
    ids=["a result", "a cycle", "a view", "a listing", "a watch"],
)
def test_a_forgotten_client_closes_itself(api: Api, hold: Callable[[Client], Any]) -> None:
    """With what uses it: its connections are closed and its thread ends, without anybody's waiting for it."""
    client = client_of(api)
    client.pods.get("p0")
    held = hold(client)
    if isinstance(held, list):
        held.append(held)
    if isinstance(held, Iterator):
        next(held)
    uses_it = not isinstance(held, primepods.PodStatuses)
    ref = weakref.ref(client)
    del client
    assert bool(loop_threads()) or not uses_it
    del held
    gc.collect()
    assert ref() is None
    eventually(lambda: not loop_threads(), "its thread ends")
    eventually(lambda: api.open == 0, "its connections are closed")


def test_a_finalizer_never_waits(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the loop is busy, what the garbage collector does takes no time."""
    monkeypatch.setattr("primepods.sync._loop._JOIN_TIMEOUT", 40.0)
    client = client_of(api)
    busy, free = threading.Event(), threading.Event()

    def until(status: object) -> bool:
        busy.set()
        return free.wait(40)

    pods = client.pods
    waiter = threading.Thread(target=pods.wait, args=(["p0"],), kwargs={"until": until})
    items = iter(pods.list(page_size=1))
    next(items)
    waiter.start()
    busy.wait(40)
    began = time.monotonic()
    del items, client, pods
    gc.collect()
    assert time.monotonic() - began < 20
    free.set()
    waiter.join(40)


def test_a_client_may_be_collected_in_its_own_loops_thread(api: Api) -> None:
    """Where a garbage collection happens to strike is nobody's choice: the thread cannot wait for itself."""
    collected: list[int] = []
    forgotten = threading.Event()

    def until(status: object) -> bool:
        loop = asyncio.get_running_loop()

        def collect() -> None:
            if forgotten.is_set():
                collected.append(gc.collect())
            else:
                loop.call_later(0.01, collect)

        collect()
        return True

    def work() -> weakref.ref[Client]:
        client = client_of(api)
        client.pods.wait(["p0"], until=until, interval=0.05)
        cycle: list[object] = [client]
        cycle.append(cycle)
        return weakref.ref(client)

    gc.disable()
    try:
        ref = work()
        assert ref() is not None
        forgotten.set()
        eventually(lambda: collected, "the loop's thread collects")
        assert ref() is None
    finally:
        gc.enable()


@pytest.mark.slow
def test_iterations_may_be_collected_anywhere(api: Api) -> None:
    """In another thread, in the loop's, and when the client is closed already."""
    client = client_of(api)

    def begun() -> list[object]:
        iterators = [iter(client.pods.list(page_size=1)), iter(client.pods.watch(["p0"], interval=0.05))]
        for iterator in iterators:
            next(iterator)
        return [*iterators, iterators]

    for collect in (
        gc.collect,
        lambda: client.pods.wait(["p0"], until=lambda _: gc.collect() >= 0, interval=0.05),
    ):
        cycle = begun()
        cycle.append(cycle)
        del cycle
        collect()
    assert in_threads(begun().clear) == [None]
    left = begun()
    client.close()
    left.clear()


@pytest.mark.slow
def test_open_files_and_threads_do_not_grow(api: Api) -> None:
    """Fifty clients, closed or forgotten, leave as many files and threads as before."""

    def use(*, close: bool) -> None:
        client = client_of(api)
        client.pods.get("p0")
        if close:
            client.close()

    use(close=True)
    before = open_files()
    for n in range(50):
        use(close=n % 2 == 0)
    gc.collect()
    eventually(lambda: not loop_threads(), "all threads end")
    eventually(lambda: open_files() <= before + 2, "all files are closed")
