"""A client as plain as can be, in which what comes back is what the wire had; and orders made with it."""

import http.client
import json
import socket
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

import attrs

from primepods.emulator import Emulator

PODS = "/api/v1/pods/"
STATUS = "/api/v1/pods/status"
HISTORY = "/api/v1/pods/history"
KEYS = "/api/v1/ssh_keys/"
GPUS = "/api/v1/availability/gpus"
CLUSTERS = "/api/v1/availability/multi-node"


@attrs.frozen
class Answer:
    """One answer off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; fails the test if it is none or says that it is none."""
        assert self.headers.get("Content-Type", "").startswith("application/json")
        return json.loads(self.body)


class PlainCaller:
    """Sends single requests to a server, each on a connection of its own."""

    def __init__(self, url: str, api_key: str) -> None:
        where = urlsplit(url)
        self._address = (where.hostname or "", where.port or 0)
        self._api_key = api_key

    def __call__(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        headers: dict[str, str] | None = None,
        body: Any = None,
    ) -> Answer:
        """Send one request, with the key; no redirect is followed. A body is bytes, or sent as JSON."""
        target = f"{path}?{urlencode(query)}" if query else path
        sent = {"Authorization": f"Bearer {self._api_key}"} if headers is None else headers
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = http.client.HTTPConnection(*self._address, timeout=40)
        try:
            connection.request(method, target, content, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path: str, *query: tuple[str, str]) -> Any:
        """The JSON of a GET that must succeed."""
        return self.json("GET", path, query)

    def json(self, method: str, path: str, query: Sequence[tuple[str, str]] = (), *, body: Any = None) -> Any:
        """The JSON of a request that must succeed."""
        answer = self(method, path, query, body=body)
        assert answer.status == 200, answer
        return answer.json

    def connect(self) -> socket.socket:
        """A connection to send on whatever one likes."""
        return socket.create_connection(self._address, timeout=40)

    def raw(self, request: bytes, *, last: bool = False) -> bytes:
        """All bytes of the answer to these bytes, which may be the last, up to the end of the connection."""
        with self.connect() as connection:
            connection.sendall(request)
            if last:
                connection.shutdown(socket.SHUT_WR)
            received = b""
            while chunk := connection.recv(65536):
                received += chunk
        return received


class Caller(PlainCaller):
    """Sends single requests to an emulator with its key."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator.url, emulator.api_key)
        self.emulator = emulator

    def status(self, *pod_ids: str) -> list[dict[str, Any]]:
        """The status rows of these pods."""
        rows: list[dict[str, Any]] = self.get(STATUS, *(("pod_ids", pod_id) for pod_id in pod_ids))["data"]
        return rows


def every(call: PlainCaller, path: str, *query: tuple[str, str]) -> list[dict[str, Any]]:
    """All offers, read as the official client does: until there are as many as there are said to be."""
    rows: list[dict[str, Any]] = []
    page = 1
    while True:
        answer = call.get(path, *query, ("page", str(page)), ("page_size", "30"))
        rows += answer["items"]
        if len(rows) >= answer["totalCount"]:
            return rows
        page += 1


def offer_with(call: PlainCaller, path: str = GPUS, **wanted: Any) -> dict[str, Any]:
    """The first offer with these values."""
    return next(row for row in every(call, path) if all(row[key] == value for key, value in wanted.items()))


def plain_offer(call: PlainCaller) -> dict[str, Any]:
    """An offer that leaves nothing to choose and whose price is fixed."""
    rows = every(call, GPUS)
    return next(row for row in rows if row["disk"]["minCount"] is None and not row["prices"]["isVariable"])


def body_for(offer: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A create request for an offer."""
    pod = {key: offer[key] for key in ("cloudId", "gpuType", "socket", "gpuCount")}
    return {"pod": {**pod, "maxPrice": None, **fields}, "provider": {"type": offer["provider"]}}


def order(call: PlainCaller, body: Any) -> Answer:
    """Send a create request."""
    return call("POST", PODS, body=body)
