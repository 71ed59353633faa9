"""One call: attempts, retries and the deadline around them. Knows HTTP, but neither pods nor aiohttp."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from http import HTTPStatus
from typing import Any, Final, TypeVar
from urllib.parse import urljoin, urlsplit

import attrs

from .._decoding.fields import DecodeError
from .._utils.text import one_line
from ..config import Settings, origin
from ..errors import (
    APIError,
    PrimePodsError,
    ProtocolError,
    RateLimitError,
    RequestTimeoutError,
    TransportError,
)
from ..retry import Failure, decide, parse_retry_after
from .request import Request, other_spelling
from .response import Response, decipher, protocol_error
from .response_cache import ResponseCache
from .transport import Broken, Sent, Transport

T = TypeVar("T")

log = logging.getLogger("primepods")

_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@attrs.define
class _Call:
    """A call in progress.

    Attributes:
        request: What is asked, in the spelling in use.
        deadline_at: When it has to end.
        attempt: Number of the current attempt, from 1.
        maybe_received: Whether the server may have received any of the attempts.
        maybe_acted: Whether it may have acted on one whose answer was lost or an error of its own.
        redirected: Whether the server has corrected the spelling once.
        last_failure: Why the previous attempt failed.
    """

    request: Request
    deadline_at: float
    attempt: int = 0
    maybe_received: bool = False
    maybe_acted: bool = False
    redirected: bool = False
    last_failure: str = ""


class RequestExecutor:
    """Sends requests until they are answered or hopeless.

    Args:
        settings: The settings of the client, or of a view on it with other timeouts or retries.
        transport: The connections, shared by all views of a client.
    """

    def __init__(self, settings: Settings, transport: Transport) -> None:
        self.settings = settings
        self.transport = transport
        self._clock = settings.clock

    async def call(
        self,
        request: Request,
        decode: Callable[[Any], T],
        *,
        cache: ResponseCache | None = None,
        ends_at: float | None = None,
    ) -> T:
        """Send ``request`` and return its answer, decoded, retrying what the policy allows.

        Args:
            request: What to ask.
            decode: Makes the result of the answer's JSON, or raises :class:`DecodeError`.
            cache: Where the answer is kept, if it is asked for again and again: while it does not change,
                ``decode`` is not called again.
            ends_at: When to give up at the latest, by the client's clock; by default after the deadline.

        Raises:
            APIError: The API said no.
            TransportError: No answer came.
            ProtocolError: What came is no answer.
            ClientClosedError: The client is closed.
        """
        deadline_at = self._clock.time() + self.settings.deadline
        call = _Call(self.transport.respell(request), deadline_at if ends_at is None else ends_at)
        while True:
            call.attempt += 1
            outcome = await self._attempt(call)
            cause = None
            if isinstance(outcome, Sent):
                # Here, because a redirect or a 429 may come between the lost answer and the 404.
                call.maybe_acted = call.maybe_acted or outcome.resent
            if isinstance(outcome, Broken):
                failure, cause = outcome.failure, outcome.cause
                error: PrimePodsError = self._broken_error(call, outcome)
            elif outcome.response.status in _REDIRECTS:
                self._follow(call, outcome.response)
                continue
            else:
                try:
                    result = self._read(call.request, outcome.response, decode, cache)
                except (APIError, ProtocolError) as exc:
                    # Without its frames, whose variables hold what was received, passwords with it.
                    error, failure = exc.with_traceback(None), _judge(exc)
                else:
                    self.transport.budget.give()
                    if call.redirected:
                        # Not before: a gateway's whim must not teach a spelling that answers 404 for good.
                        self.transport.learn(call.request)
                    return result
            delay = self._next_delay(call, failure, error)
            if delay is None:
                # Raised here, outside any `except`, so that no frame of the HTTP library hangs on it.
                raise error from cause
            log.info(
                "retrying %s %s in %.2f s: %s (attempt %d of %d)",
                *(call.request.method, call.request.path, delay, failure.reason),
                *(call.attempt + 1, self.settings.retry.attempts),
            )
            await self._clock.sleep(delay)

    def shape_error(self, request: Request, error: DecodeError) -> ProtocolError:
        """Return the error for users that says where an answer, or a row of it, has not the promised shape.

        Args:
            request: What was asked.
            error: What :meth:`call`'s ``decode`` raised, or found about one row.
        """
        return protocol_error(
            *(request, error.reason, error.value, self.settings.api_key),
            path=error.path,
            remedy="The API may have changed: look for a newer primepods, and report this.",
            transient=False,
        )

    async def _attempt(self, call: _Call) -> Sent | Broken:
        """Wait for a free slot and send once; the deadline bounds both."""
        slots = self.transport.slots
        try:
            # A timeout costs more than a slot that is free.
            async with self._clock.timeout_at(call.deadline_at) if slots.locked() else nullcontext():
                await slots.acquire()
        except TimeoutError:
            return Broken(failure=Failure(reason="no free slot", maybe_received=False), kind="timeout")
        try:
            started = self._clock.time()
            ends_at = min(started + self.settings.timeout, call.deadline_at)
            outcome = await self.transport.send(call.request, ends_at=ends_at)
            self._log(call, outcome, self._clock.time() - started)
        finally:
            slots.release()
        if slots.locked():
            # Whoever waits for the slot wakes up and sends before this answer takes its time to be decoded.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        return outcome

    def _log(self, call: _Call, outcome: Sent | Broken, seconds: float) -> None:
        if not log.isEnabledFor(logging.DEBUG):
            return
        if isinstance(outcome, Sent):
            result = f"{outcome.response.status}, {len(outcome.response.body)} bytes"
        else:
            result = one_line(outcome.failure.reason)
        log.debug(
            "%s %s: %s, %.1f ms, attempt %d",
            *(call.request.method, call.request.path, result, seconds * 1e3, call.attempt),
        )

    def _read(
        self,
        request: Request,
        response: Response,
        decode: Callable[[Any], T],
        cache: ResponseCache | None,
    ) -> T:
        if response.status != HTTPStatus.OK:
            cache = None
        if cache is not None and (kept := cache.get(request.target, response.body)) is not None:
            known: T = kept
            return known
        key = self.settings.api_key
        retry_after = parse_retry_after(response.headers.get("retry-after"), now=self._clock.wall())
        data = decipher(request, response, key=key, retry_after=retry_after)
        try:
            result = decode(data)
        except DecodeError as exc:
            raise self.shape_error(request, exc) from None
        if cache is not None:
            cache.put(request.target, response.body, result)
        return result

    def _next_delay(self, call: _Call, failure: Failure, error: PrimePodsError) -> float | None:
        """Return the wait before the next attempt, or ``None``, with ``error`` complete, to give up."""
        if isinstance(error, APIError):
            error.maybe_acted = call.maybe_acted
        call.maybe_received = call.maybe_received or failure.maybe_received
        # Who answers 429 has done nothing; behind every other failure the request may have been carried out.
        may_have_acted = failure.maybe_received and not isinstance(error, RateLimitError)
        call.maybe_acted = call.maybe_acted or may_have_acted
        if isinstance(error, APIError | TransportError):
            error.attempts = call.attempt
        if isinstance(error, TransportError):
            error.maybe_received = call.maybe_received
        now = self._clock.time()
        if now >= call.deadline_at:
            return None
        delay = decide(
            self.settings.retry,
            attempt=call.attempt,
            method=call.request.method,
            failure=failure,
            chance=self._clock.random(),
        )
        if delay is not None and now + delay >= call.deadline_at:
            error.add_note(
                f"Not tried again: the next attempt, in {delay:.1f} s, would pass the deadline of "
                f"{self.settings.deadline:g} s."
            )
            return None
        if delay is not None and not self.transport.budget.take():
            error.add_note(
                "Not tried again: most requests of this client fail, and its retry budget is used up. Each "
                "success refills it; wait before you ask again."
            )
            return None
        call.last_failure = failure.reason
        return delay

    def _broken_error(self, call: _Call, broken: Broken) -> TransportError | ProtocolError:
        request, reason = call.request, broken.failure.reason
        if broken.kind == "protocol":
            key, transient = self.settings.api_key, broken.failure.transient
            return protocol_error(request, reason, None, key, transient=transient)
        tries = f"{call.attempt} attempt{'s' if call.attempt > 1 else ''}"
        before = f"; the attempt before failed with: {call.last_failure}" if call.last_failure else ""
        past_deadline = self._clock.time() >= call.deadline_at
        fields: dict[str, Any] = {
            "method": request.method,
            "path": request.path,
            "attempts": call.attempt,
            "maybe_received": broken.failure.maybe_received,
            "transient": broken.failure.transient,
        }
        asked = f"{request.method} {request.path} on {self.settings.base_url}"
        if past_deadline or broken.kind == "timeout":
            limit = "deadline" if past_deadline else "timeout"
            seconds = getattr(self.settings, limit)
            text = (
                f"{asked}: {reason}; {limit} of {seconds:g} s ({tries}{before}). Raise `{limit}`, or look at "
                "the network and the API's status page."
            )
            return RequestTimeoutError(text, limit=limit, **fields)
        remedy = "Check the base URL, the network and the proxy."
        if broken.kind == "connect":
            return RequestTimeoutError(
                f"{asked}: {reason} ({tries}{before}). {remedy}", limit="timeout", **fields
            )
        if not broken.failure.transient:
            remedy = "Check the certificate, the system's CAs (SSL_CERT_FILE) and the clock of this machine."
        return TransportError(f"{asked}: {reason} ({tries}{before}). {remedy}", **fields)

    def _follow(self, call: _Call, response: Response) -> None:
        """Take a redirect to another spelling of the same path; refuse any other.

        Raises:
            ProtocolError: It leads elsewhere, or around in a circle.
        """
        location = self.settings.api_key.scrub(response.headers.get("location", ""))
        problem = None if call.redirected else self._redirect_problem(call.request, response.status, location)
        if call.redirected:
            problem = "redirected again after it was followed once"
        if problem is not None:
            shown = one_line(location)[:200]
            raise protocol_error(
                call.request,
                f"a redirect ({response.status}) to {shown!r}, which is not followed: {problem}",
                None,
                self.settings.api_key,
                remedy="Check the base URL: give the API's final address.",
            )
        call.redirected = True
        call.attempt -= 1
        call.request = attrs.evolve(call.request, path=other_spelling(call.request.path))

    def _redirect_problem(self, request: Request, status: int, location: str) -> str | None:
        base = self.settings.base_url
        try:
            there = urlsplit(urljoin(base + request.target, location))
            elsewhere = origin(there) != origin(urlsplit(base))
        except ValueError:
            return "it is no URL"
        if elsewhere:
            return "it leads to another origin, which must not see the API key"
        here = urlsplit(base + request.target)
        if there.path != other_spelling(here.path) or there.query not in {"", here.query}:
            return "it is not another spelling of the same path"
        if status not in {307, 308} and request.method not in {"GET", "HEAD"}:
            return "it would change the method"
        return None


def _judge(error: APIError | ProtocolError) -> Failure:
    """Say what an answer that is an error means for the retry decision."""
    if isinstance(error, APIError):
        return Failure(
            reason=f"{error.status_code} {one_line(error.message)[:80]}",
            transient=error.transient,
            retry_after=error.retry_after,
        )
    return Failure(reason="an answer that is no JSON", transient=error.transient)
