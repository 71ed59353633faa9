"""State, log records and events of a call in progress."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import attrs

from .._operations import LISTENERS
from .._utils.secret import Secret
from .._utils.text import one_line
from .failure import FailedAttempt
from .request import Request
from .response import Response

log = logging.getLogger("primepods")


@attrs.define(eq=False, repr=False)
class Call:
    """A call in progress.

    Attributes:
        request: The request to send, updated by redirects.
        base_url: The client's base URL.
        deadline: Seconds after which the call must end.
        started_at: Time at which the call began, on the client's clock.
        attempt: Number of the current attempt, from 1; 0 before the first.
        rate_limit_count: Number of attempts that got a 429.
        maybe_acted: Whether the server may have carried out the request in a failed attempt, or in an
            attempt that sent it several times. If so, a 404 may be an effect of that.
        redirected: Whether a redirect was followed; ``attempt`` does not count redirects.
        last_failure: Reason for the last failed attempt, without the server's text; empty if none failed.
        key: The key to redact from headers.
        resends: Number of times that an attempt sent the request again; counted only for ``on_event``.
    """

    request: Request
    base_url: str
    deadline: float
    attempt: int = 0
    rate_limit_count: int = 0
    maybe_acted: bool = False
    redirected: bool = False
    last_failure: str = ""
    resends: int = 0
    started_at: float = attrs.field(kw_only=True)
    key: Secret = attrs.field(kw_only=True)

    @property
    def deadline_at(self) -> float:
        """Time at which the call must end, on the client's clock."""
        return self.started_at + self.deadline

    def record_attempt(self, outcome: Response | FailedAttempt | BaseException, seconds: float) -> None:
        """Log the end of an attempt that took ``seconds``, and report it to ``on_event``."""
        listeners = LISTENERS.get()
        if listeners is None and not log.isEnabledFor(logging.DEBUG):
            return
        status, error, result = _describe(outcome)
        request = self.request
        log.debug(
            "%s %s: %s, %.1f ms, attempt %d",
            request.method,
            request.path,
            result,
            seconds * 1e3,
            self.attempt,
            extra=self._fields(status=status, error=error, seconds=seconds),
        )
        if listeners is None:
            return
        if isinstance(outcome, Response | FailedAttempt):
            self.resends += max(0, outcome.sent_count - 1)
        redirects = 1 if self.redirected else 0
        headers: Mapping[str, str] = outcome.headers if isinstance(outcome, Response) else {}
        listeners.report(
            "RequestEnded",
            method=request.method,
            route=request.template,
            base_url=self.base_url,
            status=status,
            error=error,
            resend_count=self.attempt - 1 + redirects + self.resends,
            seconds=seconds,
            headers={self.key.scrub(name): self.key.scrub(value) for name, value in headers.items()},
        )

    def record_retry(self, outcome: Response | FailedAttempt, delay: float) -> None:
        """Log that a retry follows in ``delay`` seconds, and report it to ``on_event``."""
        request = self.request
        status = outcome.status if isinstance(outcome, Response) else None
        # The text has the number of the next attempt; the fields have the number of the failed one.
        log.info(
            "retrying %s %s in %.2f s: %s (attempt %d)",
            request.method,
            request.path,
            delay,
            self.last_failure,
            self.attempt + 1,
            extra=self._fields(status=status, delay=delay, reason=self.last_failure),
        )
        if (listeners := LISTENERS.get()) is not None:
            listeners.report(
                "RetryScheduled",
                method=request.method,
                route=request.template,
                attempt=self.attempt,
                status=status,
                reason=self.last_failure,
                delay=delay,
            )

    def _fields(self, **fields: float | str | None) -> dict[str, Any]:
        """Return the extra fields of a log record; arguments that are ``None`` are left out."""
        call = {"method": self.request.method, "path": self.request.path, "attempt": self.attempt}
        return call | {name: value for name, value in fields.items() if value is not None}


def _describe(outcome: Response | FailedAttempt | BaseException) -> tuple[int | None, str | None, str]:
    """Return the status, the kind of error, and a short text for the log."""
    if isinstance(outcome, Response):
        return outcome.status, None, f"{outcome.status}, {len(outcome.body)} bytes"
    if isinstance(outcome, FailedAttempt):
        return None, outcome.kind, one_line(outcome.reason)
    return None, type(outcome).__name__, type(outcome).__name__
