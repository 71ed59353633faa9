"""Many threads share a client, and many clients a process."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import pytest

import primepods
from primepods import Client, PodChange
from primepods.emulator import Delay, Emulator
from primepods.waiting import _hub as polling
from tests.sync.harness import STATUS, Api, client_of, eventually, serving


def together(count: int, work: Callable[[int], object]) -> list[object]:
    """What `work` returns in so many threads that begin at the same time."""
    barrier = threading.Barrier(count)
    returned: dict[int, object] = {}

    def run(n: int) -> None:
        barrier.wait()
        returned[n] = work(n)

    # Daemons: one that hangs fails its test, and does not hang the rest.
    threads = [threading.Thread(target=run, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(returned) == list(range(count)), "some hang, or have failed"
    return [returned[n] for n in range(count)]


def test_sixteen_threads_are_sixteen_requests_in_flight(emu: Emulator) -> None:
    """By the server's count of requests in flight; all take about as long as one."""
    emu.faults.add(Delay(0.3), on="get")
    ids = list(emu.pods)
    with Client(emu.api_key, base_url=emu.url) as client:
        client.pods.page()
        began = time.monotonic()
        assert together(16, lambda n: client.pods.get(ids[n]).id) == ids[:16]
        took = time.monotonic() - began
    gets = [request for request in emu.requests if ids[0][:0] + "/status" not in request.path][1:]
    assert max(request.concurrency for request in gets) == 16
    assert took < 16 * 0.3 / 2


def test_the_bound_on_requests_holds_for_all_threads(emu: Emulator) -> None:
    """`max_concurrency` is the client's, whatever the number of threads."""
    emu.faults.add(Delay(0.02), on="get")
    ids = list(emu.pods)
    with Client(emu.api_key, base_url=emu.url, max_concurrency=4) as client:
        together(16, lambda n: [client.pods.get(ids[n]) for _ in range(3)])
    assert max(request.concurrency for request in emu.requests) == 4


def test_threads_that_start_a_client_together_start_one_loop(api: Api) -> None:
    """The first call may come from everywhere at once."""
    for _ in range(10):
        before = threading.active_count()
        with client_of(api) as client:
            together(8, lambda n: client.pods.get("p0").id)
            assert threading.active_count() == before + 1


def test_two_clients_have_two_loops(api: Api) -> None:
    """One that is busy or closed is no concern of the other."""
    busy, free = threading.Event(), threading.Event()

    def until(status: object) -> bool:
        busy.set()
        return free.wait(10)

    with client_of(api) as one, client_of(api) as other:
        thread = threading.Thread(target=one.pods.wait, args=(["p0"],), kwargs={"until": until})
        thread.start()
        assert busy.wait(10)
        assert other.pods.get("p0").id == "p0"
        free.set()
        thread.join(10)
        one.close()
        assert other.pods.get("p0").id == "p0"


def test_waits_of_many_threads_share_one_poller() -> None:
    """Thirty threads that wait for a pod each cost the requests of one."""
    with serving(Api(pods=30, ready=False)) as api, client_of(api) as client:
        threads = [
            threading.Thread(target=client.pods.wait_ready, args=(pod_id,), kwargs={"interval": 0.3})
            for pod_id in api.ids
        ]
        for thread in threads:
            thread.start()
        eventually(lambda: api.count(STATUS) >= 4, "some ticks pass")
        assert len(polling._hubs) == 1
        api.ready = True
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert api.count(STATUS) < 20
    assert not polling._hubs


def test_each_threads_callbacks_run_in_it(api: Api) -> None:
    """Sixteen waits at once, each with its own `on_change`."""
    seen: dict[int, set[int]] = {}

    def work(n: int) -> None:
        def told(change: PodChange) -> None:
            assert client.pods.get(change.pod_id).id == change.pod_id
            seen.setdefault(n, set()).add(threading.get_ident())

        client.pods.wait(["p0", "p1"], interval=0.1, on_change=told)
        assert seen[n] == {threading.get_ident()}

    with client_of(api) as client:
        together(16, work)
    assert len(seen) == 16


def test_one_pager_in_many_threads_is_many_listings(emu: Emulator) -> None:
    """Each iteration is one of its own; they do not take items from each other."""
    with Client(emu.api_key, base_url=emu.url) as client:
        pager = client.pods.list(page_size=50)
        counts = together(6, lambda n: sum(1 for _ in pager))
    assert counts == [250] * 6


def test_errors_of_threads_are_their_own(api: Api) -> None:
    """Calls that share a request do not share the exception that it ends in."""
    errors: list[BaseException] = []

    def work(n: int) -> None:
        try:
            client.pods.status("nobody")
        except primepods.NotFoundError as error:
            errors.append(error)

    with client_of(api) as client:
        together(12, work)
    assert len({id(error) for error in errors}) == 12
    for error in errors:
        trace = error.__traceback__
        assert trace is not None
        assert trace.tb_frame.f_code.co_name == "work"


def a_listing_left_early(client: Client, rng: random.Random, ids: list[str]) -> None:
    """Anywhere in it."""
    until = rng.randrange(1, 250)
    with client.pods.list(page_size=20) as pager:
        for count, _ in enumerate(pager):
            if count == until:
                break


def a_watch_left_early(client: Client, rng: random.Random, ids: list[str]) -> None:
    """After its first change."""
    for change in client.pods.watch(rng.sample(ids, 3), interval=0.05):
        assert change.after is not None
        break


def small_calls(client: Client, rng: random.Random, ids: list[str]) -> None:
    """What is asked, and no other's answer."""
    some = rng.sample(ids, 20)
    assert client.pods.get(some[0]).id == some[0]
    assert client.pods.status(some[1]).pod_id == some[1]
    assert list(client.pods.statuses(some)) == some
    with pytest.raises(primepods.NotFoundError):
        client.pods.get("nobody")


def a_wait(client: Client, rng: random.Random, ids: list[str]) -> None:
    """For what is there already."""
    some = rng.sample(ids, 20)
    assert list(client.pods.wait(some, interval=0.05)) == some


def test_a_stress_of_everything_at_once(emu: Emulator) -> None:
    """Two seconds of random calls from eight threads: every one ends as it should, and leaves nothing."""
    ids = list(emu.pods)
    ends_at = time.monotonic() + 2
    jobs = [a_listing_left_early, a_watch_left_early, small_calls, a_wait]

    def work(n: int) -> int:
        rng, calls = random.Random(n), 0
        while time.monotonic() < ends_at:
            rng.choice(jobs)(client, rng, ids)
            calls += 1
        return calls

    with Client(emu.api_key, base_url=emu.url) as client:
        assert all(together(8, work))
        loop = client._portal._loop
        assert loop is not None
        eventually(lambda: not loop.calls and not loop.unclosed, "nothing is left in the loop")
        eventually(lambda: not polling._hubs, "no poller is left")
