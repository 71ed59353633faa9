"""Ctrl-C, the real signal, in processes of their own: prompt, the call is given up, the client goes on."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import primepods
from primepods import _loop
from tests.support.server import Received
from tests.sync.harness import PODS, STATUS, Api, Script, client_of, eventually, serving

Start = Callable[..., Script]

PRELUDE = """
import os, signal, threading, time, primepods
handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
client = primepods.Client()
client.pods.get("p0")

def interrupted(call):
    try:
        call()
    except KeyboardInterrupt as error:
        assert error.__context__ is None and error.__cause__ is None, error.__context__
        print("interrupted", flush=True)
    else:
        print("it was not interrupted")
    assert client.pods.get("p0").id == "p0"
    assert len(client.pods.statuses(["p0"])) == 1
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    from primepods.waiting import _hub as polling
    assert not polling._hubs

"""

HELD = f"{PODS}p1"


def held(request: Received) -> bool:
    """One pod, statuses of more than one, and every page but the first are never answered."""
    pages = request.path == PODS and "offset=0" not in request.target
    return request.path == HELD or pages or len(request.values("pod_ids")) > 1


REQUESTS = [
    "client.pods.get('p1')",
    "client.pods.statuses(['p0', 'p1'])",
    "client.pods.delete_many(['p1'])",
    "client.request('GET', '/api/v1/pods/p1')",
    "list(client.pods.list(page_size=20))",
    "list(client.pods.list(page_size=20).pages())",
    "list(client.pods.watch(['p0', 'p1'], interval=0.1))",
    "client.pods.wait(['p0', 'p1'], interval=0.1)",
    "client.pods.wait(['p0', 'p1'], interval=0.1, on_change=print)",
]


def test_interrupting_a_request(script: Start) -> None:
    """The server sees it given up; KeyboardInterrupt comes promptly and alone; nothing else has changed."""
    with serving(Api(pods=50, hold=held)) as api:
        source = "".join(f"input()\ninterrupted(lambda: {call})\n" for call in REQUESTS)
        running = script(PRELUDE + source, api.url)
        for call in REQUESTS:
            running.go_on()
            eventually(lambda: api.held, f"{call} is under way")
            running.interrupt()
            eventually(lambda: api.held == 0, f"{call} is given up", seconds=2)
        assert running.end().quiet().lines == ["interrupted"] * len(REQUESTS)


WAITS = [
    "client.pods.wait(['p0'], until=primepods.gone, interval=10)",
    "client.pods.wait_gone('p0', interval=10, on_change=lambda _: None)",
    "list(client.pods.watch(['p0'], interval=10))",
]


def test_interrupting_a_wait_between_two_looks(script: Start, api: Api) -> None:
    """There is no request to give up then, but a poller: it ends, and looks no more."""
    # The other clients of the same settings would share the poller: a wait has settings of its own.
    source = "".join(f"interrupted(lambda: {call})\n" for call in WAITS)
    running = script(PRELUDE + source, api.url)
    looks = 0
    for call in WAITS:
        looks += 1
        eventually(lambda: api.count(STATUS) == looks, f"the first look of {call}")  # noqa: B023
        threading.Event().wait(0.2)
        running.interrupt()
        looks += 1
    assert running.end().quiet().lines == ["interrupted"] * len(WAITS)
    assert api.count(STATUS) == looks


def test_interrupting_a_loop_over_a_pager_in_with(script: Start) -> None:
    """The block closes the pager, and what comes out is the interruption."""
    with serving(Api(pods=50, hold=held)) as api:
        source = """
def work():
    with client.pods.list(page_size=20) as pager:
        for n, pod in enumerate(pager):
            pass

interrupted(work)
with client.pods.list(page_size=50) as pager:
    print(next(iter(pager)).id)
"""
        running = script(PRELUDE + source, api.url)
        eventually(lambda: api.held, "the second page is under way", seconds=20)
        running.interrupt()
        assert running.end().quiet().lines == ["interrupted", "p0"]
        assert api.held == 0


def test_interrupting_on_change(script: Start, api: Api) -> None:
    """The callback runs in the main thread, so it is what is interrupted; the wait ends with it."""
    source = """
def told(change):
    print("told", flush=True)
    time.sleep(60)

interrupted(lambda: client.pods.wait(["p0"], on_change=told))
"""
    running = script(PRELUDE + source, api.url)
    eventually(lambda: api.count(STATUS), "the wait has begun", seconds=20)
    threading.Event().wait(0.5)
    running.interrupt()
    assert running.end().quiet().lines == ["told", "interrupted"]


def test_interrupting_close(script: Start, api: Api) -> None:
    """Closing a client whose loop is busy may be given up; the client is closed all the same."""
    source = """
busy = threading.Event()

def until(status):
    busy.set()
    time.sleep(2)
    return True

def wait():
    try:
        client.pods.wait(["p0"], until=until)
    except primepods.ClientClosedError:
        print("closed")

thread = threading.Thread(target=wait)
thread.start()
busy.wait()
threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
began = time.monotonic()
try:
    client.close()
except KeyboardInterrupt:
    print("interrupted", time.monotonic() - began < 1.5)
try:
    client.pods.get("p0")
except primepods.ClientClosedError:
    print("closed")
thread.join()
"""
    lines = script(PRELUDE + source, api.url).end().quiet().lines
    assert lines[:2] == ["interrupted True", "closed"]
    assert len(lines) <= 3


def test_interrupting_the_first_call(script: Start) -> None:
    """Also while the loop's thread starts: at whatever moment, the next call works."""
    with serving(Api(hold=held)) as api:
        source = """
            import signal, threading, primepods

            start, starts = threading.Thread.start, []

            def interrupted(self):
                start(self)
                starts.append(self)
                if len(starts) == 1:
                    signal.raise_signal(signal.SIGINT)

            threading.Thread.start = interrupted
            client = primepods.Client()
            try:
                client.pods.get("p1")
            except KeyboardInterrupt:
                print("interrupted")
            print(client.pods.get("p0").id, len(starts))
            starts[0].join(5)
            print([thread.name for thread in threading.enumerate()])
        """
        lines = script(source, api.url).end().quiet().lines
        assert lines == ["interrupted", "p0 2", "['MainThread', 'primepods']"]
        assert api.count(HELD) == 0


def test_an_interrupted_script_ends_like_any_other(script: Start) -> None:
    """Uncaught, it is one traceback and the exit status of SIGINT; nothing of ours is said about it."""
    with serving(Api(hold=held)) as api:
        running = script("import primepods\nprimepods.Client().pods.get('p1')\n", api.url)
        eventually(lambda: api.held, "the request is under way", seconds=20)
        running.interrupt()
        ended = running.end()
        assert ended.code in {-2, 130}
        assert ended.err.count("Traceback") == 1
        assert ended.err.endswith("KeyboardInterrupt\n")
        assert "Warning" not in ended.err


def test_a_signal_handlers_exception_ends_the_call_too(script: Start) -> None:
    """Time limits by SIGALRM, as test runners and task queues set them."""
    with serving(Api(hold=held)) as api:
        source = """
            import signal, primepods

            def alarm(number, frame):
                raise TimeoutError("too slow")

            signal.signal(signal.SIGALRM, alarm)
            client = primepods.Client()
            signal.setitimer(signal.ITIMER_REAL, 1)
            try:
                client.pods.get("p1")
            except TimeoutError as error:
                print(error, client.pods.get("p0").id)
        """
        assert script(source, api.url).end().quiet().lines == ["too slow p0"]
        assert api.held == 0


def test_a_signal_handler_may_use_and_close_the_client(script: Start) -> None:
    """Calls and `close` inside of a call of the same thread: no deadlock."""
    with serving(Api(hold=held)) as api:
        source = """
            import signal, primepods

            def alarm(number, frame):
                print(client.pods.get("p0").id)
                client.close()

            signal.signal(signal.SIGALRM, alarm)
            client = primepods.Client()
            signal.setitimer(signal.ITIMER_REAL, 1)
            try:
                client.pods.get("p1")
            except primepods.ClientClosedError:
                print("closed")
        """
        assert script(source, api.url).end().quiet().lines == ["p0", "closed"]


def test_a_call_that_does_not_let_go_delays_the_interruption_by_a_second() -> None:
    """What cannot be cancelled, such as a function that blocks the loop, is left behind."""
    with serving(Api()) as api:
        client = client_of(api)
        stop = threading.Event()

        def told(change: primepods.PodChange) -> None:
            # The loop is kept busy by another wait's `until` while this one is given up.
            blocker.start()
            busy.wait(5)
            raise KeyboardInterrupt

        busy = threading.Event()

        def until(status: object) -> bool:
            busy.set()
            return stop.wait(10)

        blocker = threading.Thread(target=client.pods.wait, args=(["p1"],), kwargs={"until": until})
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            client.pods.wait(["p0"], on_change=told)
        assert 0.9 < time.monotonic() - began < 4
        stop.set()
        blocker.join(10)
        client.close()


@pytest.mark.parametrize("where", ["in the main thread", "in another"])
def test_a_main_thread_that_waits_looks_for_signals_by_itself(
    api: Api, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """A signal that comes as it falls asleep does not wake it; on Windows none does. Others sleep on."""
    looks: list[Any] = []

    class Counting(queue.SimpleQueue[Any]):
        def get(self, block: bool = True, timeout: float | None = None) -> Any:  # noqa: FBT001, FBT002
            looks.append(timeout)
            return super().get(block, timeout)

    monkeypatch.setattr(queue, "SimpleQueue", Counting)
    monkeypatch.setattr(_loop, "_SLICE", 0.02)
    with client_of(api) as client:
        if where == "in another":
            thread = threading.Thread(target=client.pods.wait, args=(["p0"],), kwargs={"interval": 2})
            thread.start()
            thread.join(10)
            assert looks == [None]
        else:
            client.pods.wait(["p0"], interval=2)
            assert set(looks) == {0.02}
            assert len(looks) > 4
        assert client.pods.get("p0").id == "p0"
