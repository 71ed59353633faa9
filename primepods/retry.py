"""How often, and after what wait, a client tries again."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import attrs

from ._utils.text import quote


def _at_least(minimum: float) -> Callable[[Any, Any, Any], None]:
    def check(_: object, attribute: attrs.Attribute[float], value: float) -> None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            msg = f"RetryPolicy.{attribute.name} must be a number, got {quote(value)}"
            raise TypeError(msg)
        if not minimum <= value <= sys.float_info.max:
            allowed = f"a finite number of at least {minimum}"
            msg = f"RetryPolicy.{attribute.name} must be {allowed}, got {quote(value)}"
            raise ValueError(msg)

    return check


def _flag(_: object, attribute: attrs.Attribute[bool], value: object) -> None:
    if not isinstance(value, bool):
        msg = f"RetryPolicy.{attribute.name} must be True or False, got {quote(value)}"
        raise TypeError(msg)


def _whole(_: object, attribute: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int):
        msg = f"RetryPolicy.{attribute.name} must be an integer, got {quote(value)}"
        raise TypeError(msg)


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """How a client repeats what failed for a passing reason.

    GET and DELETE are repeated after every error whose ``transient`` is true; POST and PATCH only when the
    server provably received nothing. The wait before attempt ``n + 1`` is ``base_delay * 2 ** (n - 1)``
    seconds, at most ``max_delay``, times a random number from 0 to 1 with ``jitter``.

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

    attempts: int = attrs.field(default=5, validator=[_whole, _at_least(1)])
    base_delay: float = attrs.field(default=0.5, validator=_at_least(0))
    max_delay: float = attrs.field(default=30.0, validator=_at_least(0))
    jitter: bool = attrs.field(default=True, validator=_flag)
