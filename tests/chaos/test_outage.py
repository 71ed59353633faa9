"""An API that is down for a minute, and hundreds who wait, and hundreds who ask: no storm, and no end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

import primepods
from tests.support.client import make_client
from tests.support.clock import ManualClock
from tests.support.server import Answer, Close, Received, Reply, Reset, Server, reply

pytestmark = pytest.mark.anyio

MANY = 300
OUTAGE = 60.0
PAUSE = 20.0
"""Seconds between two calls of one who asks in a loop."""
INTERVAL = 5.0
"""Seconds between two looks of those who wait."""
BUDGET = 80 + 60
"""Retries that a client has for what is no deletion in a minute: those in hand, and one a second."""
STATUS = "/api/v1/pods/status"

POD = {"gpuName": "H100", "gpuCount": 1, "priceHr": 1.0, "providerType": "x", "status": "ACTIVE"}
ROW = {"providerType": "x", "status": "ACTIVE", "installationStatus": "PENDING"}
READY = {**ROW, "installationStatus": "FINISHED", "ip": "1.2.3.4", "sshConnection": "root@1.2.3.4"}

DOWN: dict[str, Callable[[], Answer]] = {
    "503": lambda: Reply(503, b'{"detail": "down"}'),
    "reset": Reset,
    "closed": Close,
}


class Api:
    """Pods that are being installed, until they are ready; down from and to given times."""

    def __init__(self, clock: ManualClock, down: Callable[[], Answer], begins: float = 1.0) -> None:
        self.ready = False
        self.begins = begins
        self.ends = begins + OUTAGE
        self.asked: Counter[str] = Counter()
        """Requests during the outage, by what they ask for."""
        self._clock = clock
        self._down = down

    @property
    def is_down(self) -> bool:
        """Whether nothing is answered now."""
        return self.begins <= self._clock.elapsed < self.ends

    def answer(self, request: Received) -> Answer:
        """Answer, or fail."""
        is_status = request.path == STATUS
        if self.is_down:
            self.asked["status" if is_status else "get"] += 1
            return self._down()
        if is_status:
            row = READY if self.ready else ROW
            return reply({"data": [{"podId": one, **row} for one in request.values("pod_ids")]})
        return reply({"id": request.path.rpartition("/")[2], **POD})


class Asker:
    """One who calls ``get`` again and again, with a pause between two calls."""

    def __init__(self, api: Api, clock: ManualClock, pod_id: str) -> None:
        self.calls = 0
        self.unretried = 0
        """Calls that ended without a retry, because most requests fail."""
        self.recovered = 0
        self._api = api
        self._clock = clock
        self._pod_id = pod_id

    async def ask(self, client: primepods.AsyncClient) -> None:
        """Ask until an answer has come after the outage."""
        while not self.recovered:
            was_down = self._api.is_down
            self.calls += was_down
            try:
                await client.pods.get(self._pod_id)
            except primepods.PrimePodsError as error:
                self.unretried += any("retry budget" in note for note in getattr(error, "__notes__", ()))
            else:
                self.recovered += self._clock.elapsed >= self._api.ends
            await self._clock.sleep(PAUSE)


@pytest.mark.slow
@pytest.mark.parametrize("kind", DOWN)
async def test_an_outage_is_no_storm(kind: str) -> None:
    """The sum of requests in an outage of a minute is that of the calls and the ticks, and one budget more.

    Hundreds wait, hundreds ask every twenty seconds. Without the budget each of those calls would send
    five requests. When the API is back everybody goes on, without having been told.
    """
    clock = ManualClock(auto=True)
    api = Api(clock, DOWN[kind])
    ids = [f"pod{n:04}" for n in range(MANY)]
    async with Server(api.answer) as server, make_client(server.url, clock=clock) as client:
        askers = [Asker(api, clock, pod_id) for pod_id in ids]
        waits = [asyncio.create_task(client.pods.wait_ready(one, interval=INTERVAL)) for one in ids]
        loops = [asyncio.create_task(asker.ask(client)) for asker in askers]
        await asyncio.gather(*loops)
        api.ready = True
        rows = await asyncio.gather(*waits)
    calls = sum(asker.calls for asker in askers)
    assert calls <= MANY * (OUTAGE / PAUSE + 1)
    # One budget is the client's, the other that of the poller, whose retries are aiohttp's own.
    assert calls <= api.asked["get"] <= calls + BUDGET
    assert api.asked["status"] <= (OUTAGE / INTERVAL + 2) * (MANY / 100 + 3) + BUDGET
    assert api.asked.total() <= 4 * MANY + 520
    assert sum(asker.unretried for asker in askers) >= calls - BUDGET - MANY
    assert all(asker.recovered for asker in askers)
    assert all(row.is_ready for row in rows)
    assert clock.elapsed < api.ends + 3 * PAUSE
