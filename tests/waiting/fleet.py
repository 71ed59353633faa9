"""An API whose pods are what the test says, and a stage to wait for them on."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import aiohttp
import attrs
import pytest

import primepods
from tests.support.client import KEY, make_client
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Held, Received, Server, reply

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)

STATUS = "/api/v1/pods/status"
POD = "/api/v1/pods/"
HISTORY = "/api/v1/pods/history"

Row = dict[str, Any]

_ADDRESS: Row = {"ip": "1.2.3.4", "sshConnection": "root@1.2.3.4 -p 22"}
_NO_ADDRESS: Row = {"ip": None, "sshConnection": None}
_INSTALLED: Row = {"status": "ACTIVE", "installationStatus": "FINISHED", "installationProgress": 100}

STATES: dict[str, Row] = {
    "provisioning": {"status": "PROVISIONING", "installationStatus": "PENDING", **_NO_ADDRESS},
    "installing": {
        "status": "ACTIVE",
        "installationStatus": "ACTIVE",
        "installationProgress": 40,
        **_ADDRESS,
    },
    "ready": {**_INSTALLED, **_ADDRESS},
    "bare": {**_INSTALLED, **_NO_ADDRESS},
    "hiccup": {
        "status": "ACTIVE",
        "installationStatus": "ERROR",
        "installationFailure": "apt is locked",
        **_ADDRESS,
    },
    "error": {
        "status": "ERROR",
        "installationStatus": "ERROR",
        "installationFailure": "no image",
        **_NO_ADDRESS,
    },
    "stopped": {**_INSTALLED, "status": "STOPPED", "ip": [None], "sshConnection": [None]},
    "deleting": {**_INSTALLED, "status": "DELETING", **_NO_ADDRESS},
    "terminated": {**_INSTALLED, "status": "TERMINATED", **_NO_ADDRESS},
}
"""What the wire says of a pod, by a name for it."""


def row(pod_id: str, state: str, **fields: Any) -> Row:
    """A status row, as the page shows it."""
    return {
        "podId": pod_id,
        "providerType": "runpod",
        "costPerHr": 1.25,
        "installationFailure": None,
        "installationProgress": None,
        "primePortMapping": [],
        **STATES[state],
        **fields,
    }


def record(pod_id: str, **fields: Any) -> Row:
    """A row of the history."""
    return {
        "id": pod_id,
        "type": "Instance",
        "gpuName": "H100_80GB",
        "gpuCount": 1,
        "priceHr": 1.25,
        "totalBilledPrice": 2.5,
        "providerType": "runpod",
        "createdAt": "2026-01-01T00:00:00Z",
        "terminatedAt": "2026-01-01T02:00:00Z",
        **fields,
    }


@attrs.frozen
class Asked:
    """One request that came in."""

    time: float
    """Seconds on the test's clock since the beginning."""
    ids: tuple[str, ...]
    received: Received

    @property
    def is_status(self) -> bool:
        """Whether it asks for status rows."""
        return self.received.path.endswith(STATUS)

    @property
    def is_history(self) -> bool:
        """Whether it asks for what has ended."""
        return self.received.path.endswith(HISTORY)


class Fleet:
    """The pods of a test, answered for over the wire.

    A pod's state is a name of `STATES`. ``None`` instead: the API does not have it.
    """

    def __init__(self, clock: ManualClock) -> None:
        self.states: dict[str, str | None] = {}
        """What status rows and `get` are made of."""
        self.fields: dict[str, Row] = {}
        """Laid over a pod's status row."""
        self.got: dict[str, Row | None] = {}
        """What `get` has instead: wire fields laid over the pod, or ``None`` for a 404."""
        self.unlisted: set[str] = set()
        """Pods that status has no row for, though `get` has them."""
        self.ended: list[str] = []
        """Pods that are in the history, as terminated."""
        self.asked: list[Asked] = []
        self.faults: list[Callable[[Asked], Answer | None]] = []
        """Asked in their order for another answer than the true one."""
        self.refused: dict[str, int] = {}
        """Ids for which a request is refused, with the HTTP status."""
        self._clock = clock

    def set(self, state: str | None, *pod_ids: str) -> None:
        """Let pods be in a state."""
        for pod_id in pod_ids:
            self.states[pod_id] = state

    def add(self, count: int, state: str | None = "provisioning", prefix: str = "pod") -> list[str]:
        """Bear some pods; returns their ids."""
        ids = [f"{prefix}{n:05}" for n in range(count)]
        self.set(state, *ids)
        return ids

    @property
    def status_requests(self) -> list[Asked]:
        """Those for status rows."""
        return [asked for asked in self.asked if asked.is_status]

    @property
    def lookups(self) -> list[Asked]:
        """Those for single pods."""
        return [asked for asked in self.asked if not (asked.is_status or asked.is_history)]

    @property
    def times(self) -> list[float]:
        """When status rows were asked for."""
        return [round(asked.time, 6) for asked in self.status_requests]

    @property
    def sizes(self) -> list[int]:
        """For how many pods at a time."""
        return [len(asked.ids) for asked in self.status_requests]

    def next_status(
        self, answer: Answer | Callable[[Asked], Answer], times: int = 1, *, on: str = STATUS
    ) -> None:
        """Let the next requests be answered with ``answer``: those for status, or those ``on=POD``."""
        left = [times]

        def fault(asked: Asked) -> Answer | None:
            if not left[0] or asked.is_status != (on == STATUS):
                return None
            left[0] -= 1
            return answer(asked) if callable(answer) else answer

        self.faults.append(fault)

    def hold(self, on: str = STATUS) -> asyncio.Event:
        """Let the next request see the pods as they are when it comes, and answer once the event is set."""
        event = asyncio.Event()
        self.next_status(lambda asked: Held(event, self.truth(asked)), on=on)
        return event

    def answer(self, received: Received) -> Answer:
        """Answer a request."""
        ids = tuple(received.values("pod_ids")) or (unquote(received.path.rpartition("/")[2]),)
        asked = Asked(self._clock.elapsed, ids, received)
        self.asked.append(asked)
        for fault in self.faults:
            answer = fault(asked)
            if answer is not None:
                return answer
        return self.truth(asked)

    def truth(self, asked: Asked) -> Answer:
        """Answer as things are."""
        if asked.is_history:
            return reply({"total_count": len(self.ended), "data": [record(pod_id) for pod_id in self.ended]})
        status = next((self.refused[pod_id] for pod_id in asked.ids if pod_id in self.refused), None)
        if status is not None:
            return reply({"errors": [{"param": "pod_ids", "details": "is no id"}]}, status)
        if asked.is_status:
            rows = [self._row(pod_id) for pod_id in asked.ids if pod_id not in self.unlisted]
            return reply({"data": [row for row in rows if row is not None]})
        pod = self._pod(asked.ids[0])
        return reply({"detail": "Pod not found"}, 404) if pod is None else reply(pod)

    def _row(self, pod_id: str) -> Row | None:
        state = self.states.get(pod_id)
        return None if state is None else row(pod_id, state, **self.fields.get(pod_id, {}))

    def _pod(self, pod_id: str) -> Row | None:
        state = self.states.get(pod_id)
        more = self.got.get(pod_id, {})
        if more is None or state is None:
            return None
        wire = row(pod_id, state)
        return {
            **{key: value for key, value in wire.items() if key not in {"podId", "costPerHr"}},
            "id": pod_id,
            "gpuName": "H100_80GB",
            "gpuCount": 1,
            "priceHr": 1.25,
            **more,
        }


def anything(status: primepods.PodStatus | None) -> bool:
    """Any state at all."""
    return status is not None


async def next_of(changes: AsyncIterator[primepods.PodChange]) -> primepods.PodChange:
    """The next change, for a task of its own."""
    return await anext(changes)


def result(task: asyncio.Task[T]) -> T:
    """What a task has brought. Not awaited: on a clock that stands still that could be for ever."""
    assert task.done(), f"it goes on: {task}"
    return task.result()


def raised(task: asyncio.Task[Any], kind: type[E]) -> E:
    """The exception that a task has ended with: one of exactly ``kind``."""
    assert task.done(), f"it goes on: {task}"
    with pytest.raises(kind) as caught:
        task.result()
    assert type(caught.value) is kind, f"{type(caught.value)} is not {kind}"
    return caught.value


class Stage:
    """A clock, an API, its server, and everything that a test starts on them."""

    def __init__(self, clock: ManualClock, fleet: Fleet, server: Server) -> None:
        self.clock = clock
        self.fleet = fleet
        self.server = server
        self.clients: list[primepods.AsyncClient] = []
        self.tasks: list[asyncio.Task[Any]] = []

    def client(
        self,
        *,
        path: str = "",
        api_key: str = KEY,
        session: aiohttp.ClientSession | None = None,
        **options: Any,
    ) -> primepods.AsyncClient:
        """A new client of the API, under ``path`` of its server; closed at the end."""
        client = make_client(
            self.server.url + path, clock=self.clock, session=session, api_key=api_key, **options
        )
        self.clients.append(client)
        return client

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin something; cancelled at the end, if it has not ended by then."""
        task = asyncio.create_task(work)
        self.tasks.append(task)
        return task

    def _has_open_clients(self) -> bool:
        return any(not client._poller.closed for client in self.clients)

    async def advance(self, seconds: float) -> None:
        """Let time pass."""
        await self.clock.advance(seconds)

    def cancel_the_poller(self, *, spare: str = " ") -> None:
        """Cancel every task of the package that no test has begun, but those of this name."""
        package = str(Path(primepods.__file__).parent)
        for task in asyncio.all_tasks() - set(self.tasks):
            coroutine: Any = task.get_coro()
            if coroutine.cr_code.co_filename.startswith(package) and spare not in coroutine.__qualname__:
                task.cancel()

    async def check_nothing_left(self, known: Iterable[asyncio.Task[Any]] = ()) -> None:
        """Fail if anything is left of waiting: a task, a timer, a request to come, a connection in use.

        Clients that are open may keep idle connections.
        """
        await settle()
        left = [task for task in asyncio.all_tasks() - set(known) if not _is_scenery(task)]
        assert left == [], f"tasks are left: {left}"
        connections = self.server.in_flight if self._has_open_clients() else self.server.open
        assert connections == 0, f"{connections} connections are left"
        assert self.clock.timers == 0, f"{self.clock.timers} timers are left"
        before = len(self.fleet.asked)
        await self.advance(1_000)
        assert len(self.fleet.asked) == before, "somebody still asks"


def _is_scenery(task: asyncio.Task[Any]) -> bool:
    """Whether a task is the test's own, its server's or its runner's."""
    names = ("Server._serve", "TestRunner")
    return task is asyncio.current_task() or any(name in repr(task.get_coro()) for name in names)


@asynccontextmanager
async def stage(clock: ManualClock | None = None) -> AsyncIterator[Stage]:
    """Set up, and check that nothing is left when the test has ended everything it began."""
    known = asyncio.all_tasks()
    clock = ManualClock() if clock is None else clock
    fleet = Fleet(clock)
    async with Server(fleet.answer) as server:
        made = Stage(clock, fleet, server)
        try:
            yield made
        except BaseException:
            await _end(made)
            raise
        await _end(made)
        await made.check_nothing_left(known)


async def _end(made: Stage) -> None:
    for task in made.tasks:
        task.cancel()
    await asyncio.gather(*made.tasks, return_exceptions=True)
    for client in made.clients:
        await client.aclose()


def body(rows: Iterable[Row]) -> bytes:
    """The body of a status answer."""
    return json.dumps({"data": list(rows)}).encode()
