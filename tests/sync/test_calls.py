"""What a single thread sees: results, callbacks, errors and their tracebacks, iterations, warnings."""

import asyncio
import contextvars
import gc
import inspect
import socket
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import primepods.sync
from primepods import Client, PodChange, PodStatus
from primepods.emulator import Emulator, Status
from tests.support.client import KEY
from tests.support.server import Received
from tests.sync.harness import (
    STATUS,
    Api,
    client_of,
    eventually,
    interrupted,
    loop_threads,
    no_poller_is_left,
)

IDS = ["p0", "p1", "p2"]


def frames(caught: pytest.ExceptionInfo[BaseException]) -> set[str]:
    """The names of the files that a traceback leads through."""
    return {Path(frame.path).name for frame in caught.traceback}


SHORT = {"test_calls.py", "_delegate.py", "_portal.py", "_call.py"}
"""What a traceback leads through when nothing of the loop's thread is in it."""


def test_every_call_does_what_its_counterpart_does(emu: Emulator, emulated: Client) -> None:
    """One walk through the whole surface, against the emulator."""
    pods = emulated.pods
    ids = [pod.id for pod in pods.list()]
    assert len(ids) == len(set(ids)) == 250
    assert [page.total_count for page in pods.list(page_size=200).pages()] == [250, 250]
    assert [pod.id for pod in pods.page(offset=10, limit=5)] == ids[10:15]
    assert pods.get(ids[3]).id == ids[3]
    assert pods.status(ids[3]).is_ready
    statuses = pods.statuses([*ids, "mistyped"])
    assert (list(statuses), statuses.missing) == (ids, ("mistyped",))
    assert "log" in pods.logs(ids[3], tail=3) or pods.logs(ids[3], tail=None)
    assert list(pods.wait(ids[:3])) == ids[:3]
    assert pods.wait_ready(ids[0]).is_ready
    assert pods.delete(ids[0]) == "DELETING"
    assert pods.delete("mistyped", missing_ok=True) == "TERMINATED"
    assert set(pods.delete_many(ids[1:4])) == set(ids[1:4])
    for pod_id in ids[:4]:
        emu.delete_pod(pod_id)
    pods.wait_gone(ids[0], interval=0.05)
    history = list(pods.history(page_size=3, sort_by="createdAt", sort_order="asc"))
    assert {record.id for record in history} >= set(ids[:4])
    assert len(pods.history_page(limit=2)) == 2
    assert emulated.request("GET", "/api/v1/pods/", params={"limit": 1})["total_count"] == 246


def test_a_watch_yields_changes_until_all_are_gone(emu: Emulator, emulated: Client) -> None:
    """It is an ordinary iterator that ends by itself; when its time runs out, that is raised from it."""
    ids = list(emu.pods)[:2]
    seen: list[tuple[str, bool]] = []
    for change in emulated.pods.watch(ids, interval=0.05):
        seen.append((change.pod_id, change.after is None))
        if change.after is not None:
            emu.delete_pod(change.pod_id)
    assert sorted(seen) == sorted((pod_id, end) for pod_id in ids for end in (False, True))
    with pytest.raises(primepods.WaitTimeoutError):
        list(emulated.pods.watch(list(emu.pods)[:1], interval=0.05, timeout=0.2))


# Callbacks.


def test_on_change_runs_in_the_calling_thread(client: Client) -> None:
    """It may call the client, also with calls that have callbacks of their own."""
    seen: list[tuple[threading.Thread, str, bool]] = []

    def on_change(change: PodChange) -> None:
        ready = client.pods.wait_ready(change.pod_id, on_change=lambda _: None, interval=0.05).is_ready
        seen.append((threading.current_thread(), client.pods.get(change.pod_id).id, ready))

    client.pods.wait(["p0", "p1"], on_change=on_change, interval=0.05)
    client.pods.wait_ready("p2", on_change=on_change, interval=0.05)
    assert seen == [(threading.current_thread(), pod_id, True) for pod_id in IDS]


def test_an_error_in_on_change_ends_that_wait_alone(api: Api, client: Client) -> None:
    """It arrives as it was raised; that wait polls no more, and one in another thread goes on."""
    api.ready = False
    others: list[str] = []

    def on_change(change: PodChange) -> None:
        raise KeyError(change.pod_id)

    with pytest.raises(KeyError, match="p0"):
        client.pods.wait(["p0"], interval=0.05, on_change=on_change)
    assert no_poller_is_left()
    thread = threading.Thread(
        target=lambda: others.append(client.pods.wait_ready("p1", interval=0.05).pod_id)
    )
    thread.start()
    eventually(lambda: not no_poller_is_left(), "the other waits")
    with pytest.raises(KeyError, match="p0") as caught:
        client.pods.wait(["p0"], interval=0.05, on_change=on_change)
    assert caught.traceback[-1].name == "on_change"
    assert (frames(caught), caught.value.__context__) == (SHORT, None)
    api.ready = True
    thread.join(40)
    assert others == ["p1"]


def test_an_async_on_change_is_refused(client: Client) -> None:
    """There is no loop of the caller's to run it in; its coroutine is closed, not left to warn."""

    async def on_change(change: PodChange) -> None:
        """Never runs."""

    class Later:
        def __await__(self) -> Iterator[None]:
            yield

    for refused in (on_change, lambda _: Later()):
        with pytest.raises(TypeError, match="plain function"):
            client.pods.wait(["p0"], on_change=refused, interval=0.05)
    with pytest.raises(TypeError, match="on_change must be a function"):
        client.pods.wait(["p0"], on_change="print", interval=0.05)  # type: ignore[arg-type]  # wrong on purpose


def test_closing_in_on_change_ends_the_wait(api: Api) -> None:
    """The wait says so, unless the callback has an error of its own."""

    def close_and_fail(change: PodChange) -> None:
        client.close()
        raise KeyError

    client = client_of(api)
    with pytest.raises(KeyError):
        client.pods.wait(["p0"], on_change=close_and_fail, interval=0.05)
    client = client_of(api)
    with pytest.raises(primepods.ClientClosedError):
        client.pods.wait(["p0", "p1"], on_change=lambda _: client.close(), interval=0.05)


def test_until_cannot_call_its_own_client(api: Api, client: Client) -> None:
    """A clear error in place of a wait for itself; another client works, and the one kept waiting warns."""
    with pytest.raises(primepods.PrimePodsError, match="A callback in the client's own loop"):
        client.pods.wait(["p0"], until=lambda _: client.pods.get("p0") is not None, interval=0.05)
    with client_of(api) as other, pytest.warns(RuntimeWarning, match="AsyncClient"):
        assert client.pods.wait(["p0"], until=lambda _: other.pods.get("p0").id == "p0", interval=0.05)


@pytest.mark.parametrize("error", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_what_until_raises_is_raised_by_the_wait(client: Client, error: type[BaseException]) -> None:
    """With the frame that raised it; not even `sys.exit()` ends the loop."""

    def until(status: PodStatus | None) -> bool:
        raise error

    with pytest.raises(error) as caught:
        client.pods.wait(["p0"], until=until, interval=0.05)
    assert caught.traceback[-1].name == "until"
    assert client.pods.get("p0").id == "p0"


def test_lazy_ids_are_read_in_the_calling_thread(client: Client) -> None:
    """They may call the client, whether they know their length, as a database's query set, or not."""

    class Lazy:
        def __iter__(self) -> Iterator[str]:
            return (pod.id for pod in client.pods.list())

    class QuerySet(Lazy):
        def __len__(self) -> int:
            return sum(1 for _ in self)

    for ids in (lambda: (pod.id for pod in client.pods.list()), Lazy, QuerySet):
        assert list(client.pods.statuses(ids())) == IDS
        assert list(client.pods.wait(ids(), interval=0.05)) == IDS
        assert next(iter(client.pods.watch(ids(), interval=0.05))).pod_id == "p0"
        assert list(client.pods.delete_many(ids())) == IDS


def test_calls_run_in_the_callers_context(client: Client) -> None:
    """What traces or tags by context variables works across the thread."""
    tag = contextvars.ContextVar("tag", default="none")
    seen: list[str] = []

    def until(status: PodStatus | None) -> bool:
        seen.append(tag.get())
        return True

    tag.set("mine")
    client.pods.wait(["p0"], until=until, interval=0.05)
    contextvars.Context().run(lambda: client.pods.wait(["p0"], until=until, interval=0.05))
    assert seen == ["mine", "none"]


# Errors.


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.pods.get("nobody"),
        lambda c: c.pods.status("nobody"),
        lambda c: c.pods.delete("nobody"),
        lambda c: c.pods.wait_ready("nobody", interval=0.05, appear_grace=0),
    ],
)
def test_the_traceback_of_an_api_error_is_short(client: Client, call: Callable[[Client], object]) -> None:
    """It is the caller's line and the error: no frame of the loop's thread, no second exception."""
    with pytest.raises(primepods.NotFoundError) as caught:
        call(client)
    assert caught.value.__context__ is None
    assert caught.value.__cause__ is None
    assert frames(caught) <= SHORT | {"_iterators.py"}


def test_tracebacks_of_listings_and_broken_transports_are_short(emu: Emulator) -> None:
    """The same for what is raised while something is iterated, and for causes that are not ours."""
    with Client(emu.api_key, base_url=emu.url, retry=primepods.RetryPolicy(attempts=1)) as client:
        emu.faults.add(Status(500))
        with pytest.raises(primepods.ServerError) as caught:
            list(client.pods.list())
        emu.stop()
        with pytest.raises(primepods.TransportError) as broken:
            client.pods.get("p0")
    assert frames(caught) | frames(broken) <= SHORT | {"_iterators.py"}
    assert broken.value.__context__ is None
    assert broken.value.__cause__ is not None
    assert broken.value.__cause__.__traceback__ is None


def test_a_name_that_cannot_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the look-up of a host name ends in comes through."""

    def nobody(*args: object, **more: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    once = primepods.RetryPolicy(attempts=1)
    with (
        Client("key", base_url="https://nowhere.example.test", retry=once) as client,
        pytest.raises(primepods.TransportError, match="Name or service not known"),
    ):
        client.pods.get("p0")


@pytest.mark.slow
def test_errors_are_freed_without_the_garbage_collector(client: Client) -> None:
    """A raised error leaves no cycle behind: what its caller's frame held is freed when it is handled."""

    class Held:
        pass

    def call(kind: type[BaseException], pod_id: str) -> weakref.ref[Held]:
        held = Held()
        with suppress(kind):
            client.pods.get(pod_id)
        return weakref.ref(held)

    gc.collect()
    gc.disable()
    try:
        refs = [call(ValueError, ""), call(primepods.NotFoundError, "nobody"), call(primepods.APIError, "p0")]
        assert [ref() for ref in refs] == [None, None, None]
    finally:
        gc.enable()


@pytest.mark.slow
def test_the_loop_keeps_nothing_of_a_call_that_is_over(api: Api, client: Client) -> None:
    """Whether it had a result, an error, or was interrupted."""

    class Until:
        def __init__(self, *answers: str) -> None:
            self.answers = list(answers)

        def __call__(self, status: PodStatus | None) -> bool:
            return self.answers.pop() == "yes"

    def wait(*answers: str) -> weakref.ref[Until]:
        until = Until(*answers)
        with suppress(IndexError):
            client.pods.wait(["p0"], interval=0.05, until=until)
        return weakref.ref(until)

    def wait_and_interrupt() -> weakref.ref[Until]:
        until, asked = Until("no"), api.count(STATUS)
        interrupted(
            lambda: api.count(STATUS) > asked, lambda: client.pods.wait(["p0"], interval=5, until=until)
        )
        return weakref.ref(until)

    refs = [wait("yes"), wait(), wait_and_interrupt()]

    def are_dead() -> bool:
        gc.collect()
        return all(ref() is None for ref in refs)

    # The loop's thread may still be ending the last call.
    eventually(are_dead, "nothing of the calls is left")


# Iterations, and what a call costs.


def offset(request: Received) -> int:
    """Where a page begins; -1 for what is no page."""
    return int(next(iter(request.values("offset")), "-1"))


@pytest.mark.parametrize("how", ["close", "with", "break"])
def test_leaving_a_listing_early_frees_its_requests(how: str) -> None:
    """`close` and `with` have done so when they return, `break` soon; the client goes on."""
    with Api(pods=250, hold=lambda r: offset(r) > 20).in_thread() as api, client_of(api) as client:
        pager = client.pods.list(page_size=20)
        pages, items = pager.pages(), iter(pager)
        for _ in range(25):
            next(items)
        next(pages)
        next(pages)
        eventually(lambda: api.in_flight == 16, "both read ahead")
        if how == "close":
            pager.close()
        elif how == "with":
            with pager:
                pass
        else:
            for _ in items:
                break
            del items, pages
        eventually(lambda: api.in_flight == 0, "the requests are given up", seconds=20)
        asked = len(api.requests)
        assert client.pods.get("p0").id == "p0"
        assert len(api.requests) == asked + 1


def test_a_closed_listing_does_not_end_as_if_it_were_complete(client: Client) -> None:
    """As on the asynchronous side, also where items of the page are in hand; a new run is a new listing."""
    pager = client.pods.list()
    items = iter(pager)
    assert next(items).id == "p0"
    pager.close()
    for _ in range(2):
        with pytest.raises(primepods.ClientClosedError, match="closed before its end"):
            next(items)
    assert [pod.id for pod in pager] == IDS


def test_an_iteration_that_failed_raises_its_error_again(emu: Emulator) -> None:
    """It never ends normally afterwards, which would mean that it was complete."""
    with Client(emu.api_key, base_url=emu.url, retry=primepods.RetryPolicy(attempts=1)) as client:
        items, changes = (
            iter(client.pods.list(page_size=100)),
            iter(client.pods.watch(list(emu.pods), interval=0.05, timeout=0.2)),
        )
        for _ in range(100):
            next(items)
        with emu.faults.add(Status(500)):
            for _ in range(2):
                with pytest.raises(primepods.ServerError):
                    next(items)
        with emu.faults.add(Status(503)):
            for _ in range(2):
                with pytest.raises(primepods.WaitTimeoutError):
                    next(changes)


# Running loops.


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.pods.get("p0"),
        lambda client: list(client.pods.list()),
        lambda client: client.pods.wait(["p0"], on_change=print, interval=0.05),
        lambda client: client.with_options(timeout=3).pods.get("p0"),
    ],
)
def test_inside_a_running_loop_it_works_and_warns_once(
    client: Client, call: Callable[[Client], object]
) -> None:
    """The warning names the other client and points at the caller's line."""

    async def main() -> None:
        for _ in range(3):
            call(client)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert "AsyncClient" in str(warning.message)
    assert (warning.filename, warning.lineno) == (__file__, inspect.getsourcelines(call)[1])


def test_a_warning_that_is_an_error_leaves_the_client_usable(api: Api, client: Client) -> None:
    """With `-W error` the call is refused, before anything is sent."""

    async def main() -> None:
        client.pods.get("p0")

    with pytest.raises(RuntimeWarning, match="AsyncClient"):
        asyncio.run(main())
    assert not api.requests
    assert client.pods.get("p0").id == "p0"


def test_notebooks_are_not_warned(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """They have a running loop all the time, and their users mean it."""
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))

    async def cell() -> tuple[str, int]:
        return client.pods.get("p0").id, len(list(client.pods.list()))

    assert asyncio.run(cell()) == ("p0", 3)


# Clients.


def test_views_share_thread_and_connections_and_close_nothing(api: Api) -> None:
    """A view works on the client's, is of its class, and ends with it."""

    class Mine(Client):
        pass

    with Mine(KEY, base_url=api.url) as client:
        assert not loop_threads(), "there is no thread before the first call"
        client.pods.get("p0")
        with client.with_options(timeout=5, deadline=9, retry=primepods.RetryPolicy(attempts=1)) as view:
            assert type(view) is Mine
            assert view.pods.get("p1").id == "p1"
        view.close()
        assert client.pods.get("p0").id == "p0"
        assert len(list(view.pods.list())) == 3
        assert len(loop_threads()) == 1
        assert api.connections == 1
    for closed in (client, view):
        with pytest.raises(primepods.ClientClosedError):
            closed.pods.get("p0")


def test_texts_name_the_blocking_classes(api: Api) -> None:
    """They say whether a client is closed, also one that was never used."""
    client = Client("key", base_url="http://127.0.0.1:1/Async")
    assert repr(client) == "<Client http://127.0.0.1:1/Async>"
    assert repr(client.pods.list()) == "<Pager of /api/v1/pods/, page_size=100>"
    assert repr(client.pods.watch(["a"])) == "<Watch of 1 pods, interval=5>"
    client.close()
    assert repr(client) == "<Client http://127.0.0.1:1/Async closed>"
    with client_of(api) as used:
        used.pods.get("p0")
    assert repr(used) == repr(used.with_options(timeout=1)) == f"<Client {api.url} closed>"


def test_the_cleanup_of_an_interrupted_call_does_not_wait_for_the_callback() -> None:
    """It is not called any more; what awaits it goes on, and the interruption comes alone."""
    called: list[str] = []
    ended: list[str] = []

    async def work(on_change: Callable[[str], Any]) -> None:
        try:
            await on_change("first")
            await asyncio.sleep(60)
        finally:
            await on_change("cleanup")
            ended.append("cleanup")

    def on_change(text: str) -> None:
        called.append(text)
        raise KeyError(text)

    with Client("key", base_url="http://127.0.0.1:1") as client, pytest.raises(KeyError, match="first"):
        client._portal.call(work, on_change=primepods.sync.in_calling_thread(on_change))
    assert (called, ended) == (["first"], ["cleanup"])
