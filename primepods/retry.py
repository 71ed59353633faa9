"""Retry policy of a client."""

from __future__ import annotations

import attrs

from ._utils.arguments import check_count, check_flag, check_seconds


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Retry and backoff of transient errors.

    A call is retried after errors whose ``transient`` is true. A POST, PUT or PATCH is retried only if no
    attempt can have been carried out. The delay before attempt ``n + 1`` is ``base_delay * 2 ** (n - 1)``
    seconds, at most ``max_delay``. With ``jitter``, it is multiplied by a random number from 0 to 1.

    If a reused connection ends before a response to a GET or DELETE without a body, the request is sent again
    at once, in the same attempt: the server has probably closed the idle connection. A POST, PUT or PATCH
    gets a new connection, unless you pass a session to the client.

    A 429 does not count towards ``attempts``: unless ``attempts`` is 1, the call is retried with the same
    kind of backoff (at least 0.25 s) until its ``deadline``. A ``Retry-After`` up to ``max_delay`` is
    respected; ``jitter`` adds a random part. After a longer one, the error is raised at once.

    All calls of a client share a budget of 100 tokens, so that they do not overload an API that is down. A
    retry takes a token, except after a 429. Each success gives a token back, and so does each second. The
    last 20 tokens are reserved for deletions. When all are used up, calls are retried only after a 429.

    Attributes:
        attempts: Max number of attempts, including the first; 1 means no retry.
        base_delay: Seconds before the second attempt.
        max_delay: Max seconds of a backoff, and of a ``Retry-After`` after which the call is retried.
        jitter: Whether delays have a random part, so that many clients do not retry at the same time.
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
