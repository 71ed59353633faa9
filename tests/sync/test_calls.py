"""What a single thread sees: results, callbacks, errors and their tracebacks, warnings, hops."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import sys
import threading
import traceback
import types
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

import primepods
from primepods import Client, PodChange, PodStatus, _loop
from primepods.emulator import Emulator, Status
from tests.support.server import Received
from tests.sync.harness import Api, Script, client_of, eventually, serving


@pytest.fixture
def client(api: Api) -> Iterator[Client]:
    """A blocking client of the three pods."""
    with client_of(api) as made:
        yield made


OURS = {"test_calls.py", "sync.py", "_portal.py", "_loop.py"}
"""Files that a traceback leads through when nothing of the loop's thread is in it."""


def files(caught: pytest.ExceptionInfo[BaseException]) -> set[str]:
    """The names of the files that a traceback leads through."""
    return {Path(frame.path).name for frame in caught.traceback}


def test_every_call_does_what_its_counterpart_does(emu: Emulator) -> None:
    """One walk through the whole surface, against the emulator."""
    with Client(emu.api_key, base_url=emu.url) as client:
        ids = [pod.id for pod in client.pods.list()]
        assert len(ids) == len(set(ids)) == 250
        assert [page.total_count for page in client.pods.list(page_size=200).pages()] == [250, 250]
        page = client.pods.page(offset=10, limit=5)
        assert [pod.id for pod in page] == ids[10:15]
        assert client.pods.get(ids[3]).id == ids[3]
        assert client.pods.status(ids[3]).is_ready
        statuses = client.pods.statuses([*ids, "mistyped"])
        assert list(statuses) == ids
        assert statuses.missing == ("mistyped",)
        assert "log" in client.pods.logs(ids[3], tail=3) or client.pods.logs(ids[3], tail=None)
        assert list(client.pods.wait(ids[:3])) == ids[:3]
        assert client.pods.wait_ready(ids[0]).is_ready
        assert client.pods.delete(ids[0]) == "DELETING"
        assert client.pods.delete("mistyped", missing_ok=True) == "TERMINATED"
        assert set(client.pods.delete_many(ids[1:4])) == set(ids[1:4])
        for pod_id in ids[:4]:
            emu.delete_pod(pod_id)
        client.pods.wait_gone(ids[0], interval=0.05)
        history = list(client.pods.history(page_size=3, sort_by="createdAt", sort_order="asc"))
        assert {record.id for record in history} >= set(ids[:4])
        assert len(client.pods.history_page(limit=2)) == 2
        assert client.request("GET", "/api/v1/pods/", params={"limit": 1})["total_count"] == 246


def test_watch_yields_changes_until_all_are_gone(emu: Emulator) -> None:
    """The blocking watch is an ordinary iterator that ends by itself."""
    with Client(emu.api_key, base_url=emu.url) as client:
        ids = list(emu.pods)[:2]
        seen: list[tuple[str, bool]] = []
        for change in client.pods.watch(ids, interval=0.05):
            seen.append((change.pod_id, change.after is None))
            if change.after is not None:
                emu.delete_pod(change.pod_id)
        assert sorted(seen) == sorted((pod_id, end) for pod_id in ids for end in (False, True))


def test_watch_times_out(api: Api, client: Client) -> None:
    """The error comes out of the iteration."""
    with pytest.raises(primepods.WaitTimeoutError):
        list(client.pods.watch(["p0"], interval=0.05, timeout=0.2))


# Callbacks.


def test_on_change_runs_in_the_calling_thread_and_may_call_the_client(client: Client) -> None:
    """Also with calls that block: the loop is not waiting in a way that would stop them."""
    seen: list[tuple[str, str, bool]] = []

    def told(change: PodChange) -> None:
        name = client.pods.get(change.pod_id).name
        ready = client.pods.wait_ready(change.pod_id, on_change=lambda _: None).is_ready
        seen.append((threading.current_thread().name, str(name), ready))

    client.pods.wait(["p0", "p1"], on_change=told)
    here = threading.current_thread().name
    assert seen == [(here, "p0", True), (here, "p1", True)]


@pytest.mark.parametrize("method", ["wait", "wait_ready", "wait_gone"])
def test_every_wait_passes_changes_on(api: Api, client: Client, method: str) -> None:
    """All three take `on_change`, and call it here."""
    seen: list[threading.Thread] = []

    def told(change: PodChange) -> None:
        seen.append(threading.current_thread())
        api.ids.clear()

    wait: Callable[..., object] = getattr(client.pods, method)
    wait(["p0"] if method == "wait" else "p0", interval=0.05, on_change=told)
    assert set(seen) == {threading.current_thread()}


def test_an_exception_in_on_change_ends_that_wait_and_no_other(api: Api) -> None:
    """It arrives as it was raised, with the frames that raised it; a wait in another thread goes on."""
    api.ready = False
    others: list[object] = []
    client = client_of(api)

    def other() -> None:
        others.append(client.pods.wait_ready("p1", interval=0.05).pod_id)

    def told(change: PodChange) -> None:
        raise KeyError(change.pod_id)

    with client:
        thread = threading.Thread(target=other)
        thread.start()
        with pytest.raises(KeyError, match="p0") as caught:
            client.pods.wait(["p0"], interval=0.05, on_change=told)
        assert [frame.name for frame in caught.traceback][-1] == "told"
        assert caught.value.__context__ is None
        assert files(caught) == OURS
        api.ready = True
        thread.join(10)
    assert others == ["p1"]


def test_an_exception_in_on_change_leaves_no_poller_behind(api: Api, client: Client) -> None:
    """When it arrives, the wait it ended has left the shared poller, which is gone with its last user."""
    api.ready = False

    def told(change: PodChange) -> None:
        raise ValueError

    from primepods.waiting import _hub as polling

    with pytest.raises(ValueError, match=r"^$"):
        client.pods.wait(["p0"], interval=0.05, on_change=told)
    assert not polling._hubs


def test_an_async_on_change_is_refused(client: Client) -> None:
    """There is no loop of the caller's to run it in; its coroutine is closed, not left to warn."""

    async def told(change: PodChange) -> None:
        """Never runs."""

    class Later:
        def __await__(self) -> Iterator[None]:
            yield

    with pytest.raises(TypeError, match="plain function"):
        client.pods.wait(["p0"], on_change=told)
    with pytest.raises(TypeError, match="plain function"):
        client.pods.wait(["p0"], on_change=lambda _: Later())
    gc.collect()
    with pytest.raises(TypeError, match="on_change must be a function"):
        client.pods.wait(["p0"], on_change="print")  # type: ignore[arg-type]


def test_until_runs_in_the_loop_and_cannot_call_the_client(client: Client) -> None:
    """A clear error in place of a wait for itself; closing from there is possible, and ends the call."""

    def until(status: PodStatus | None) -> bool:
        return client.pods.get("p0") is not None

    with pytest.raises(primepods.PrimePodsError, match="inside the client's own loop"):
        client.pods.wait(["p0"], until=until)
    assert client.pods.get("p0").id == "p0"

    def close(status: PodStatus | None) -> bool:
        client.close()
        return False

    with pytest.raises(primepods.ClientClosedError):
        client.pods.wait(["p0"], until=close)


def test_until_may_call_another_client(api: Api, client: Client) -> None:
    """Each has a loop of its own; the one that is kept waiting is warned of."""
    with client_of(api) as other, pytest.warns(RuntimeWarning, match="AsyncClient"):
        assert client.pods.wait(["p0"], until=lambda _: other.pods.get("p0").id == "p0")


def test_an_exception_in_until_shows_where(client: Client) -> None:
    """The frames that matter are the user's own."""

    def until(status: PodStatus | None) -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        client.pods.wait(["p0"], until=until)
    assert [frame.name for frame in caught.traceback][-1] == "until"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_until_cannot_end_the_loop(client: Client, error: type[BaseException]) -> None:
    """`sys.exit()` in it ends the calling thread, as it would anywhere; the client goes on."""

    def until(status: PodStatus | None) -> bool:
        raise error

    with pytest.raises(error):
        client.pods.wait(["p0"], until=until)
    assert client.pods.get("p0").id == "p0"


def test_closing_in_on_change_ends_the_wait(api: Api, client: Client) -> None:
    """The wait says that it was closed; nothing hangs."""
    with pytest.raises(primepods.ClientClosedError):
        client.pods.wait(["p0", "p1"], on_change=lambda _: client.close())


def test_an_error_in_on_change_after_closing_is_the_error(api: Api, client: Client) -> None:
    """There is nothing left to cancel then."""

    def told(change: PodChange) -> None:
        client.close()
        raise KeyError(change.pod_id)

    with pytest.raises(KeyError, match="p0"):
        client.pods.wait(["p0"], on_change=told)


def test_a_wait_that_times_out_during_on_change_says_so(api: Api, client: Client) -> None:
    """The callback is not interrupted; the time has run out nevertheless."""
    api.ready = False
    with pytest.raises(primepods.WaitTimeoutError):
        client.pods.wait(["p0"], interval=0.05, timeout=0.2, on_change=lambda _: threading.Event().wait(0.4))


def test_ids_may_come_from_a_generator_that_calls_the_client(client: Client) -> None:
    """Lazy iterables are run through in the calling thread."""

    class Lazy:
        def __iter__(self) -> Iterator[str]:
            return (pod.id for pod in client.pods.list())

    for ids in (lambda: (pod.id for pod in client.pods.list()), Lazy, lambda: map(str, Lazy())):
        assert list(client.pods.statuses(ids())) == ["p0", "p1", "p2"]
        assert list(client.pods.wait(ids())) == ["p0", "p1", "p2"]
        assert next(iter(client.pods.watch(ids()))).pod_id == "p0"
        assert list(client.pods.delete_many(ids())) == ["p0", "p1", "p2"]


def test_calls_run_in_the_callers_context(client: Client) -> None:
    """What traces or tags by context variables works across the thread."""
    tag = contextvars.ContextVar("tag", default="none")
    seen: list[str] = []

    def until(status: PodStatus | None) -> bool:
        seen.append(tag.get())
        return True

    tag.set("mine")
    client.pods.wait(["p0"], until=until)
    contextvars.Context().run(lambda: client.pods.wait(["p0"], until=until))
    assert seen == ["mine", "none"]


# Errors.


def errors() -> list[Any]:
    """Calls that fail, each with the error that it ends in."""
    return [
        pytest.param(lambda c: c.pods.get("nobody"), primepods.NotFoundError, id="get"),
        pytest.param(lambda c: c.pods.status("nobody"), primepods.NotFoundError, id="status"),
        pytest.param(lambda c: c.pods.delete("nobody"), primepods.NotFoundError, id="delete"),
        pytest.param(lambda c: c.pods.get(""), ValueError, id="an argument's value"),
        pytest.param(lambda c: c.pods.get(17), TypeError, id="an argument's type"),
        pytest.param(lambda c: c.pods.statuses("p0"), TypeError, id="one id for many"),
        pytest.param(lambda c: c.pods.statuses(None), TypeError, id="none for many"),
        pytest.param(lambda c: c.pods.wait(["p0"], until=None), TypeError, id="a check of the call's own"),
        pytest.param(lambda c: c.pods.page(limit=0), ValueError, id="page"),
        pytest.param(lambda c: c.pods.history_page(sort_by="age"), ValueError, id="history_page"),
        pytest.param(lambda c: c.request("BREW", "/"), ValueError, id="request"),
        pytest.param(
            lambda c: c.pods.wait_ready("nobody", interval=0.05, appear_grace=0),
            primepods.NotFoundError,
            id="wait_ready",
        ),
        pytest.param(
            lambda c: c.pods.wait_ready("p0", interval=0.05, timeout=0.1, until=None), TypeError, id="unknown"
        ),
    ]


@pytest.mark.parametrize(("call", "kind"), errors())
def test_a_traceback_is_the_callers_line_and_the_error(
    client: Client, call: Callable[[Client], object], kind: type[Exception]
) -> None:
    """No frame of the loop's thread, no second exception."""
    with pytest.raises(kind) as caught:
        call(client)
    error = caught.value
    assert error.__context__ is None
    assert error.__cause__ is None
    assert files(caught) <= OURS
    text = "".join(traceback.format_exception(error))
    assert "During handling" not in text
    assert "direct cause" not in text


def test_a_traceback_in_a_listing_ends_at_the_callers_loop(emu: Emulator) -> None:
    """The same for what is raised while something is iterated, and for causes that are not ours."""
    with Client(emu.api_key, base_url=emu.url, retry=primepods.RetryPolicy(attempts=1)) as client:
        emu.faults.add(Status(500))
        with pytest.raises(primepods.ServerError) as caught:
            list(client.pods.list())
        assert files(caught) <= OURS
        emu.stop()
        with pytest.raises(primepods.TransportError) as broken:
            client.pods.get("p0")
        assert files(broken) <= OURS
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


def test_a_defect_keeps_its_frames(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is neither about arguments nor the API's is shown whole, or nobody could mend it."""

    def broken(*args: object, **more: object) -> None:
        raise TypeError("a defect")

    monkeypatch.setattr("primepods.resources.pods.decode_pod", broken)
    with pytest.raises(TypeError, match="a defect") as caught:
        client.pods.get("p0")
    assert [frame.name for frame in caught.traceback][-1] == "broken"


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


def test_the_loop_keeps_nothing_of_a_call_that_is_over(client: Client) -> None:
    """Neither of one that has a result nor of one that has failed."""
    client.pods.get("p0")
    with pytest.raises(primepods.NotFoundError):
        client.pods.get("nobody")
    list(client.pods.list())
    loop = client._portal._loop
    assert loop is not None
    eventually(lambda: not loop.calls and not loop.unclosed, "nothing is left in the loop")


# Hops.


@contextmanager
def hops(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """What is started in loops by other threads in the block."""
    started: list[object] = []
    submit = _loop.Loop.submit

    def counted(self: Any, call: Any) -> None:
        started.append(call)
        submit(self, call)

    with monkeypatch.context() as patch:
        patch.setattr(_loop.Loop, "submit", counted)
        yield started


def test_bulk_calls_cost_one_hop(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not one a pod, nor one a request."""
    with Client(emu.api_key, base_url=emu.url) as client:
        ids = list(emu.pods)
        for call in (
            lambda: client.pods.statuses(ids),
            lambda: client.pods.wait(ids),
            lambda: client.pods.delete_many(ids),
        ):
            before = len(emu.requests)
            with hops(monkeypatch) as made:
                assert len(call()) == 250
            assert len(made) == 1
            assert len(emu.requests) - before > 1


def test_a_listing_costs_a_hop_a_page(emu: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """And one to learn that there are no more."""
    with Client(emu.api_key, base_url=emu.url) as client:
        pages = len(list(client.pods.list().pages()))
        with hops(monkeypatch) as made:
            assert sum(1 for _ in client.pods.list()) == 250
        assert len(made) == pages + 1


def test_a_listing_is_lazy_and_reads_ahead(emu: Emulator) -> None:
    """Nothing before the first item is wanted; no second page before one of it is; then all at once."""
    with Client(emu.api_key, base_url=emu.url) as client:
        pager = client.pods.list(page_size=20)
        assert len(emu.requests) == 0
        items = iter(pager)
        assert len(emu.requests) == 0
        next(items)
        assert len(emu.requests) == 1
        for _ in range(19 + 5):
            next(items)
        eventually(lambda: len(emu.requests) > 5, "the pages after the second are asked for")


def offset(request: Received) -> int:
    """Where a page begins; -1 for what is no page."""
    return int(next(iter(request.values("offset")), "-1"))


@pytest.mark.parametrize("how", ["close", "with", "break", "generator"])
def test_leaving_a_listing_early_frees_its_requests(how: str) -> None:
    """`close` and `with` have done so when they return, `break` soon; the client goes on."""
    with serving(Api(pods=250, hold=lambda request: offset(request) > 20)) as api, client_of(api) as client:
        pager = client.pods.list(page_size=20)
        pages = pager.pages()
        items = iter(pager)
        for _ in range(25):
            next(items)
        next(pages)
        next(pages)
        eventually(lambda: api.held == 16, "both read ahead")
        if how == "close":
            pager.close()
        elif how == "with":
            with pager:
                pass
        elif how == "break":
            for _ in items:
                break
            del items, pages
        else:
            items.close()  # type: ignore[attr-defined]
            pages.close()  # type: ignore[attr-defined]
        eventually(lambda: api.held == 0, "the requests are given up", seconds=3)
        asked = len(api.requests)
        assert client.pods.get("p0").id == "p0"
        assert len(api.requests) == asked + 1


def test_closing_a_pager_ends_what_is_in_hand(client: Client) -> None:
    """As on the asynchronous side, also for items of the page that was read; a new run is a new listing."""
    pager = client.pods.list()
    items = iter(pager)
    assert next(items).id == "p0"
    pager.close()
    assert list(items) == []
    assert [pod.id for pod in pager] == ["p0", "p1", "p2"]


# Running loops.


def test_inside_a_running_loop_it_works_and_warns_once(api: Api, client: Client) -> None:
    """The warning names the other client and points at the caller's line."""

    async def main() -> None:
        for _ in range(3):
            client.pods.get("p0")
            list(client.pods.list())

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    (warning,) = caught
    assert warning.category is RuntimeWarning
    assert "AsyncClient" in str(warning.message)
    line = Path(__file__).read_text().splitlines()[warning.lineno - 1]
    assert (warning.filename, line.strip()) == (__file__, 'client.pods.get("p0")')


@pytest.mark.parametrize(
    "call",
    [
        lambda client: list(client.pods.list()),
        lambda client: list(client.pods.list().pages()),
        lambda client: client.pods.wait(["p0"], on_change=print),
        lambda client: next(iter(client.pods.watch(["p0"]))),
        lambda client: client.request("GET", "/api/v1/pods/p0"),
        lambda client: client.with_options(timeout=3).pods.get("p0"),
    ],
)
def test_the_warning_points_at_the_callers_line(client: Client, call: Callable[[Client], object]) -> None:
    """However deep the call is wrapped."""

    async def main() -> None:
        call(client)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
    (warning,) = caught
    assert warning.filename == __file__
    assert "lambda client" in Path(__file__).read_text().splitlines()[warning.lineno - 1]


def test_a_warning_that_is_an_error_leaves_the_client_usable(api: Api, client: Client) -> None:
    """With `-W error` the call is refused, before anything is sent."""

    async def main(call: Callable[[], object]) -> None:
        with pytest.raises(RuntimeWarning, match="AsyncClient"):
            call()

    asyncio.run(main(lambda: client.pods.get("p0")))
    assert client.pods.get("p0").id == "p0"
    with client_of(api) as other:
        asyncio.run(main(lambda: list(other.pods.list())))
        assert len(list(other.pods.list())) == 3
    assert len(api.requests) == 2


def test_ipykernel_is_not_warned(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notebooks have a running loop all the time, and their users mean it."""
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))

    async def main() -> str:
        return client.pods.get("p0").id

    assert asyncio.run(main()) == "p0"


def test_a_notebook_is_quiet(script: Callable[..., Script], api: Api) -> None:
    """The same where every warning is an error, in a process of its own."""
    source = """
        import asyncio, sys, types
        sys.modules["ipykernel"] = types.ModuleType("ipykernel")
        import primepods

        async def cell():
            client = primepods.Client()
            print(client.pods.get("p0").id, len(list(client.pods.list())))

        asyncio.run(cell())
    """
    assert script(source, api.url).end().quiet().lines == ["p0 3"]


# Objects.


def test_views_share_the_loop_and_close_nothing(api: Api) -> None:
    """A view works on the client's thread and connections, and ends with it."""
    with client_of(api) as client:
        client.pods.get("p0")
        before = threading.active_count()
        with client.with_options(timeout=5, deadline=9, retry=primepods.RetryPolicy(attempts=1)) as view:
            assert type(view) is Client
            assert view.pods.get("p1").id == "p1"
        view.close()
        assert client.pods.get("p0").id == "p0"
        assert view.pods.get("p2").id == "p2"
        assert threading.active_count() == before
        assert api.server.connections == 1
    for closed in (client, view):
        with pytest.raises(primepods.ClientClosedError):
            closed.pods.get("p0")


def test_a_subclass_makes_views_of_its_own_kind(api: Api) -> None:
    """`with_options` returns what it was called on."""

    class Mine(Client):
        pass

    with Mine("key", base_url=api.url) as client:
        assert type(client.with_options(timeout=1)) is Mine


def test_texts(api: Api) -> None:
    """What is printed in a console names the blocking classes and says whether they are closed."""
    client = primepods.Client("key", base_url="http://127.0.0.1:1/Async")
    assert repr(client) == "<Client http://127.0.0.1:1/Async>"
    assert repr(client.pods.list()) == "<Pager of /api/v1/pods/, page_size=100>"
    assert repr(client.pods.watch(["a"])) == "<Watch of 1 pods, interval=5>"
    client.close()
    assert repr(client) == "<Client http://127.0.0.1:1/Async closed>"
    with client_of(api) as used:
        used.pods.get("p0")
    assert repr(used) == f"<Client {api.url} closed>"
    assert repr(used.with_options(timeout=1)) == f"<Client {api.url} closed>"


def test_a_client_is_not_pickled(client: Client) -> None:
    """It holds a key, a thread and connections; the error says what to do."""
    import copy
    import pickle

    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="Build one where it is used"):
            copied(client)


def test_using_a_server_of_many_pods_needs_no_second_thread() -> None:
    """One loop thread a client, started at the first call and not before."""
    with serving(Api(pods=500)) as api, client_of(api) as client:
        before = threading.active_count()
        pager = client.pods.list()
        assert threading.active_count() == before
        assert len(list(pager)) == 500
        assert len(client.pods.statuses(api.ids)) == 500
        assert threading.active_count() == before + 1
