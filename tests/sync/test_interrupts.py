"""Ctrl-C, the real signal: prompt, the call is given up, the client goes on, and so do iterations."""

import asyncio
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest

import primepods
from primepods import Client, PodChange
from tests.support.server import Received
from tests.sync.conftest import Start
from tests.sync.harness import (
    PODS,
    STATUS,
    Api,
    InterruptedQueue,
    client_of,
    eventually,
    interrupted,
    no_poller_is_left,
)

HELD = f"{PODS}p1"


def held(request: Received) -> bool:
    """One pod, statuses of more than one, and every page but the first."""
    pages = request.path == PODS and "offset=0" not in request.target
    return request.path == HELD or pages or len(request.values("pod_ids")) > 1


@pytest.mark.parametrize(
    "call",
    [
        lambda pods: pods.get("p1"),
        lambda pods: pods.statuses(["p0", "p1"]),
        lambda pods: pods.delete_many(["p1"]),
        lambda pods: pods.wait(["p0", "p1"], interval=0.1),
        lambda pods: pods.wait(["p0", "p1"], interval=0.1, on_change=print),
    ],
)
def test_interrupting_a_request(api: Api, client: Client, call: Callable[[primepods.Pods], object]) -> None:
    """The server sees it given up; KeyboardInterrupt comes promptly and alone; nothing else has changed."""
    api.hold = held
    interrupted(lambda: api.in_flight, partial(call, client.pods))
    assert no_poller_is_left()
    eventually(lambda: api.in_flight == 0, "it is given up", seconds=20)
    assert client.pods.get("p0").id == "p0"


@pytest.mark.parametrize(
    "call",
    [
        lambda pods: pods.wait(["p0"], until=primepods.gone, interval=10),
        lambda pods: pods.wait_gone("p0", interval=10, on_change=lambda _: None),
    ],
)
def test_interrupting_a_wait_between_two_looks(
    api: Api, client: Client, call: Callable[[primepods.Pods], object]
) -> None:
    """There is no request to give up then, but a poller: it has ended when the interruption arrives."""
    interrupted(lambda: api.count(STATUS) and not api.in_flight, partial(call, client.pods))
    assert no_poller_is_left()
    assert client.pods.get("p0").id == "p0"


def test_interrupting_on_change(api: Api, client: Client) -> None:
    """It runs in the main thread, so it is what is interrupted; the wait ends with it."""
    called = threading.Event()

    def on_change(change: PodChange) -> None:
        called.set()
        time.sleep(10)

    interrupted(called.is_set, lambda: client.pods.wait(["p0"], on_change=on_change))
    assert no_poller_is_left()


def test_an_interrupted_listing_goes_on_where_it_was(api: Api, client: Client) -> None:
    """No item is lost, and none comes twice; left there, it frees its requests."""
    api.ids, api.hold = [f"p{n}" for n in range(50)], held
    pager = client.pods.list(page_size=20)
    items, pages = iter(pager), pager.pages()
    seen = [next(items).id for _ in range(21)]
    next(pages)
    interrupted(lambda: api.in_flight, partial(next, items))
    interrupted(lambda: api.in_flight, partial(next, pages))
    api.release()
    assert seen + [pod.id for pod in items] == api.ids
    del pages
    eventually(lambda: api.in_flight == 0, "no request is left")


def test_an_interrupted_watch_goes_on_where_it_was(api: Api, client: Client) -> None:
    """It does not end, which would mean that all pods are gone; forgotten, it leaves no poller."""
    api.ready = False
    changes = iter(client.pods.watch(["p0"], interval=0.1))
    assert next(changes).before is None
    for _ in range(2):
        interrupted(lambda: api.count(STATUS), partial(next, changes))
    api.ready = True
    assert next(changes).before is not None
    interrupted(lambda: api.count(STATUS), partial(next, changes))
    del changes
    eventually(no_poller_is_left, "nothing polls", seconds=20)


def test_interrupting_a_loop_over_a_pager_in_with(api: Api, client: Client) -> None:
    """The block closes the pager, and what comes out is the interruption."""
    api.ids, api.hold = [f"p{n}" for n in range(50)], held

    def work() -> None:
        with client.pods.list(page_size=20) as pager:
            for _ in pager:
                pass

    interrupted(lambda: api.in_flight, work)
    eventually(lambda: api.in_flight == 0, "no request is left")
    assert client.pods.get("p0").id == "p0"


def test_an_interrupt_that_comes_too_late_loses_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that has just ended: a note says what was done; an iteration has it for the next time."""
    items = iter(client.pods.list())
    with monkeypatch.context() as patch:
        patch.setattr(queue, "SimpleQueue", InterruptedQueue)
        with pytest.raises(KeyboardInterrupt):
            next(items)
        with pytest.raises(KeyboardInterrupt) as caught:
            client.pods.get("p0")
    (note,) = caught.value.__notes__
    assert "had succeeded" in note
    assert "p0" in note
    assert [pod.id for pod in items] == ["p0", "p1", "p2"]


def test_an_interrupt_that_comes_before_the_loop_has_been_asked(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to clean up, and so nothing to wait for."""
    assert client.pods.get("p0").id == "p0"
    monkeypatch.setattr("primepods.sync._call._CANCEL_TIMEOUT", 40.0)
    began, call_soon = time.monotonic(), asyncio.BaseEventLoop.call_soon_threadsafe

    def interrupting(*args: Any, **kwargs: Any) -> asyncio.Handle:
        monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", call_soon)
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio.BaseEventLoop, "call_soon_threadsafe", interrupting)
    with pytest.raises(KeyboardInterrupt):
        client.pods.get("p0")
    assert time.monotonic() - began < 20
    assert client.pods.get("p0").id == "p0"


def test_an_interrupt_that_comes_before_the_loop_can_begin(
    api: Api, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is sent, and the interruption arrives when the loop is free."""
    monkeypatch.setattr("primepods.sync._call._CANCEL_TIMEOUT", 40.0)
    busy, free = threading.Event(), threading.Event()

    def until(status: object) -> bool:
        busy.set()
        return free.wait(40)

    main = threading.get_ident()

    def frames() -> list[str]:
        return [frame.name for frame in traceback.extract_stack(sys._current_frames()[main])]

    def go_on() -> None:
        # What the call does is looked at, because nothing that it does while the loop is busy shows outside.
        eventually(lambda: frames()[-2:] == ["_cancel_in", "_next_request"], "the interruption")
        free.set()

    blocker = threading.Thread(target=client.pods.wait, args=(["p0"],), kwargs={"until": until})
    blocker.start()
    busy.wait(40)
    began = time.monotonic()
    freer = threading.Thread(target=go_on)
    freer.start()
    interrupted(busy.is_set, lambda: client.pods.get("p1"))
    freer.join()
    assert time.monotonic() - began < 20
    assert api.count(HELD) == 0
    blocker.join(40)


def test_interrupting_close(api: Api) -> None:
    """Closing a client whose loop is busy may be given up; the client is closed all the same."""
    busy, free = threading.Event(), threading.Event()

    def until(status: object) -> bool:
        busy.set()
        return free.wait(40)

    def wait() -> None:
        with suppress(primepods.ClientClosedError):
            client.pods.wait(["p0"], until=until)

    client = client_of(api)
    thread = threading.Thread(target=wait)
    thread.start()
    busy.wait(40)
    interrupted(lambda: " closed" in repr(client), client.close)
    with pytest.raises(primepods.ClientClosedError):
        client.pods.get("p0")
    free.set()
    thread.join(40)


def test_interrupting_the_first_call(client: Client, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while the loop's thread starts: the next call works, in another thread, and the first one ends."""
    start, started = threading.Thread.start, list[threading.Thread]()

    def interrupting(self: threading.Thread) -> None:
        start(self)
        started.append(self)
        if len(started) == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", interrupting)
        with pytest.raises(KeyboardInterrupt):
            client.pods.get("p1")
    assert client.pods.get("p0").id == "p0"
    started[0].join(40)
    assert not started[0].is_alive()
    assert api.count(HELD) == 0


def test_an_interrupted_script_ends_like_any_other(start: Start, api: Api) -> None:
    """Uncaught, it is one traceback and the exit status of SIGINT; nothing of ours is said about it."""
    api.hold = held
    running = start("import primepods\nprimepods.Client().pods.get('p1')\n")
    eventually(lambda: api.in_flight, "the request is under way")
    running.interrupt()
    ended = running.end()
    assert ended.code in {-2, 130}
    assert ended.err.count("Traceback") == 1
    assert ended.err.endswith("KeyboardInterrupt\n")
    assert "Warning" not in ended.err


def test_what_a_signal_handler_does_in_a_call(start: Start, api: Api) -> None:
    """Its exception ends the call, as time limits by SIGALRM do; it may use and close the client itself."""
    api.hold = held
    running = start("""
        import signal, primepods

        def late(number, frame):
            raise TimeoutError("too slow")

        def close(number, frame):
            print(client.pods.get("p0").id)
            client.close()

        client = primepods.Client()
        for handler in (late, close):
            signal.signal(signal.SIGINT, handler)
            try:
                client.pods.get("p1")
            except (TimeoutError, primepods.ClientClosedError) as error:
                print(error)
    """)
    eventually(lambda: api.count(HELD) == 1, "the first call")
    running.interrupt()
    eventually(lambda: api.count(HELD) == 2, "the second call")
    running.interrupt()
    closed = "This client is closed. Make a new client, or close it later."
    assert running.end().lines() == ["too slow", "p0", closed]
    eventually(lambda: api.in_flight == 0, "no request is left")


def test_a_call_that_cannot_be_cancelled_is_left_after_a_second(api: Api, client: Client) -> None:
    """Such as one whose loop is kept busy by a function of the user's."""
    busy, free = threading.Event(), threading.Event()

    def until(status: object) -> bool:
        busy.set()
        return free.wait(40)

    def on_change(change: PodChange) -> None:
        blocker.start()
        busy.wait(40)
        raise KeyboardInterrupt

    blocker = threading.Thread(target=client.pods.wait, args=(["p1"],), kwargs={"until": until})
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        client.pods.wait(["p0"], on_change=on_change)
    assert 0.9 < time.monotonic() - began < 20
    free.set()
    blocker.join(40)


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="signals come as they do on Windows anyway")
def test_a_signal_that_does_not_wake_the_main_thread_is_handled(api: Api, client: Client) -> None:
    """One that another thread takes, or that comes just as the main thread falls asleep; it comes alone."""
    api.hold = held

    def take() -> None:
        eventually(lambda: api.in_flight, "the call")
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)

    thread = threading.Thread(target=take)
    thread.start()
    with pytest.raises(KeyboardInterrupt) as caught:
        client.pods.get("p1")
    thread.join()
    assert caught.value.__context__ is None
