"""How often, and after what wait, a client tries again."""

from __future__ import annotations

import attrs

from ._utils.arguments import check_count, check_flag, check_seconds


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How a client repeats what failed for a passing reason.

    GET and DELETE are repeated after every error whose ``transient`` is true; POST and PATCH only when the
    server provably received nothing. The wait before attempt ``n + 1`` is ``base_delay * 2 ** (n - 1)``
    seconds, at most ``max_delay``, times a random number from 0 to 1 with ``jitter``.

    Each request that is sent counts as an attempt, with one exception: a GET or DELETE on a kept connection
    that ends without a byte of a response is sent once more at once, since the server had most likely closed
    that connection before. A POST, PUT or PATCH has a connection of its own.

    A 429 is not counted as an attempt: it is repeated, after waits that grow in the same way (from 0.25 s),
    until the call's ``deadline`` is reached. A ``Retry-After`` up to ``max_delay`` is waited for (plus some
    jitter); a longer one raises at once, with the error's ``retry_after`` set.

    All calls of a client share a budget of 100 retries, so that they do not storm an API that is down. A
    retry takes one of it, but not after a 429; every success and every second brings one back; the last 20
    are kept for deletions. Where it is used up, an error is raised without a retry, and says so.

    Attributes:
        attempts: How often a request is sent at most, the first time included; 1 means no retry at all.
        base_delay: Seconds before the second attempt.
        max_delay: Longest wait in seconds.
        jitter: Whether waits are randomised, so that many clients do not return in step.
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
