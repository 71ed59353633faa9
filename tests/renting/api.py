"""An API that takes orders, and answers them and makes pods as a test says."""

import itertools
import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import attrs

from primepods import PodSpec
from tests.support.clock import ManualClock
from tests.support.server import Answer, Received, Reply, Server, reply

PODS = "/api/v1/pods/"
_numbers = itertools.count()

Row = dict[str, Any]


def unique_name() -> str:
    """A name that no other test has used."""
    return f"test-pod-{next(_numbers)}"


def spec(**fields: Any) -> PodSpec:
    """An order like any other."""
    values: dict[str, Any] = {
        "cloud_id": "n3-H100x1",
        "gpu_type": "H100_80GB",
        "socket": "PCIe",
        "gpu_count": 1,
        "provider": "hyperstack",
    }
    return PodSpec(**(values | fields))


def pod_row(name: str | None, created: float | None, pod_id: str | None = "made") -> Row:
    """What the API says of a pod; ``created`` in seconds since the epoch."""
    return {
        "id": pod_id,
        "name": name,
        "gpuName": "H100_80GB",
        "gpuCount": 1,
        "priceHr": 1.9,
        "providerType": "hyperstack",
        "status": "PROVISIONING",
        "createdAt": None if created is None else datetime.fromtimestamp(created, UTC).isoformat(),
    }


class Api:
    """Orders in, pods out.

    Args:
        clock: What pods appear and are made by.
        order: Answers an order, given the row of its pod; by default with the row.
        makes: Whether an order makes a pod.
        appears: Seconds until it is listed.
        listing: Answers the list, given what is listed; by default with that.
        changes: What the server makes of the row of a pod that was ordered.
        skew: By how many seconds the server's clock is ahead.
    """

    def __init__(
        self,
        clock: ManualClock,
        *,
        order: Callable[[Row], Answer] = reply,
        makes: bool = True,
        appears: float = 0.0,
        listing: Callable[[list[Row]], Answer] | None = None,
        changes: Callable[[Row], Row] = dict,
        skew: float = 0.0,
    ) -> None:
        self.rows: list[tuple[float, Row]] = []
        """Pods, each with the time from which it is listed."""
        self.orders: list[Any] = []
        """The bodies of all orders."""
        self._clock = clock
        self._order = order
        self.makes = makes
        self._appears = appears
        self._listing = listing or _page
        self._changes = changes
        self._skew = skew
        self.server = Server(self._answer)

    def add(self, row: Row) -> None:
        """Have a pod from the beginning."""
        self.rows.append((0.0, row))

    @property
    def requests(self) -> str:
        """All requests as letters: P(OST), L(ist), G(et)."""
        return "".join(_letter(request) for request in self.server.requests)

    def _answer(self, request: Received) -> Answer:
        answer = self._reply(request)
        if isinstance(answer, Reply):
            date = format_datetime(datetime.fromtimestamp(self.now, UTC), usegmt=True)
            answer = attrs.evolve(answer, headers={"Date": date, **answer.headers})
        return answer

    @property
    def now(self) -> float:
        """The server's time."""
        return self._clock.wall() + self._skew

    def _reply(self, request: Received) -> Answer:
        listed = [row for since, row in self.rows if since <= self._clock.elapsed]
        if request.path != PODS:
            rows = [row for row in listed if request.path == f"{PODS}{row['id']}"]
            return reply(rows[0]) if rows else reply({"detail": "Not found"}, 404)
        if request.method == "GET":
            return self._listing(listed)
        body = json.loads(request.body)
        row = self._changes(pod_row(body["pod"]["name"], self.now, f"made-{len(self.orders)}"))
        self.orders.append(body)
        if self.makes:
            self.rows.append((self._clock.elapsed + self._appears, row))
        return self._order(row)


def _letter(request: Received) -> str:
    if request.method == "POST":
        return "P"
    return "L" if request.path == PODS else "G"


def _page(rows: list[Row]) -> Answer:
    return reply({"total_count": len(rows), "offset": 0, "limit": 100, "data": rows})
