"""Log of requests, for assertions in tests."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

MAX_ENTRIES = 200_000


@attrs.define(kw_only=True)
class Request:
    """A logged request, without headers. In path and query, ``***`` replaces the emulator's ``api_key``."""

    method: str
    path: str
    """Percent-encoded, without the query; empty for invalid HTTP."""
    query: list[tuple[str, str]]
    """Names and values, in the order of the request."""
    concurrency: int
    """Requests in flight when this one arrived, including itself."""
    time: float
    """Arrival time, in seconds on the emulator's clock."""
    operation: str | None = None
    """The operation, as in ``faults.add(on=…)``; ``None`` if the request has none."""
    faults: list[str] = attrs.field(factory=list[str])
    """Class names of the faults that affected it."""
    status: int | None = None
    """Status of the response; ``None`` while in flight, or if the connection was closed without one."""


class RequestLog(list[Request]):
    """Requests in the order of arrival, except those to control routes; thread-safe.

    Beyond 200,000 requests, the oldest are dropped.
    """

    def append(self, entry: Request, /) -> None:
        """Add a request."""
        super().append(entry)
        if len(self) > MAX_ENTRIES:
            del self[: MAX_ENTRIES // 10]

    def where(
        self,
        *,
        operation: str | Iterable[str] | None = None,
        method: str | None = None,
        path: str | None = None,
        status: int | Iterable[int] | None = None,
    ) -> list[Request]:
        """Return the requests that match all conditions.

        Args:
            operation: One or more operations, by their names in ``faults.add(on=…)``.
            method: The method.
            path: The exact path.
            status: One or more statuses.
        """
        operations = {operation} if isinstance(operation, str) else set(operation or ())
        statuses = {status} if isinstance(status, int) else set(status or ())
        return [
            entry
            for entry in self[:]
            if (operation is None or entry.operation in operations)
            and (method is None or entry.method == method)
            and (path is None or entry.path == path)
            and (status is None or entry.status in statuses)
        ]
