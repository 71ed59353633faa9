"""Counts of a fleet by condition, their history, and the cost, updated by the changes of its pods."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import attrs

from .._utils.money import money
from ..models import Pod, PodChange, PodState, PodStatus
from ._states import Condition, condition_of

_ORDER: Final = {condition: number for number, condition in enumerate(Condition)}
_MAX_GONE: Final = 1_000
"""Max gone pods to keep, since a watch may run for weeks. Older pods are only counted, with their cost."""
_MAX_SAMPLES: Final = 1_000
_MIN_SAMPLE_INTERVAL: Final = timedelta(seconds=0.2)


@attrs.define(kw_only=True)
class FleetPod:
    """State of one pod of a fleet.

    Attributes:
        pod_id: The pod's id.
        pod: The pod as listed; ``None`` if only its id is known.
        status: The pod's newest status; ``None`` if the pod is gone, or before its first change.
        condition: The pod's condition; ``None`` before its first change.
        price_hr: Current cost per hour, according to the API; 0 if unknown, terminated or gone.
    """

    pod_id: str
    pod: Pod | None = None
    status: PodStatus | None = None
    condition: Condition | None = None
    price_hr: float = 0.0
    _spent: float = attrs.field(default=0.0, init=False)
    """Cost until ``_spent_until``."""
    _spent_until: datetime | None = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """The pod's name, or its id if it has no name."""
        if self.pod is None or not self.pod.name:
            return self.pod_id
        return self.pod.name

    def spent(self, now: datetime) -> float:
        """Return the approximate cost until ``now``, from the pod's creation, or else its first change."""
        hours = 0.0 if self._spent_until is None else (now - self._spent_until).total_seconds() / 3600
        return self._spent + self.price_hr * max(0.0, hours)

    def update(self, status: PodStatus | None, now: datetime) -> None:
        """Set a new status, with its condition and price."""
        created_at = None if self.pod is None else self.pod.created_at
        is_first = self._spent_until is None
        if is_first and created_at is not None:
            # Assume that the first price has held since the pod's creation.
            self._spent_until = created_at
        else:
            # Add the cost at the previous price, which is 0 before the first status.
            self._spent = self.spent(now)
            self._spent_until = now
        self.status = status
        self.condition = condition_of(status)
        self.price_hr = self._price()

    def _price(self) -> float:
        if self.status is None or self.status.status == PodState.TERMINATED:
            return 0.0
        price = self.status.cost_per_hr
        if self.pod is not None:
            if price is None:
                price = self.pod.price_hr
            if self.status.status == PodState.STOPPED and self.pod.stopped_price_hr is not None:
                price = self.pod.stopped_price_hr
        return price if price is not None and math.isfinite(price) else 0.0


@attrs.frozen(kw_only=True)
class FleetSample:
    """Counts of pods by condition at one time.

    Attributes:
        time: Time of the counts.
        counts: Nonzero counts by condition.
    """

    time: datetime
    counts: Mapping[Condition, int]


class Fleet:
    """Counts, cost and history of pods, updated by the changes of a wait or a watch.

    Pass ``fleet.add`` as a callback, as in ``await client.pods.wait(pods, on_change=fleet.add)``, or use
    :func:`~primepods.fleet.follow`. ``len(fleet)`` is the number of pods that are not gone.

    Args:
        pods: Expected pods, or their ids.
        now: Function that returns the current time, for tests.

    Attributes:
        version: Number that increases when pods are added or change, or ``listed`` becomes true.
        listed: Whether :func:`~primepods.fleet.follow` has read the list of pods, at least in part.
        trouble: Error of the latest reading of the list by :func:`~primepods.fleet.follow`, or ``None``.
    """

    def __init__(self, pods: Iterable[Pod | str] = (), *, now: Callable[[], datetime] | None = None) -> None:
        self.version: int = 0
        self.listed: bool = False
        self.trouble: Exception | None = None
        self._now = now or partial(datetime.now, UTC)
        self._pods: dict[str, FleetPod] = {}
        self._gone: dict[str, FleetPod] = {}
        self._counts: Counter[Condition] = Counter()
        self._cost_per_hr = 0.0
        self._spent_by_forgotten = 0.0
        self._samples: list[FleetSample] = []
        self._sample_interval = _MIN_SAMPLE_INTERVAL
        self.expect(pods)

    def expect(self, pods: Iterable[Pod | str]) -> list[str]:
        """Add pods before their first change, or replace the data of known pods.

        Args:
            pods: Pods, or ids; an id leaves the data of a known pod unchanged.

        Returns:
            The ids of added pods.
        """
        new: list[str] = []
        has_changed = False
        for item in pods:
            pod_id = item if isinstance(item, str) else item.id
            fleet_pod = self._pods.get(pod_id) or self._gone.get(pod_id)
            if fleet_pod is None:
                fleet_pod = FleetPod(pod_id=pod_id)
                self._pods[pod_id] = fleet_pod
                new.append(pod_id)
            if not isinstance(item, str) and item != fleet_pod.pod:
                fleet_pod.pod = item
                has_changed = True
        if new or has_changed:
            self.version += 1
        return new

    def add(self, change: PodChange) -> None:
        """Apply a change; use it as ``on_change``, or in a loop over a watch."""
        now = self._now()
        pod_id = change.pod_id
        pod = self._pods.get(pod_id) or self._gone.pop(pod_id, None) or FleetPod(pod_id=pod_id)
        self._pods[pod_id] = pod
        if pod.condition is not None:
            self._counts[pod.condition] -= 1
        self._cost_per_hr -= pod.price_hr
        pod.update(change.after, now)
        self._cost_per_hr += pod.price_hr
        self._counts[condition_of(change.after)] += 1
        if change.after is None:
            self._gone[pod_id] = self._pods.pop(pod_id)
            if len(self._gone) > _MAX_GONE:
                oldest_id = next(iter(self._gone))
                self._spent_by_forgotten += self._gone.pop(oldest_id).spent(now)
        self._add_sample(now)
        self.version += 1

    def __getitem__(self, pod_id: str) -> FleetPod:
        """Return a pod of the fleet, which may be one of the last 1,000 gone pods.

        Raises:
            KeyError: The fleet does not have this pod.
        """
        return self._pods[pod_id] if pod_id in self._pods else self._gone[pod_id]

    def __contains__(self, pod_id: str) -> bool:
        return pod_id in self._pods or pod_id in self._gone

    def __len__(self) -> int:
        return len(self._pods)

    def __repr__(self) -> str:
        parts = [f"{len(self)} pods", *(f"{count} {condition}" for condition, count in self.counts.items())]
        return f"<Fleet: {', '.join(parts)}, {money(self.cost_per_hr)} an hour>"

    @property
    def counts(self) -> dict[Condition, int]:
        """Nonzero counts of pods by condition, in the order of :class:`Condition`."""
        return {condition: count for condition in Condition if (count := self._counts[condition])}

    @property
    def unseen(self) -> int:
        """Number of expected pods that have not had a change."""
        return sum(pod.condition is None for pod in self._pods.values())

    @property
    def cost_per_hr(self) -> float:
        """The pods' current cost per hour, according to the API."""
        # A running total, since callers may read it at every change. Rounding errors can make it negative.
        return max(0.0, self._cost_per_hr)

    @property
    def spent(self) -> float:
        """The approximate cost of all pods until now, including gone pods.

        The cost of each pod counts from its creation or, if unknown, from its first change. For the bill, see
        ``client.pods.history()``.
        """
        now = self._now()
        pods = (*self._pods.values(), *self._gone.values())
        return self._spent_by_forgotten + math.fsum(pod.spent(now) for pod in pods)

    @property
    def samples(self) -> tuple[FleetSample, ...]:
        """History of the counts up to now, thinned to at most 1,001 samples."""
        if not self._samples:
            return ()
        return (*self._samples, FleetSample(time=self._now(), counts=self.counts))

    def pods(self, most: int | None = None) -> list[FleetPod]:
        """Return the pods, including the last 1,000 gone, in the order of :class:`Condition`, then by name.

        Args:
            most: Max number to return; ``None`` for all.
        """
        pods = [*self._pods.values(), *self._gone.values()]
        return heapq.nsmallest(len(pods) if most is None else most, pods, key=_rank)

    def _add_sample(self, now: datetime) -> None:
        sample = FleetSample(time=now, counts=self.counts)
        if self._samples and now - self._samples[-1].time < self._sample_interval:
            self._samples[-1] = attrs.evolve(sample, time=self._samples[-1].time)
            return
        self._samples.append(sample)
        if len(self._samples) > _MAX_SAMPLES:
            self._samples = self._samples[::2]
            self._sample_interval *= 2


def _rank(pod: FleetPod) -> tuple[float, str, str]:
    # Sort unseen pods with pending pods.
    return (_ORDER[pod.condition or Condition.PENDING], pod.name, pod.pod_id)
