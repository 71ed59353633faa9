"""What an answer costs, so that benchmarks on the emulator measure the client."""

import asyncio
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from urllib.parse import urlsplit

import pytest

from primepods.emulator import Emulator

from .caller import PODS, STATUS

pytestmark = pytest.mark.slow

PODS_THERE = 10_000
BATCH = 20
BATCHES = 10


class Server:
    """An emulator in a thread of its own that knows how much processor time it has had."""

    def __init__(self) -> None:
        self.emulator = Emulator(pods=PODS_THERE, boot_seconds=600.0)
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._started: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._serve()))
        self._thread.start()
        self._started.result()

    async def _serve(self) -> None:
        async with self.emulator:
            self._started.set_result(None)
            await self._stop.wait()

    def used(self) -> float:
        """Seconds of processor time."""

        async def measure() -> float:
            return time.thread_time()

        return asyncio.run_coroutine_threadsafe(measure(), self._loop).result()

    def close(self) -> None:
        """Stop it."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Ten thousand pods."""
    server = Server()
    yield server
    server.close()


def milliseconds(server: Server, target: Callable[[int], str]) -> float:
    """Processor time of the server for one request, in the best of several batches."""
    where = urlsplit(server.emulator.url)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=40)
    headers = {"Authorization": f"Bearer {server.emulator.api_key}"}
    batches: list[float] = []
    for batch in range(BATCHES):
        before = server.used()
        for number in range(batch * BATCH, (batch + 1) * BATCH):
            connection.request("GET", target(number), headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200
            answer.read()
        batches.append((server.used() - before) / BATCH * 1000)
    connection.close()
    return min(batches)


def test_a_page_of_a_hundred_costs_less_than_three_milliseconds(server: Server) -> None:
    """Each page is asked for the first time, or has changed since."""
    assert milliseconds(server, lambda number: f"{PODS}?limit=100&offset={number % 100 * 100}") < 3


def test_a_status_of_a_hundred_costs_less_than_two_milliseconds(server: Server) -> None:
    """Each id is asked about for the first time, or has changed since."""
    ids = list(server.emulator.pods)

    def target(number: int) -> str:
        first = number % 100 * 100
        return f"{STATUS}?" + "&".join(f"pod_ids={pod_id}" for pod_id in ids[first : first + 100])

    assert milliseconds(server, target) < 2
