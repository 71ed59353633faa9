"""Schedule of the polls of pods."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Final

import attrs

from .._utils.clock import Clock
from ._watched_pod import WatchedPod

if TYPE_CHECKING:
    from .subscription import Subscription

JITTER: Final = 0.1
"""Max random delay of a tick, as a fraction of its interval (chosen)."""
_MAX_ADVANCE: Final = 0.1
"""Max fraction of its interval by which a tick is early, to share another tick's requests (chosen)."""
_GATHER_TIME: Final = 0.05
"""Delay of a first poll, so that new subscriptions share it; a fraction of the interval (chosen)."""
_MAX_GATHER_TIME: Final = 0.25
"""Max seconds of this delay (chosen)."""
_MAX_SLEEP: Final = 60.0
"""Max seconds until the poller looks for due pods again (chosen)."""


@attrs.define
class _IntervalGroup:
    """Subscriptions with the same interval, and the times of their polls.

    Attributes:
        interval: Seconds between two ticks.
        epoch: Time of the first subscription; tick ``n`` is due ``n`` intervals later.
        next_tick: Number of the next tick.
        next_at: Time of the next tick, with its random delay.
        subscriptions: The subscriptions, in the order in which they were added.
    """

    interval: float
    epoch: float
    next_tick: int = 0
    next_at: float = -math.inf
    subscriptions: dict[Subscription, None] = attrs.field(factory=dict["Subscription", None])

    def advance(self, now: float, *, rand: float) -> None:
        """Advance past the current tick, to the next one after ``now``.

        Missed ticks are skipped. A late tick does not delay the next ones.
        """
        self.next_tick = max(self.next_tick, int((now - self.epoch) / self.interval)) + 1
        self.next_at = self.epoch + (self.next_tick + JITTER * rand) * self.interval


class PollSchedule:
    """The pods that are due for a poll, and the time of the next poll.

    A pod without a request in flight is due:

    - once, promptly after a subscription; subscriptions within a short time are polled together;
    - at each tick of a subscription's interval, or a little earlier with a tick of another interval;
    - once at the time of an extra poll, which follows a refusal or a rate limit.

    A pod with a request in flight misses a tick. It does not miss a first or extra poll: this is sent when
    the request has ended.

    Attributes:
        changed: Set when a poll may be due earlier than before, and when the poller has no subscription left.
    """

    def __init__(self, clock: Clock) -> None:
        self.changed: asyncio.Event = asyncio.Event()
        self._clock = clock
        self._intervals: dict[float, _IntervalGroup] = {}
        # Only `remove_from_queue` removes pods from these two dicts: a pod in flight stays due.
        self._new_pods: dict[WatchedPod, None] = {}
        self._extra_polls: dict[WatchedPod, float] = {}
        self._new_pods_at = math.inf
        """Time of the next poll of the new pods; infinite if none is scheduled."""

    def add(self, subscription: Subscription) -> None:
        """Schedule a prompt poll of the subscription's pods, then polls at the ticks of its interval."""
        now = self._clock.time()
        interval = subscription.interval
        group = self._intervals.get(interval)
        if group is None:
            group = _IntervalGroup(interval, epoch=now)
            group.advance(now, rand=self._clock.random())
            self._intervals[interval] = group
        group.subscriptions[subscription] = None
        self._new_pods |= dict.fromkeys(subscription.pods.values())
        self._new_pods_at = min(self._new_pods_at, now + min(_GATHER_TIME * interval, _MAX_GATHER_TIME))
        self.changed.set()

    def remove(self, subscription: Subscription) -> None:
        """Remove a subscription from its interval. The caller cancels the extra polls of its pods."""
        group = self._intervals[subscription.interval]
        del group.subscriptions[subscription]
        if not group.subscriptions:
            del self._intervals[subscription.interval]

    def poll_at(self, pod: WatchedPod, when: float) -> None:
        """Schedule or move the extra poll of a pod; ignore a pod whose last subscription has left."""
        if pod.subscriptions:
            self._extra_polls[pod] = when
            self.changed.set()

    def remove_from_queue(self, pod: WatchedPod) -> None:
        """Forget the first and the extra poll of a pod that is polled now or has no subscription left."""
        self._new_pods.pop(pod, None)
        self._extra_polls.pop(pod, None)

    def release(self, pod: WatchedPod) -> None:
        """Record that a pod's request has ended; schedule a first or extra poll that waited for it."""
        pod.poll.in_flight = False
        if pod in self._new_pods:
            self._new_pods_at = -math.inf
            self.changed.set()
        elif pod in self._extra_polls:
            # `next_at` ignored its extra poll while the pod was in flight.
            self.changed.set()

    def next_at(self) -> float:
        """Return the time of the next poll, or an earlier time at which to ask again."""
        max_sleep_ends_at = self._clock.time() + _MAX_SLEEP
        tick_times = (group.next_at for group in self._intervals.values())
        extra_times = (when for pod, when in self._extra_polls.items() if not pod.poll.in_flight)
        return min([max_sleep_ends_at, self._new_pods_at, *tick_times, *extra_times])

    def take_due(self) -> list[WatchedPod]:
        """Return the pods that are due, in polling order, and advance to the next ticks."""
        now = self._clock.time()
        due_groups: list[_IntervalGroup] = []
        if any(group.next_at <= now for group in self._intervals.values()):
            # Intervals whose tick is due soon share the requests.
            due_groups = [
                group
                for group in self._intervals.values()
                if group.next_at <= now + _MAX_ADVANCE * group.interval
            ]
        for group in due_groups:
            group.advance(now, rand=self._clock.random())
        pods: dict[WatchedPod, None] = {}
        for group in due_groups:
            for subscription in group.subscriptions:
                pods |= dict.fromkeys(subscription.pods.values())
        if due_groups or self._new_pods_at <= now:  # New pods join a tick that is due anyway.
            pods |= self._new_pods
            self._new_pods_at = math.inf
        pods |= dict.fromkeys(pod for pod, when in self._extra_polls.items() if when <= now)
        # The pods whose last poll failed come first, and of these the one that was polled longest ago.
        # Otherwise a rate limit would always leave out the same pods.
        return sorted(
            (pod for pod in pods if not pod.poll.in_flight),
            key=lambda pod: math.inf if pod.poll.error is None else pod.poll.sent_at,
        )
