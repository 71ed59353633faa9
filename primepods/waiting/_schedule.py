"""When each pod is asked for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

import attrs

from .._utils.clock import Clock

JITTER: Final = 0.1
"""Part of an interval by which a tick may come late."""
_GATHER: Final = 0.05
"""Part of an interval for which newcomers are gathered."""
_LONGEST_SLEEP: Final = 60.0


@attrs.define
class _Interval:
    """The pods that somebody wants to be asked for at one interval, and when that is.

    Attributes:
        interval: Seconds between two ticks.
        epoch: When the first subscription came; ticks are counted from here.
        ticks: Number of the next tick.
        next_at: When it is.
        subscriptions: How many want each pod at this interval.
    """

    interval: float
    epoch: float
    ticks: int = 0
    next_at: float = -math.inf
    subscriptions: dict[str, int] = attrs.field(factory=dict[str, int])

    def advance(self, now: float, chance: float) -> None:
        """Move to the next tick. Jitter delays a tick, not those after it; ticks that were missed are
        skipped.
        """
        self.ticks = max(self.ticks, int((now - self.epoch) / self.interval)) + 1
        self.next_at = self.epoch + (self.ticks + JITTER * chance) * self.interval


class PollSchedule:
    """Common ticks for all pods of an interval, and prompt looks for newcomers.

    Ticks are jittered as a whole and do not drift. A newcomer is asked for once promptly (those who come
    within a twentieth of an interval together), then joins the ticks.

    Args:
        clock: The clients' clock.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._intervals: dict[float, _Interval] = {}
        self._newcomers: dict[str, None] = {}
        self._newcomers_at = math.inf
        self._extra: dict[str, float] = {}

    def add(self, pod_ids: Iterable[str], interval: float) -> None:
        """Ask for pods soon, then at each tick of ``interval``."""
        now = self._clock.time()
        group = self._intervals.get(interval)
        if group is None:
            group = self._intervals[interval] = _Interval(interval, now)
            group.advance(now, self._clock.random())
        self._newcomers_at = min(self._newcomers_at, now + _GATHER * interval)
        for pod_id in pod_ids:
            group.subscriptions[pod_id] = group.subscriptions.get(pod_id, 0) + 1
            self._newcomers[pod_id] = None

    def remove(self, pod_id: str, interval: float) -> None:
        """Undo :meth:`add` for one pod."""
        group = self._intervals[interval]
        group.subscriptions[pod_id] -= 1
        if not group.subscriptions[pod_id]:
            del group.subscriptions[pod_id]
        if not group.subscriptions:
            del self._intervals[interval]

    def ask_at(self, pod_id: str, when: float) -> None:
        """Ask for a pod at a time of its own, besides its ticks."""
        self._extra[pod_id] = when

    def forget(self, pod_id: str) -> None:
        """Owe a pod no prompt look any more: it has had its own, or nobody waits for it."""
        self._newcomers.pop(pod_id, None)
        self._extra.pop(pod_id, None)

    def retry_newcomer(self, pod_id: str) -> bool:
        """Ask at once for a pod that came while a request for it was under way; tell whether it did."""
        if pod_id not in self._newcomers:
            return False
        self._newcomers_at = -math.inf
        return True

    def next_at(self) -> float:
        """Return when something is due."""
        # Without an interval nobody waits: the hub is about to end.
        idle = self._clock.time() + _LONGEST_SLEEP
        ticks = (group.next_at for group in self._intervals.values())
        return min([idle, self._newcomers_at, *ticks, *self._extra.values()])

    def take_due(self) -> dict[str, None]:
        """Return the pods that are due, and move on to the next ticks."""
        now = self._clock.time()
        due = self._due_intervals(now)
        pod_ids = dict.fromkeys(pod_id for group in due for pod_id in group.subscriptions)
        if due or self._newcomers_at <= now:
            pod_ids |= self._newcomers
            self._newcomers_at = math.inf
        if self._extra:
            pod_ids |= dict.fromkeys(pod_id for pod_id, when in self._extra.items() if when <= now)
        return pod_ids

    def _due_intervals(self, now: float) -> list[_Interval]:
        """Return the intervals whose tick is due, and those whose tick nearly is, so that they share
        requests.
        """
        groups = self._intervals.values()
        if all(group.next_at > now for group in groups):
            return []
        due = [group for group in groups if group.next_at <= now + JITTER * group.interval]
        for group in due:
            group.advance(now, self._clock.random())
        return due
