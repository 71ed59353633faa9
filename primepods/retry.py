"""Retry policy of a client."""

from __future__ import annotations

import attrs

from ._utils.arguments import check_count, check_flag, check_seconds


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Retry and backoff of transient errors.

    GET and DELETE are retried after every error whose ``transient`` is true; POST, PUT and PATCH only if
    the server provably received nothing. The delay before attempt ``n + 1`` is ``base_delay * 2 ** (n - 1)``
    seconds, at most ``max_delay``, times a random number from 0 to 1 with ``jitter``.

    A GET or DELETE on a reused connection that ends without a byte of response is sent again at once, within
    the same attempt: the server had most likely closed the connection before the request. A POST, PUT or
    PATCH always has a new connection.

    A 429 does not count as an attempt: a GET or DELETE is retried after it, with the same kind of backoff (at
    least 0.25 s), until the call's ``deadline``. A ``Retry-After`` up to ``max_delay`` is respected (plus
    some jitter); after a longer one, the error is raised at once, with its ``retry_after`` set.

    All calls of a client share a budget of 100 retries, so that they do not overload an API that is down.
    Every retry takes one, except after a 429; every success and every second add one; the last 20 are
    reserved for deletions. When the budget is used up, errors are raised without a retry, and say so.

    Attributes:
        attempts: Max number of attempts, including the first; 1 means no retry.
        base_delay: Seconds before the second attempt.
        max_delay: Max delay in seconds.
        jitter: Whether delays are randomised, so that many clients do not retry at the same time.
    """

    attempts: int = 5
    base_delay: float = 0.5
    max_delay: float = 30.0
    jitter: bool = True

    def __attrs_post_init__(self) -> None:
        check_count("RetryPolicy.attempts", self.attempts, minimum=1, maximum=None)
        check_seconds("RetryPolicy.base_delay", self.base_delay, minimum=0.0)
        check_seconds("RetryPolicy.max_delay", self.max_delay, minimum=0.0)
        check_flag("RetryPolicy.jitter", self.jitter)
