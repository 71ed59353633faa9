"""A client as plain as can be: what comes back is what the wire had."""

import http.client
import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode, urlsplit

from attrs import frozen

from primepods.emulator import Emulator

PODS = "/api/v1/pods/"
STATUS = "/api/v1/pods/status"
HISTORY = "/api/v1/pods/history"


@frozen
class Answer:
    """One answer off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON; fails the test if it is none or says that it is none."""
        assert self.headers.get("Content-Type") == "application/json"
        return json.loads(self.body)


class Caller:
    """Sends single requests to an emulator with its key."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator

    def __call__(
        self,
        method: str,
        path: str,
        query: Sequence[tuple[str, str]] = (),
        *,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """Send one request on a connection of its own; redirects are not followed."""
        target = f"{path}?{urlencode(query)}" if query else path
        sent = {"Authorization": f"Bearer {self.emulator.api_key}"} if headers is None else headers
        where = urlsplit(self.emulator.url)
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
        try:
            connection.request(method, target, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def get(self, path: str, *query: tuple[str, str]) -> Any:
        """The JSON of a GET that must succeed."""
        answer = self("GET", path, query)
        assert answer.status == 200, answer
        return answer.json

    def status(self, *pod_ids: str) -> list[dict[str, Any]]:
        """The status rows of these pods."""
        rows: list[dict[str, Any]] = self.get(STATUS, *(("pod_ids", pod_id) for pod_id in pod_ids))["data"]
        return rows
