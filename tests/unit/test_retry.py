"""When to try again: the table of decisions, their bounds, and the readings of `Retry-After`."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods import RetryPolicy
from primepods.retry import Failure, RetryBudget, decide, parse_retry_after
from tests.support.json_values import ANY_TEXT

NOW = datetime(2026, 11, 7, 5, 31, 56, tzinfo=UTC)
PLAIN = RetryPolicy(attempts=5, base_delay=0.5, max_delay=30.0, jitter=False)
LOST = Failure(reason="connection reset")
REFUSED = Failure(reason="connection refused", maybe_received=False)
ANSWERED = Failure(reason="503")

POLICIES = st.builds(
    RetryPolicy,
    attempts=st.integers(1, 100),
    base_delay=st.floats(0, 1e308),
    max_delay=st.floats(0, 1e308),
    jitter=st.booleans(),
)
FAILURES = st.builds(
    Failure,
    reason=st.just("r"),
    transient=st.booleans(),
    maybe_received=st.booleans(),
    retry_after=st.none() | st.floats(0, 1e308),
)
METHODS = st.sampled_from(["GET", "HEAD", "OPTIONS", "DELETE", "POST", "PUT", "PATCH"])
CHANCES = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "method", "failure", "delay"),
    [
        (1, "GET", ANSWERED, 0.5),
        (2, "GET", ANSWERED, 1.0),
        (3, "GET", ANSWERED, 2.0),
        (4, "GET", ANSWERED, 4.0),
        (5, "GET", ANSWERED, None),
        (6, "GET", ANSWERED, None),
        (1, "DELETE", LOST, 0.5),
        (1, "HEAD", LOST, 0.5),
        (1, "OPTIONS", LOST, 0.5),
        (1, "POST", LOST, None),
        (1, "PATCH", LOST, None),
        (1, "PUT", LOST, None),
        (1, "POST", REFUSED, 0.5),
        (1, "PATCH", REFUSED, 0.5),
        (1, "GET", Failure(reason="404", transient=False), None),
        (1, "GET", Failure(reason="certificate", transient=False, maybe_received=False), None),
        (1, "GET", Failure(reason="429", retry_after=2.0), 2.0),
        (1, "GET", Failure(reason="429", retry_after=0.0), 0.0),
        (1, "GET", Failure(reason="429", retry_after=30.0), 30.0),
        (1, "GET", Failure(reason="429", retry_after=30.1), None),
        (5, "GET", Failure(reason="429", retry_after=2.0), None),
        (1, "POST", Failure(reason="429", retry_after=2.0), None),
    ],
)
def test_the_table_of_decisions(attempt: int, method: str, failure: Failure, delay: float | None) -> None:
    """By attempt, method, and what is known of the failure, without jitter."""
    assert decide(PLAIN, attempt=attempt, method=method, failure=failure, chance=0.3) == delay


@given(POLICIES, st.integers(1, 2_000), METHODS, FAILURES, CHANCES)
@example(RetryPolicy(attempts=10_000, base_delay=1e308, max_delay=1e308), 5_000, "GET", LOST, 0.9)
def test_a_delay_has_bounds(
    policy: RetryPolicy, attempt: int, method: str, failure: Failure, chance: float
) -> None:
    """Never negative, and never above `max_delay` but for the jitter on a `Retry-After`."""
    delay = decide(policy, attempt=attempt, method=method, failure=failure, chance=chance)
    if delay is None:
        return
    assert failure.transient
    assert attempt < policy.attempts
    assert method in {"GET", "HEAD", "OPTIONS", "DELETE"} or not failure.maybe_received
    if failure.retry_after is None:
        assert 0 <= delay <= policy.max_delay
        assert policy.jitter or delay == min(
            policy.max_delay, policy.base_delay * 2.0 ** min(attempt - 1, 60)
        )
    else:
        assert failure.retry_after <= policy.max_delay
        assert failure.retry_after <= delay <= failure.retry_after + policy.max_delay
        assert policy.jitter or delay == failure.retry_after


@given(POLICIES, st.integers(1, 100), FAILURES, CHANCES)
def test_a_post_is_not_repeated_if_it_may_have_arrived(
    policy: RetryPolicy, attempt: int, failure: Failure, chance: float
) -> None:
    """It may have made something that costs money, whatever the policy and the server say."""
    failure = attrs.evolve(failure, maybe_received=True)
    assert decide(policy, attempt=attempt, method="POST", failure=failure, chance=chance) is None


@given(CHANCES, CHANCES, st.integers(1, 4))
def test_jitter_spreads_over_the_whole_wait(one: float, other: float, attempt: int) -> None:
    """From nothing to the full wait, in proportion to chance; on a `Retry-After` it only adds."""
    policy = RetryPolicy()
    full = 0.5 * 2 ** (attempt - 1)

    def wait(chance: float, failure: Failure = ANSWERED) -> float:
        delay = decide(policy, attempt=attempt, method="GET", failure=failure, chance=chance)
        assert delay is not None
        return delay

    assert wait(one) == full * one
    assert (wait(one) <= wait(other)) == (one <= other) or full * one == full * other
    asked = Failure(reason="429", retry_after=7.0)
    assert 7.0 <= wait(one, asked) <= 7.0 + full


def test_waits_without_jitter_grow_to_the_longest() -> None:
    """Doubling, then level, for as many attempts as one likes."""
    policy = RetryPolicy(attempts=10_000, base_delay=1.0, max_delay=10.0, jitter=False)
    waits = [
        decide(policy, attempt=n, method="GET", failure=LOST, chance=0.0) for n in (1, 2, 3, 4, 5, 9_999)
    ]
    assert waits == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


# --- The policy ------------------------------------------------------------------------------------


def test_the_default_policy_is_the_documented_one() -> None:
    """Five attempts, half a second doubled up to thirty, with jitter; a value that pickles."""
    policy = RetryPolicy()
    assert attrs.astuple(policy) == (5, 0.5, 30.0, True)
    assert pickle.loads(pickle.dumps(policy)) == policy == RetryPolicy(attempts=5)  # noqa: S301 - our own
    assert hash(policy) == hash(RetryPolicy())
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        policy.attempts = 6  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attempts": 0}, r"^RetryPolicy\.attempts must be a finite number of at least 1, got 0$"),
        ({"attempts": 10**400}, r"^RetryPolicy\.attempts "),
        ({"base_delay": -0.1}, r"^RetryPolicy\.base_delay must be a finite number of at least 0, got -0\.1$"),
        ({"base_delay": float("nan")}, r"^RetryPolicy\.base_delay "),
        ({"max_delay": float("inf")}, r"^RetryPolicy\.max_delay "),
        ({"max_delay": 10**400}, r"^RetryPolicy\.max_delay "),
    ],
)
def test_numbers_out_of_range_are_named(fields: dict[str, Any], message: str) -> None:
    """With the field, the bound and the value."""
    with pytest.raises(ValueError, match=message):
        RetryPolicy(**fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"attempts": 2.5}, r"^RetryPolicy\.attempts must be an integer, got 2\.5$"),
        ({"attempts": "3"}, r"^RetryPolicy\.attempts must be an integer, got '3'$"),
        ({"attempts": True}, r"^RetryPolicy\.attempts must be a number, got True$"),
        ({"base_delay": "1"}, r"^RetryPolicy\.base_delay must be a number, got '1'$"),
        ({"jitter": 1}, r"^RetryPolicy\.jitter must be True or False, got 1$"),
        ({"jitter": "no"}, r"^RetryPolicy\.jitter must be True or False, got 'no'$"),
        ({"max_delay": None}, r"^RetryPolicy\.max_delay must be a number, got None$"),
    ],
)
def test_fields_of_the_wrong_type_are_named(fields: dict[str, Any], message: str) -> None:
    """Text is no number, and half an attempt is none."""
    with pytest.raises(TypeError, match=message):
        RetryPolicy(**fields)


def test_nought_is_a_delay() -> None:
    """A test may want its retries at once."""
    policy = RetryPolicy(attempts=1, base_delay=0, max_delay=0)
    assert decide(policy, attempt=1, method="GET", failure=LOST, chance=0.5) is None
    policy = attrs.evolve(policy, attempts=2)
    assert decide(policy, attempt=1, method="GET", failure=LOST, chance=0.5) == 0.0


# --- The budget ------------------------------------------------------------------------------------


def test_a_budget_runs_out_and_is_refilled_by_success() -> None:
    """As many retries as it holds, then one for each success, and never more than it holds."""
    budget = RetryBudget(capacity=3)
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]
    budget.give()
    assert [budget.take() for _ in range(2)] == [True, False]
    for _ in range(10):
        budget.give()
    assert [budget.take() for _ in range(5)] == [True, True, True, False, False]


@given(st.lists(st.booleans()), st.integers(1, 5))
def test_a_budget_never_lends(steps: list[bool], capacity: int) -> None:
    """Retries never exceed the capacity plus the successes before them."""
    budget = RetryBudget(capacity=capacity)
    retries = successes = 0
    for success in steps:
        if success:
            budget.give()
            successes += 1
        else:
            retries += budget.take()
        assert retries <= capacity + successes


# --- Retry-After -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        (" 2 ", 2.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("-5", 0.0),
        ("86400", 86_400.0),
        ("Sat, 07 Nov 2026 05:32:26 GMT", 30.0),
        ("Sat, 07 Nov 2026 07:32:26 +0200", 30.0),
        ("Sat, 07 Nov 2026 05:32:26 -0000", 30.0),
        ("Saturday, 07-Nov-26 05:32:26 GMT", 30.0),
        ("Sat Nov  7 05:32:26 2026", 30.0),
        ("Sat, 07 Nov 2026 05:31:26 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("9" * 400, None),
        ("2, 3", None),
        ("Sat, 99 Nov 2026 05:32:26 GMT", None),
        ("Sat, 07 Nov 2026 05:32:26 +9999", None),
        ("Sat, 07 Nov 99999 05:32:26 GMT", None),
        ("2026-11-07T05:32:26Z", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str | None, seconds: float | None) -> None:
    """The three kinds of date that HTTP knows; what lies in the past is now; anything else is nothing."""
    assert parse_retry_after(value, now=NOW.timestamp()) == seconds


@given(st.integers(-(10**6), 10**9), st.integers(-1439, 1439))
def test_every_date_is_counted_from_now(seconds: int, minutes: int) -> None:
    """In whatever zone it is written."""
    moment = (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=minutes)))
    assert parse_retry_after(format_datetime(moment), now=NOW.timestamp()) == max(0, seconds)


@given(
    ANY_TEXT
    | st.lists(
        st.sampled_from(["Sat,", "07", "Nov", "2026", "05:32:26", "+0000", "GMT", "-", ":", "9999", "0"])
    ).map(" ".join),
    st.floats(0, 4e9),
)
def test_no_header_breaks_the_reading(value: str, now: float) -> None:
    """Whatever a server sends, the outcome is a finite number of seconds or nothing."""
    seconds = parse_retry_after(value, now=now)
    assert seconds is None or 0 <= seconds < float("inf")
