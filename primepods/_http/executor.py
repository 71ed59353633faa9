"""Execution of one call: attempts, retries and the deadline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any, Literal, TypeVar, cast

import attrs

from .._decoding.fields import DecodeError
from .._utils.concurrency import map_bounded
from ..config import Settings
from ..errors import APIError, ProtocolError, RateLimitError, RequestTimeoutError, TransportError
from .backoff import CallError, is_idempotent, retry_delay
from .call import Call
from .failure import FailedAttempt
from .redirect import follow_redirect, is_redirect
from .remedies import remedy_after_failure
from .request import Request
from .response import Response, parse_response, protocol_error
from .response_cache import ResponseCache
from .sessions import Sessions
from .shared_deadline import SharedDeadline
from .transport import Transport

T = TypeVar("T")
R = TypeVar("R")


class RequestExecutor:
    """Sender of requests, with retries, a deadline and the rate limit.

    Args:
        settings: The settings of the client, of a view of it, or of one call.
        transport: The connections, which other executors may share.
        shared_deadline: The deadline of the batch call that the requests belong to, if any.
        is_paced: Whether requests use the rate limiter; false for the poller, which uses it itself.
    """

    def __init__(
        self,
        settings: Settings,
        transport: Transport,
        *,
        shared_deadline: SharedDeadline | None = None,
        is_paced: bool = True,
    ) -> None:
        self.settings = settings
        self.transport = transport
        self._clock = settings.clock
        self._shared_deadline = shared_deadline
        self._is_paced = is_paced

    def for_many(self) -> RequestExecutor:
        """Return an executor for one batch call.

        Each request keeps its own deadline. After ``settings.deadline`` seconds in which requests got no
        response, :meth:`call` sends nothing and raises a ``RequestTimeoutError`` with 0 attempts. Calls in
        progress continue.
        """
        shared_deadline = SharedDeadline(self._clock, self.settings.deadline)
        return self._derive(self.settings, shared_deadline)

    def with_settings(self, settings: Settings) -> RequestExecutor:
        """Return an executor with other settings, and the same connections and shared deadline."""
        return self._derive(settings, self._shared_deadline)

    def _derive(self, settings: Settings, shared_deadline: SharedDeadline | None) -> RequestExecutor:
        return RequestExecutor(
            settings, self.transport, shared_deadline=shared_deadline, is_paced=self._is_paced
        )

    @property
    def has_given_up(self) -> bool:
        """Whether :meth:`call` would send nothing, because of the shared deadline."""
        return self._shared_deadline is not None and self._shared_deadline.is_over

    async def call(
        self,
        request: Request,
        decode: Callable[[Any], T],
        *,
        cache: ResponseCache | None = None,
        ends_at: float | None = None,
    ) -> T:
        """Send ``request`` and return its decoded response; retry as the policy allows.

        Args:
            request: The request.
            decode: Function that turns the response's data into the result, or raises :class:`DecodeError`.
            cache: Cache of decoded responses; ``decode`` is not called for a response in the cache.
            ends_at: Time on the client's clock at which to give up; by default, after ``settings.deadline``.

        Raises:
            APIError: The API returned an error.
            TransportError: No response was received, or nothing was sent.
            ProtocolError: The response is not valid, or not complete.
            ClientClosedError: The client or its session is closed, or is used in another event loop.
        """
        if self.has_given_up:
            raise self._unsent_error(request)
        call = Call(
            request,
            self.settings.base_url,
            self.settings.deadline if ends_at is None else max(0.0, ends_at - self._clock.time()),
            started_at=self._clock.time(),
            key=self.settings.api_key,
        )
        sends_end_at = call.deadline_at
        if not is_idempotent(request.method):
            # If such a request is sent just before the deadline, it may be carried out although its response
            # comes too late.
            sends_end_at -= min(self.settings.timeout, call.deadline / 4)
        outcome: Response | FailedAttempt
        while True:
            call.attempt += 1
            delay = self.transport.pace.take_turn(ends_at=sends_end_at) if self._is_paced else 0.0
            if delay:
                await self.transport.pause(delay)
            sessions = None if delay is None else await self.transport.acquire_slot(sends_end_at)
            if sessions is None:
                # Do not fail before the deadline: a caller that retries until its own deadline would then
                # retry without a pause.
                await self.transport.pause(max(0.0, call.deadline_at - self._clock.time()))
                reason = "the API's rate limit did not allow the request in time"
                if delay is not None:
                    reason = "max_concurrency other requests were in progress"
                outcome = FailedAttempt(kind="deadline", reason=reason, sent_count=0)
            else:
                outcome = await self._send(call, sessions)
                await sessions.let_next_send()
            try:
                if self._follow_redirect(call, outcome):
                    continue
                result = self._read_outcome(call, outcome, decode, cache)
            except (APIError, TransportError, ProtocolError) as exc:
                # Drop the frames: their variables hold the response, including passwords.
                error: CallError = exc.with_traceback(None)
            else:
                self.transport.budget.give()
                if self._is_paced:
                    self.transport.pace.record_response()
                return result
            self._record_failure(call, outcome, error)
            delay = self._next_delay(call, error, sends_end_at)
            if delay is None:
                break
            call.record_retry(outcome, delay)
            await self.transport.pause(delay)
        try:
            raise error from outcome.cause if isinstance(outcome, FailedAttempt) else None
        finally:
            # The error's traceback references this frame: avoid a cycle, which would keep the response alive.
            del error, outcome

    async def map(self, function: Callable[[T], Awaitable[R]], items: Sequence[T]) -> list[R]:
        """Return the results of ``function`` for all items, up to ``max_concurrency`` calls at a time."""
        return await map_bounded(function, items, self.settings.max_concurrency)

    def shape_error(self, request: Request, error: DecodeError) -> ProtocolError:
        """Return the error that tells users which part of a response has the wrong structure."""
        return protocol_error(
            request,
            error.reason,
            self.settings.api_key,
            found=error.value,
            path=error.path,
            remedy="The API may have changed: look for a newer primepods, and report this.",
            transient=False,
        )

    async def _send(self, call: Call, sessions: Sessions) -> Response | FailedAttempt:
        """Send one attempt and record its outcome; a timeout at the deadline becomes a missed deadline."""
        started_at = self._clock.time()
        ends_at = min(started_at + self.settings.timeout, call.deadline_at)
        if self._shared_deadline is not None:
            self._shared_deadline.record_request()
        try:
            outcome = await self.transport.send(
                sessions, call.request, ends_at=ends_at, settings=self.settings
            )
        except BaseException as exc:
            call.record_attempt(exc, self._clock.time() - started_at)
            raise
        finally:
            sessions.slots.release()
        if isinstance(outcome, Response):
            if self._shared_deadline is not None:
                self._shared_deadline.record_response()
            # If the request was sent twice, the server may have carried it out the first time.
            call.maybe_acted |= outcome.sent_count > 1
        elif outcome.kind == "timeout" and ends_at == call.deadline_at:
            outcome = attrs.evolve(outcome, kind="deadline")
        call.record_attempt(outcome, self._clock.time() - started_at)
        return outcome

    def _follow_redirect(self, call: Call, outcome: Response | FailedAttempt) -> bool:
        """Make the target of a redirect the call's next request; return whether the outcome is a redirect.

        Raises:
            ProtocolError: The redirect must not be followed.
        """
        if isinstance(outcome, FailedAttempt) or not is_redirect(outcome):
            return False
        call.request = follow_redirect(
            call.request,
            outcome,
            base_url=self.settings.base_url,
            key=self.settings.api_key,
            is_second=call.redirected,
        )
        call.redirected = True
        call.attempt -= 1
        return True

    def _read_outcome(
        self,
        call: Call,
        outcome: Response | FailedAttempt,
        decode: Callable[[Any], T],
        cache: ResponseCache | None,
    ) -> T:
        """Return the decoded response of an attempt, or raise its error."""
        if isinstance(outcome, FailedAttempt):
            raise self._transport_error(call, outcome)
        request = call.request
        if outcome.status != HTTPStatus.OK:
            cache = None
        if cache is not None and (cached := cache.get(request.target, outcome.body)) is not None:
            return cast("T", cached)
        data = parse_response(
            request,
            outcome,
            settings=self.settings,
            now=self._clock.wall(),
        )
        try:
            result = decode(data)
        except DecodeError as exc:
            error = self.shape_error(request, exc)
        else:
            if cache is not None:
                cache.put(request.target, outcome.body, result)
            return result
        # Raise outside the `except`: the decoder's error holds a part of the response.
        raise error

    def _record_failure(self, call: Call, outcome: Response | FailedAttempt, error: CallError) -> None:
        maybe_received = isinstance(outcome, Response) or outcome.maybe_received
        is_rate_limit = isinstance(error, RateLimitError)
        if isinstance(error, APIError):
            error.attempts = call.attempt
            # Set this before `call.maybe_acted` is updated: the attempt's own failure does not count here.
            error.maybe_acted = call.maybe_acted
            # Leave out the server's text, which can quote secrets from the request.
            call.last_failure = f"status {error.status_code}"
        else:
            call.last_failure = (
                outcome.reason if isinstance(outcome, FailedAttempt) else "an invalid response"
            )
        if isinstance(error, RateLimitError):
            call.rate_limit_count += 1
            # Ignore later 429s: they respond to this call's own retries, which have a backoff.
            if self._is_paced and call.rate_limit_count == 1:
                self.transport.pace.apply_rate_limit(error)
        # A 429 is assumed to mean that nothing was done.
        call.maybe_acted = call.maybe_acted or (maybe_received and not is_rate_limit)

    def _next_delay(self, call: Call, error: CallError, sends_end_at: float) -> float | None:
        """Return the delay before the next attempt, or ``None`` to give up; the error's notes may say why."""
        policy = self.settings.retry
        if call.maybe_acted and not is_idempotent(call.request.method):
            return None
        # Some event loops call timers slightly early, so the clock may not show a missed deadline.
        is_over = isinstance(error, RequestTimeoutError) and error.limit == "deadline"
        if is_over or self._clock.time() >= call.deadline_at:
            return None
        delay = retry_delay(
            policy,
            error,
            failures=call.attempt - call.rate_limit_count,
            rate_limits=call.rate_limit_count,
            rand=self._clock.random(),
        )
        if delay is None:
            seconds = error.retry_after if isinstance(error, APIError) and error.transient else None
            if policy.attempts > 1 and seconds is not None and seconds > policy.max_delay:
                error.add_note(
                    f"Not retried: the API asks for a wait of {seconds:g} s, more than "
                    f"RetryPolicy.max_delay, {policy.max_delay:g} s."
                )
            return None
        if self._clock.time() + delay >= sends_end_at:
            error.add_note(
                f"Not retried: the next attempt, in {delay:.1f} s, would pass the deadline of "
                f"{call.deadline:g} s, or be too close to it."
            )
            return None
        # A retry after a 429 takes no token: the 429 shows that the API is up.
        needs_token = not isinstance(error, RateLimitError)
        if needs_token and not self.transport.budget.take(call.request.method):
            error.add_note(
                "Not retried: the client's retry budget is used up. It refills with time and with successful "
                "requests. Wait before you try again."
            )
            return None
        return delay

    def _unsent_error(self, request: Request) -> RequestTimeoutError:
        return RequestTimeoutError(
            f"{request.method} {request.path} on {self.settings.base_url} was not sent, since this call got "
            f"no response for {self.settings.deadline:g} s, its deadline. Look at the network and the API's "
            "status page, or raise `deadline`, then try again.",
            limit="deadline",
            method=request.method,
            path=request.path,
            attempts=0,
            maybe_received=False,
            transient=True,
        )

    def _transport_error(self, call: Call, failed: FailedAttempt) -> TransportError | ProtocolError:
        request, reason = call.request, failed.reason
        if failed.kind == "protocol":
            return protocol_error(request, reason, self.settings.api_key, transient=failed.transient)
        attempts = f"{call.attempt} attempt{'s' if call.attempt > 1 else ''}"
        if call.last_failure:
            attempts += f"; the previous attempt failed with {call.last_failure}"
        limit: Literal["timeout", "deadline"] = "deadline" if failed.kind == "deadline" else "timeout"
        remedy = failed.remedy
        if failed.kind in {"timeout", "deadline"}:
            seconds = call.deadline if limit == "deadline" else self.settings.timeout
            reason += f"; {limit} of {seconds:g} s"
            remedy = "Allow more time, or look at the network and the API's status page."
        if failed.maybe_received:
            remedy = remedy_after_failure(request, if_idempotent=remedy)
        text = (
            f"{request.method} {request.path} on {self.settings.base_url}: {reason} ({attempts}). "
            f"{remedy[0].upper()}{remedy[1:]}"
        )
        fields: dict[str, Any] = {
            "method": request.method,
            "path": request.path,
            "attempts": call.attempt,
            "maybe_received": call.maybe_acted or failed.maybe_received,
            "transient": failed.transient,
        }
        if failed.kind == "transport":
            return TransportError(text, **fields)
        return RequestTimeoutError(text, limit=limit, **fields)


def is_unsent(error: Exception) -> bool:
    """Return whether a request was not sent because its batch call had given up."""
    return isinstance(error, RequestTimeoutError) and not error.attempts
