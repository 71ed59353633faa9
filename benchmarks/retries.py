"""Retries in and after an outage, by our rules and by those of AWS's SDKs, on simulated time.

    python -m benchmarks.retries [--processes 50]

In each process, eight callers send a request a second, one after the other. During the outage, the API
responds with 503; afterwards it serves up to 150 % of what all callers ask for, and responds with 503 beyond
that. Both rules wait as `RetryPolicy` says; they differ in the number of attempts and in the budget. Those of
AWS: three attempts; 500 tokens, of which a retry takes 14, and a success gives back what its last retry took,
or 1.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import random
from collections import Counter
from typing import Any

from primepods import RetryPolicy
from primepods._http.backoff import RetryBudget
from primepods._utils.clock import Clock

_CALLERS = 8
_PAUSE = 1.0
_BEGIN = 30.0
_AFTER = 60.0
"""Seconds to simulate after the outage."""
_POLICY = RetryPolicy()
HEAD = (
    "| outage | rules | requests in it | peak a second | failed calls | last caller served after |\n"
    "|---:|---|---:|---:|---:|---:|"
)


class SimulatedClock(Clock):
    """A clock that the simulation sets."""

    now = 0.0

    def time(self) -> float:
        """Return the simulated time."""
        return self.now


class Ours:
    """The rules of primepods, for one process."""

    attempts = _POLICY.attempts

    def __init__(self, clock: Clock) -> None:
        self._budget = RetryBudget(clock)

    def may_retry(self) -> bool:
        """Take what a retry costs, if it is there."""
        return self._budget.take("GET")

    def succeed(self, *, is_retry: bool) -> None:
        """Give back what a success gives."""
        del is_retry
        self._budget.give()


class Aws:
    """The rules of AWS's SDKs, for one process."""

    attempts = 3
    _max_tokens, _cost = 500, 14

    def __init__(self, clock: Clock) -> None:
        del clock
        self._tokens = self._max_tokens

    def may_retry(self) -> bool:
        """Take what a retry costs, if it is there."""
        if self._tokens < self._cost:
            return False
        self._tokens -= self._cost
        return True

    def succeed(self, *, is_retry: bool) -> None:
        """Give back what a success gives."""
        self._tokens = min(self._max_tokens, self._tokens + (self._cost if is_retry else 1))


def simulate(kind: type[Ours | Aws], processes: int, seconds: float) -> dict[str, Any]:
    """Return the requests in an outage, their peak, the failed calls, and the time until all are served."""
    rng, clock, numbers = random.Random(7), SimulatedClock(), itertools.count()
    rules = [kind(clock) for _ in range(processes)]
    callers = [number // _CALLERS for number in range(processes * _CALLERS)]
    capacity = 1.5 * len(callers) / _PAUSE
    # Time of the next request, an order for equal times, its caller, and the number of its attempt.
    queue = [(rng.uniform(0, _PAUSE), next(numbers), caller, 1) for caller in range(len(callers))]
    heapq.heapify(queue)
    per_second: Counter[int] = Counter()
    served_at: dict[int, float] = {}
    failed = 0
    end = _BEGIN + seconds
    while queue[0][0] < end + _AFTER:
        clock.now, _, caller, attempt = heapq.heappop(queue)
        per_second[int(clock.now)] += 1
        is_served = not _BEGIN <= clock.now < end and per_second[int(clock.now)] <= capacity
        rule, delay = rules[callers[caller]], rng.uniform(0.9, 1.1) * _PAUSE
        if is_served:
            rule.succeed(is_retry=attempt > 1)
            if clock.now >= end:
                served_at.setdefault(caller, clock.now - end)
            attempt = 0
        elif attempt < rule.attempts and rule.may_retry():
            delay = rng.uniform(0, min(_POLICY.max_delay, _POLICY.base_delay * 2 ** (attempt - 1)))
        else:
            attempt, failed = 0, failed + 1
        heapq.heappush(queue, (clock.now + delay, next(numbers), caller, attempt + 1))
    assert len(served_at) == len(callers)
    return {
        "requests": sum(count for second, count in per_second.items() if _BEGIN <= second < end),
        "peak": max(per_second.values()),
        "failed": failed,
        "served": max(served_at.values()),
    }


def main() -> None:
    """Simulate both rules, and print the table."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks.retries",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--processes", type=int, default=50)
    options = parser.parse_args()
    print(HEAD)
    rules: dict[str, type[Ours | Aws]] = {"primepods": Ours, "AWS": Aws}
    for seconds, (name, kind) in itertools.product((3.0, 60.0), rules.items()):
        got = simulate(kind, options.processes, seconds)
        cells = (f"{got['requests']:,}", f"{got['peak']:,}", f"{got['failed']:,}", f"{got['served']:.1f} s")
        print(f"| {seconds:.0f} s | {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
