"""How a client ends: closed, forgotten, or with the interpreter; mostly in processes of their own."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

import primepods
from primepods import Client, _loop
from tests.support.client import KEY
from tests.support.server import Received
from tests.sync.harness import PODS, STATUS, Api, Script, client_of, eventually, serving

Start = Callable[..., Script]

late_threads = pytest.mark.skipif(
    (3, 12) <= sys.version_info < (3, 12, 2),
    reason="Python 3.12.0 and 3.12.1 start no thread when the main thread has ended (gh-113964)",
)


def loop_threads() -> list[threading.Thread]:
    """The threads of blocking clients."""
    return [thread for thread in threading.enumerate() if thread.name == "primepods"]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    """No test of these leaves a thread behind, or a call in a list."""
    yield
    gc.collect()
    eventually(lambda: not loop_threads(), "all loops end")
    assert not _loop.PROCESS.running


# Exit.


def test_a_script_that_closes_nothing_ends_quietly(script: Start, api: Api) -> None:
    """No hang, no warning, exit code 0, whatever has been done and is half done."""
    source = """
        import primepods
        unused, client = primepods.Client(), primepods.Client()
        client.pods.get("p0")
        client.pods.statuses(["p0", "p1"])
        client.pods.wait(["p0"])
        pods = list(client.pods.list())
        items = iter(client.pods.list(page_size=1)); next(items); next(items)
        pages = client.pods.list(page_size=1).pages(); next(pages); next(pages)
        changes = iter(client.pods.watch(["p0"])); next(changes)
        others = [primepods.Client() for _ in range(5)]
        for other in others:
            other.pods.get("p0")
        print("done")
    """
    assert script(source, api.url).end().quiet().lines == ["done"]
    eventually(lambda: api.server.open == 0, "connections are closed")


@pytest.mark.parametrize(
    ("ending", "code", "last"),
    [
        ("sys.exit(7)", 7, ""),
        ("raise ZeroDivisionError", 1, "ZeroDivisionError\n"),
        ("client.pods.get('nobody')", 1, "Pod not found"),
    ],
)
def test_exit_codes_and_exceptions_survive(
    script: Start, api: Api, ending: str, code: int, last: str
) -> None:
    """The client closes itself behind them, and changes nothing."""
    source = f"""
        import sys, primepods
        client = primepods.Client()
        client.pods.get("p0")
        changes = iter(client.pods.watch(["p0"]))
        next(changes)
        {ending}
    """
    ended = script(source, api.url).end()
    assert ended.code == code
    assert last in ended.err.splitlines(keepends=True)[-1] if last else ended.err == ""
    assert ended.err.count("Traceback") == bool(last)
    assert "Warning" not in ended.err


def test_a_client_that_was_just_forgotten_does_not_disturb_the_exit(script: Start, api: Api) -> None:
    """The common script: a client in a function that returns, and nothing after it."""
    source = """
        import primepods

        def main():
            client = primepods.Client()
            return [pod.id for pod in client.pods.list()]

        print(main())
    """
    script(source, api.url).end().quiet()


def test_exit_while_a_daemon_thread_is_in_a_call(script: Start) -> None:
    """The interpreter takes the thread along: no hang, and no traceback of a client that was closed."""
    with serving(Api(hold=lambda request: request.path == f"{PODS}p1")) as api:
        source = """
            import threading, time, primepods
            client = primepods.Client()
            client.pods.get("p0")

            def call(what):
                what()
                print("never")

            def again_and_again():
                while True:
                    client.pods.get("p0")

            for what in (
                again_and_again,
                lambda: client.pods.get("p1"),
                lambda: list(client.pods.watch(["p0"])),
                lambda: client.pods.wait(["p0"], until=lambda status: False, on_change=lambda change: None),
            ):
                threading.Thread(target=call, args=(what,), daemon=True).start()
            time.sleep(0.5)
            print("end of main")
        """
        ended = script(source, api.url).end().quiet()
        assert ended.lines == ["end of main"]
        eventually(lambda: api.server.open == 0, "the call is given up")


@late_threads
def test_exit_waits_for_threads_that_are_no_daemons(script: Start, api: Api) -> None:
    """The interpreter joins them first; their calls work to the end."""
    source = """
        import threading, time, primepods
        client = primepods.Client()

        def work():
            time.sleep(0.2)
            print(client.pods.get("p0").id, len(list(client.pods.list())))

        threading.Thread(target=work).start()
    """
    assert script(source, api.url).end().quiet().lines == ["p0 3"]


@late_threads
def test_an_executors_threads_may_use_a_client_at_exit(script: Start, api: Api) -> None:
    """They are joined before the client is closed, too."""
    source = """
        import time, primepods
        from concurrent.futures import ThreadPoolExecutor
        client = primepods.Client()
        pool = ThreadPoolExecutor(4)
        for n in range(8):
            pool.submit(lambda: (time.sleep(0.1), print(client.pods.get("p0").id + "\\n", end="")))
    """
    assert script(source, api.url).end().quiet().lines == ["p0"] * 8


@late_threads
def test_names_are_looked_up_also_when_the_main_thread_has_ended(script: Start, api: Api) -> None:
    """Threads that go on after it may still need new connections; the usual executor refuses by then."""
    source = """
        import os, threading, time, primepods
        client = primepods.Client(base_url=os.environ["PRIME_API_BASE_URL"].replace("127.0.0.1", "localhost"))

        def work():
            time.sleep(0.3)
            print(client.pods.get("p0").id)

        threading.Thread(target=work).start()
    """
    assert script(source, api.url).end().quiet().lines == ["p0"]


@pytest.mark.parametrize("ending", ["client.close()", "del client", "pass"])
def test_a_slow_name_server_holds_nothing_up(script: Start, api: Api, ending: str) -> None:
    """Neither closing nor exit waits for a look-up that nobody wants any more."""
    source = f"""
        import signal, socket, threading, time, primepods
        asked = threading.Event()

        def slow(*args, **kwargs):
            asked.set()
            time.sleep(60)

        socket.getaddrinfo = slow
        client = primepods.Client(base_url="https://slow.example.test")
        pods = client.pods

        def call():
            try:
                pods.get("p0")
            except primepods.ClientClosedError:
                pass

        threading.Thread(target=call, daemon=True).start()
        asked.wait()
        began = time.monotonic()
        {ending}
        print(time.monotonic() - began < 2)
    """
    ended = script(source, api.url).end().quiet()
    assert ended.lines == ["True"]
    assert ended.seconds < 8


def test_exit_handlers_may_use_a_client_until_it_is_closed(script: Start, api: Api) -> None:
    """Handlers registered later run earlier; those that run too late get a clear error, not a hang."""
    source = """
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
    """
    lines = script(source, api.url).end().quiet().lines
    assert lines == [
        "p0",
        "This client is closed. Make a new one.",
        "The interpreter is exiting. Make a new one.",
    ]


def test_exit_is_not_held_up_by_a_loop_that_does_not_end(script: Start, api: Api) -> None:
    """A function that blocks the loop for ever costs five seconds at exit, for all such clients together."""
    source = """
        import threading, time, primepods
        from primepods import _loop
        _loop.JOIN = 0.3
        stuck = threading.Event()

        def until(status):
            stuck.set()
            time.sleep(60)

        clients = [primepods.Client() for _ in range(3)]
        for client in clients:
            stuck.clear()
            work = lambda: client.pods.wait(["p0"], until=until)
            threading.Thread(target=work, daemon=True).start()
            stuck.wait()
        print("end of main")
    """
    ended = script(source, api.url).end(timeout=20)
    assert (ended.code, ended.lines) == (0, ["end of main"])
    assert ended.seconds < 10


# Closing.


def test_closing_twice_and_calling_afterwards(api: Api) -> None:
    """The second close does nothing; every call afterwards says that the client is closed."""
    client = client_of(api)
    pager, watch = client.pods.list(), client.pods.watch(["p0"])
    items = iter(pager)
    next(items)
    client.close()
    client.close()
    calls: list[Callable[[], object]] = [
        lambda: client.pods.get("p0"),
        lambda: client.pods.statuses(["p0"]),
        lambda: client.pods.wait(["p0"], on_change=print),
        lambda: list(client.pods.list()),
        lambda: list(pager),
        lambda: list(watch),
        lambda: list(client.pods.list().pages()),
        lambda: client.request("GET", "/"),
        lambda: client.with_options(timeout=1).pods.get("p0"),
    ]
    for call in calls:
        with pytest.raises(primepods.ClientClosedError, match="closed"):
            call()
    pager.close()
    watch.close()
    with pager, watch:
        pass


def test_what_is_in_hand_when_the_client_is_closed_is_still_given(api: Api) -> None:
    """An iteration fails when it would have to ask."""
    with client_of(api) as client:
        items = iter(client.pods.list())
        assert next(items).id == "p0"
    assert [next(items).id, next(items).id] == ["p1", "p2"]
    with pytest.raises(primepods.ClientClosedError):
        next(items)


def test_a_client_that_was_never_used_starts_nothing(api: Api) -> None:
    """No thread, no connection; closing it is nothing but a note."""
    with client_of(api) as client, client.pods.list(), client.pods.watch(["p0"]):
        assert not loop_threads()
    with pytest.raises(primepods.ClientClosedError, match="closed"):
        client.pods.get("p0")
    assert api.server.connections == 0


def test_with_closes_also_when_the_block_fails(api: Api) -> None:
    """The error is the block's own."""

    def work() -> None:
        with client_of(api) as client:
            client.pods.get("p0")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        work()
    assert caught.value.__context__ is None
    assert not loop_threads()
    eventually(lambda: api.server.open == 0, "the connection is closed")


@pytest.mark.parametrize(
    "call",
    [
        pytest.param(lambda c: c.pods.get("p1"), id="get"),
        pytest.param(lambda c: c.pods.statuses(["p0", "p1"]), id="statuses"),
        pytest.param(lambda c: list(c.pods.list()), id="list"),
        pytest.param(lambda c: c.pods.delete_many(["p0", "p1"]).raise_for_errors(), id="delete_many"),
        pytest.param(lambda c: c.pods.wait(["p0"], until=lambda _: False), id="wait"),
        pytest.param(lambda c: c.pods.wait(["p0"], until=lambda _: False, on_change=print), id="on_change"),
        pytest.param(lambda c: list(c.pods.watch(["p0"])), id="watch"),
        pytest.param(lambda c: c.request("GET", "/api/v1/pods/p1"), id="request"),
    ],
)
def test_closing_ends_the_calls_of_other_threads(call: Callable[[Client], object]) -> None:
    """With ClientClosedError (in `delete_many` one for each pod), promptly; the server sees them given up."""
    errors: list[BaseException] = []

    def hold(request: Received) -> bool:
        return request.path != STATUS or len(request.values("pod_ids")) > 1

    with serving(Api(hold=hold)) as api:
        client = client_of(api)

        def work() -> None:
            try:
                call(client)
            except BaseException as error:  # noqa: BLE001 - it is what is looked at
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(api.requests) >= 1, "they ask")
        time.sleep(0.1)
        began = time.monotonic()
        client.close()
        for thread in threads:
            thread.join(5)
        assert time.monotonic() - began < 3
        assert len(errors) == 3
        for error in errors:
            assert isinstance(error, primepods.PrimePodsError)
            assert isinstance(error, primepods.ClientClosedError) or "closed" in str(error)
        eventually(lambda: api.held == 0, "the calls are given up")


@pytest.mark.parametrize("attempt", range(3))
def test_closing_while_threads_hammer(api: Api, attempt: int) -> None:
    """Whatever the moment, each call ends: with a result or with ClientClosedError."""
    client = client_of(api)
    outcomes: list[object] = []

    def work() -> None:
        while True:
            try:
                outcomes.append(client.pods.get("p0").id)
            except primepods.ClientClosedError as error:
                outcomes.append(error)
                return

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.05 + 0.01 * attempt)
    client.close()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert sum(isinstance(outcome, Exception) for outcome in outcomes) == 8


def test_threads_that_close_at_the_same_time(api: Api) -> None:
    """One of them does it."""
    client = client_of(api)
    client.pods.get("p0")
    threads = [threading.Thread(target=client.close) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


@pytest.mark.parametrize("kind", ["list", "watch"])
def test_closing_what_another_thread_iterates_ends_it(kind: str) -> None:
    """It ends as if there were no more; the client goes on."""
    ended: list[object] = []

    def hold(request: Received) -> bool:
        return request.path == PODS and "offset=0" not in request.target

    with serving(Api(pods=50, hold=hold)) as api, client_of(api) as client:
        pager = client.pods.list(page_size=20) if kind == "list" else client.pods.watch(["p0"])

        def work() -> None:
            ended.append(sum(1 for _ in pager))

        thread = threading.Thread(target=work)
        thread.start()
        eventually(lambda: api.held if kind == "list" else api.count(STATUS), "it waits")
        time.sleep(0.1)
        pager.close()
        thread.join(5)
        assert ended == [21 if kind == "list" else 1]
        assert client.pods.get("p0").id == "p0"
        eventually(lambda: api.held == 0, "its requests are given up")


def test_a_loop_that_cannot_be_had_is_an_error(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, or threads: the call fails, and a later one works."""
    client = client_of(api)

    def no_loop() -> asyncio.AbstractEventLoop:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", no_loop)
        with pytest.raises(OSError, match="Too many open files"):
            client.pods.get("p0")

    def no_thread(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            client.pods.get("p0")
    assert client.pods.get("p0").id == "p0"
    client.close()


def test_calls_that_come_too_late_to_begin_end(api: Api) -> None:
    """Submitted when the loop takes no more, or cancelled before the first step: nobody is left waiting."""

    async def work() -> None:
        raise AssertionError

    async def nothing() -> None:
        """Close nothing."""

    loop = _loop.Loop(nothing)
    late, early = _loop.Call(work), _loop.Call(work)
    loop.submit(late)
    loop._loop.call_soon(loop._stop.set)
    loop._end()
    assert late.news() is None
    with pytest.raises(primepods.ClientClosedError, match="during the call"):
        late.outcome()
    with pytest.raises(primepods.ClientClosedError, match="is closed"):
        loop.submit(early)

    loop = _loop.Loop(nothing)
    loop.start()
    both = threading.Event()
    loop._loop.call_soon_threadsafe(both.wait, 5)
    loop.submit(early)
    loop._loop.call_soon_threadsafe(early.cancel)
    both.set()
    assert early.news(5) is None
    eventually(lambda: not loop.calls, "it is forgotten")
    loop.request_stop()
    loop.join(5)


def test_a_lookup_that_is_cancelled_before_it_begins() -> None:
    """Its thread has nothing to do."""
    future: Future[None] = Future()
    future.cancel()
    _loop._fulfil(future, lambda: pytest.fail("it runs"))


def test_a_client_closed_while_it_starts(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a finalizer or a signal handler, in the thread that starts it: the call says so; nothing hangs."""
    client = client_of(api)
    start = threading.Thread.start

    def closing(self: threading.Thread) -> None:
        client.close()
        start(self)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", closing)
        with pytest.raises(primepods.ClientClosedError):
            client.pods.get("p0")


# Forgetting.


@pytest.mark.parametrize("how", ["client", "cycle", "view", "pager", "watch", "in a call's result"])
def test_a_forgotten_client_closes_itself(how: str) -> None:
    """Its connections are closed and its thread ends, without anybody's waiting for it."""
    with serving(Api(pods=50)) as api:
        client = client_of(api)
        client.pods.get("p0")
        holder: list[object] = []
        if how == "cycle":
            holder += [client, holder]
        elif how == "view":
            holder.append(client.with_options(timeout=3))
        elif how == "pager":
            items = iter(client.pods.list(page_size=10))
            next(items)
            holder.append(items)
            del items
        elif how == "watch":
            changes = iter(client.pods.watch(["p0"]))
            next(changes)
            holder.append(changes)
            del changes
        else:
            holder.append(client.pods.statuses(["p0"]))
        ref = weakref.ref(client)
        del client
        if how in {"view", "pager", "watch"}:
            assert loop_threads()
        del holder
        gc.collect()
        assert ref() is None
        eventually(lambda: not loop_threads(), "its thread ends")
        eventually(lambda: api.server.open == 0, "its connections are closed")


def test_a_finalizer_never_waits(api: Api) -> None:
    """Also where the loop is busy, what the garbage collector does takes no time."""
    client = client_of(api)
    busy, free = threading.Event(), threading.Event()

    def until(status: object) -> bool:
        busy.set()
        return free.wait(10)

    pods = client.pods
    waiter = threading.Thread(target=pods.wait, args=(["p0"],), kwargs={"until": until})
    items = iter(pods.list(page_size=1))
    next(items)
    waiter.start()
    busy.wait(10)
    began = time.monotonic()
    del items, client, pods
    gc.collect()
    assert time.monotonic() - began < 1
    free.set()
    waiter.join(10)


def test_a_client_may_be_collected_in_its_own_loops_thread(api: Api) -> None:
    """Where a garbage collection happens to strike is nobody's choice: the thread cannot wait for itself."""
    collected: list[bool] = []

    def work() -> None:
        client = client_of(api)
        cycle: list[object] = [client]
        cycle.append(cycle)
        ref = weakref.ref(client)
        other = client_of(api)

        def until(status: object) -> bool:
            gc.collect()
            collected.append(ref() is None)
            return True

        # The first one's thread calls `until` while the caller holds nothing but the portal's call.
        client.pods.get("p0")
        loop = client._portal._loop
        assert loop is not None
        del client, cycle
        loop._loop.call_soon_threadsafe(until, None)
        eventually(lambda: collected, "the loop's thread collects")
        other.close()

    gc.disable()
    try:
        work()
    finally:
        gc.enable()
    assert collected == [True]


def test_iterations_may_be_collected_anywhere(api: Api) -> None:
    """In another thread, in the loop's, and when the client is closed already."""
    client = client_of(api)

    def begun() -> list[Iterator[object]]:
        iterators: list[Iterator[object]] = [
            iter(client.pods.list(page_size=1)),
            iter(client.pods.watch(["p0"])),
        ]
        for iterator in iterators:
            next(iterator)
        return iterators

    for collect in (
        gc.collect,
        lambda: client.pods.wait(["p0"], until=lambda _: gc.collect() >= 0),
    ):
        cycle: list[object] = [*begun()]
        cycle.append(cycle)
        del cycle
        collect()
    thread = threading.Thread(target=begun().clear)
    thread.start()
    thread.join(10)
    left = begun()
    client.close()
    left.clear()


def test_an_objects_finalizer_may_close_its_client(script: Start, api: Api) -> None:
    """As people write them: `__del__` that calls `close()`, at whatever time, exit included."""
    source = """
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
        print("done")
    """
    assert script(source, api.url).end().quiet().lines == ["done"]


def test_open_files_and_threads_do_not_grow(api: Api) -> None:
    """A hundred clients, closed or forgotten, leave as many files and threads as before."""

    def use(*, close: bool) -> None:
        client = client_of(api)
        client.pods.get("p0")
        if close:
            client.close()

    def files() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    if not Path("/proc/self/fd").is_dir():
        pytest.skip("this system does not list open files")
    use(close=True)
    eventually(lambda: not loop_threads(), "the first one ends")
    before = files()
    for n in range(100):
        use(close=n % 2 == 0)
    gc.collect()
    eventually(lambda: not loop_threads(), "all threads end")
    eventually(lambda: files() <= before + 2, "all files are closed")


def test_the_key_is_not_in_what_a_crash_shows(script: Start, api: Api) -> None:
    """Neither the traceback nor the locals that some printers show hold the API key."""
    source = """
        import sys, traceback, primepods

        def show(kind, error, trace):
            print("".join(traceback.TracebackException(kind, error, trace, capture_locals=True).format()))

        sys.excepthook = show
        client = primepods.Client()
        client.pods.get("nobody")
    """
    ended = script(source, api.url).end()
    assert "NotFoundError" in ended.out
    assert KEY not in ended.out + ended.err
