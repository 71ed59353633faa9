"""When to try again: the table of decisions, their bounds, and the budget that all callers share."""

import pickle

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods import APIError, ProtocolError, RateLimitError, RetryPolicy, ServerError, TransportError
from primepods._http.backoff import CallError, is_idempotent, retry_delay

PLAIN = RetryPolicy(attempts=5, base_delay=0.5, max_delay=30.0, jitter=False)
POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 100),
    base_delay=st.floats(0, 1e308),
    max_delay=st.floats(0, 1e308),
    jitter=st.booleans(),
)
CHANCES = st.floats(0, 1, exclude_max=True)


def answered(
    status: int,
    kind: type[APIError] = ServerError,
    *,
    transient: bool = True,
    retry_after: float | None = None,
) -> APIError:
    """An error that the API answered with."""
    return kind(
        "text",
        status_code=status,
        method="GET",
        path="/p",
        message="m",
        retry_after=retry_after,
        transient=transient,
    )


def limited(retry_after: float | None = None) -> APIError:
    """A 429."""
    return answered(429, RateLimitError, retry_after=retry_after)


LOST = TransportError("text", method="GET", path="/p", attempts=1, maybe_received=True)
UNTRUSTED = TransportError("text", method="GET", path="/p", attempts=1, maybe_received=False, transient=False)
ERRORS = st.one_of(
    st.just(LOST),
    st.just(UNTRUSTED),
    st.builds(
        ProtocolError, st.just("text"), method=st.just("GET"), url_path=st.just("/p"), transient=st.booleans()
    ),
    st.builds(limited, st.none() | st.floats(0, 1e308)),
    st.builds(answered, st.just(503), transient=st.booleans(), retry_after=st.none() | st.floats(0, 1e308)),
)


@pytest.mark.parametrize(
    ("error", "failures", "rate_limited", "delay"),
    [
        (answered(503), 1, 0, 0.5),
        (answered(503), 2, 0, 1.0),
        (answered(503), 4, 7, 4.0),
        (answered(503), 5, 0, None),
        (answered(503, retry_after=2.0), 1, 0, 2.0),
        (answered(503, retry_after=30.1), 1, 0, None),
        (LOST, 1, 0, 0.5),
        (answered(404, transient=False), 1, 0, None),
        (UNTRUSTED, 1, 0, None),
        (limited(), 0, 1, 0.5),
        (limited(), 4, 2, 1.0),
        (limited(), 0, 100, 30.0),
        (limited(2.0), 0, 1, 2.0),
        (limited(0.0), 0, 1, 0.25),
        (limited(30.0), 0, 50, 30.0),
        (limited(30.1), 0, 1, None),
    ],
)
def test_delays_by_error_and_number_of_attempts(
    error: CallError, failures: int, rate_limited: int, delay: float | None
) -> None:
    """Doubling; 429s have a count of their own and no end but the deadline; what lasts ends at once."""
    assert retry_delay(PLAIN, error, failures=failures, rate_limits=rate_limited, rand=0.3) == delay
    once = attrs.evolve(PLAIN, attempts=1)
    assert retry_delay(once, error, failures=failures, rate_limits=rate_limited, rand=0.3) is None


@given(POLICIES, ERRORS, st.integers(0, 2_000), st.integers(0, 2_000), CHANCES)
@example(RetryPolicy(attempts=10_000, base_delay=1e308, max_delay=1e308), LOST, 5_000, 0, 0.9)
def test_a_delay_has_bounds(
    policy: RetryPolicy, error: CallError, failures: int, rate_limited: int, rand: float
) -> None:
    """Never negative, and never above `max_delay` but for the jitter on a `Retry-After`."""
    failures, rate_limited = max(1, failures), max(1, rate_limited)
    delay = retry_delay(policy, error, failures=failures, rate_limits=rate_limited, rand=rand)
    if delay is None:
        return
    assert error.transient
    assert policy.attempts > 1
    assert failures < policy.attempts or isinstance(error, RateLimitError)
    asked = error.retry_after if isinstance(error, APIError) else None
    shortest = 0.25 if isinstance(error, RateLimitError) else 0.0
    if asked is None:
        assert shortest <= delay <= max(shortest, policy.max_delay)
    else:
        assert asked <= policy.max_delay
        assert max(asked, shortest) <= delay <= max(shortest, asked + policy.max_delay)
        assert policy.jitter or delay == max(asked, shortest)


def test_only_what_does_no_harm_twice_is_idempotent() -> None:
    """A PUT, too, can overwrite what another has written meanwhile."""
    methods = ("GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH")
    assert [is_idempotent(method) for method in methods] == [True] * 4 + [False] * 3


# --- The policy ------------------------------------------------------------------------------------


def test_the_default_policy_is_the_documented_one() -> None:
    """Five attempts, half a second doubled up to thirty, with jitter; a value that pickles."""
    policy = RetryPolicy()
    assert attrs.astuple(policy) == (5, 0.5, 30.0, True)
    assert pickle.loads(pickle.dumps(policy)) == policy == RetryPolicy(attempts=5)
    assert hash(policy) == hash(RetryPolicy())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.attempts = 6  # type: ignore[misc]  # frozen


# --- The budget ------------------------------------------------------------------------------------
