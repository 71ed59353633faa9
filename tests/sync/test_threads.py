"""Many threads share a client, and many clients a process."""

import random
import threading
import time
from functools import partial
from typing import Any

import pytest

import primepods
from primepods import Client, PodChange
from primepods.emulator import Emulator
from tests.sync.harness import Api, client_of, eventually, in_threads, loop_threads, no_poller_is_left


@pytest.mark.parametrize(("options", "count"), [({}, 16), ({"max_concurrency": 4}, 4)])
def test_sixteen_threads_are_sixteen_requests_in_flight(
    api: Api, options: dict[str, Any], count: int
) -> None:
    """By the server's count; with a lower `max_concurrency`, that is the bound for all threads together."""
    api.hold = lambda _: api.most_in_flight < count
    with client_of(api, **options) as client:
        pods = in_threads(*[partial(client.pods.get, "p0")] * 16)
    assert all(isinstance(pod, primepods.Pod) for pod in pods)
    assert api.most_in_flight == count


def test_threads_that_start_a_client_together_start_one_loop(api: Api) -> None:
    """The first call may come from everywhere at once."""
    for _ in range(10):
        with client_of(api) as client:
            in_threads(*[partial(client.pods.get, "p0")] * 8)
            assert len(loop_threads()) == 1


def test_each_threads_callbacks_run_in_it(client: Client) -> None:
    """Sixteen waits at once, each with its own `on_change`."""

    def work() -> set[threading.Thread]:
        seen: set[threading.Thread] = set()

        def on_change(change: PodChange) -> None:
            assert client.pods.get(change.pod_id).id == change.pod_id
            seen.add(threading.current_thread())

        client.pods.wait(["p0", "p1"], interval=0.1, on_change=on_change)
        assert seen == {threading.current_thread()}
        return seen

    assert len(set[object]().union(*(in_threads(*[work] * 16)))) == 16  # type: ignore[arg-type] # sets, or it fails


def test_one_pager_in_many_threads_is_many_listings(emulated: Client) -> None:
    """Each iteration is one of its own; they do not take items from each other."""
    pager = emulated.pods.list(page_size=50)
    assert in_threads(*[lambda: sum(1 for _ in pager)] * 6) == [250] * 6


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
    assert list(client.pods.wait(some, interval=0.05)) == some
    with pytest.raises(primepods.NotFoundError):
        client.pods.get("nobody")


def test_everything_at_once(emu: Emulator, emulated: Client) -> None:
    """A second of random calls from eight threads: every one ends as it should, and no poller is left."""
    ids, ends_at = list(emu.pods), time.monotonic() + 1

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while time.monotonic() < ends_at:
            rng.choice([a_listing_left_early, a_watch_left_early, small_calls])(emulated, rng, ids)

    assert in_threads(*[partial(work, seed) for seed in range(8)]) == [None] * 8
    eventually(no_poller_is_left, "no poller is left")
