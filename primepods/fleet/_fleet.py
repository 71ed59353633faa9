"""The figures of a fleet, kept up to date by the changes of its pods."""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import attrs

from ..models import Pod, PodChange, PodState, PodStatus
from ._states import Condition, condition_of

_ORDER: Final = {condition: number for number, condition in enumerate(Condition)}
_MOST_GONE: Final = 1_000
"""Pods that are gone of which more than the number and the cost is kept: a watch may go on for weeks."""
_MOST_SAMPLES: Final = 1_000
_FIRST_STEP: Final = timedelta(seconds=0.2)


@attrs.define(kw_only=True)
class FleetPod:
    """What is known of one pod of a fleet.

    Attributes:
        pod_id: Its id.
        pod: What the list says of it; ``None`` where only its id was given.
        status: Its newest status; ``None`` when it is gone, or not seen yet.
        condition: How it is; ``None`` while it has not been seen.
        price_hr: What it costs an hour as it is now, as far as the API says.
    """

    pod_id: str
    pod: Pod | None = None
    status: PodStatus | None = None
    condition: Condition | None = None
    price_hr: float = 0.0
    _spent: float = attrs.field(default=0.0, init=False)
    _since: datetime | None = attrs.field(default=None, init=False)

    @property
    def name(self) -> str:
        """Its name, or its id where it has none."""
        return (self.pod and self.pod.name) or self.pod_id

    def spent(self, now: datetime) -> float:
        """Return about what it has cost by ``now``: since its creation, if that is known."""
        hours = 0.0 if self._since is None else (now - self._since).total_seconds() / 3600
        return self._spent + self.price_hr * max(0.0, hours)

    def update(self, status: PodStatus | None, now: datetime) -> None:
        """Take in what has become of it."""
        created = None if self.pod is None else self.pod.created_at
        if self._since is None and created is not None:
            self._since = created
        else:
            self._spent, self._since = self.spent(now), now
        self.status, self.condition = status, condition_of(status)
        self.price_hr = self._price()

    def _price(self) -> float:
        if self.status is None or self.status.status == PodState.TERMINATED:
            return 0.0
        price = self.status.cost_per_hr
        if self.pod is not None:
            stopped = self.pod.stopped_price_hr if self.status.status == PodState.STOPPED else None
            price = next(known for known in (stopped, price, self.pod.price_hr) if known is not None)
        return price if price is not None and math.isfinite(price) else 0.0


@attrs.frozen(kw_only=True)
class FleetSample:
    """How many pods were in each condition from a moment on.

    Attributes:
        time: The moment.
        counts: Only what was not 0.
    """

    time: datetime
    counts: Mapping[Condition, int]


class Fleet:
    """How many pods there are, what they cost, and how that has changed; fed with the changes of a wait or
    a watch.

    ``fleet = Fleet(pods)``, then ``await client.pods.wait(pods, on_change=fleet.add)``, or
    :func:`~primepods.fleet.follow`. ``len(fleet)`` is the number of pods that are not gone, seen or not.

    Args:
        pods: Pods, or ids of pods, to expect.
        now: Tells the time; for tests.

    Attributes:
        version: Grows with each change: whether there is anything new to show.
        listed: Whether :func:`~primepods.fleet.follow` has read the list: before, no pods prove nothing.
        trouble: Why :func:`~primepods.fleet.follow` cannot read the list at present.
    """

    def __init__(self, pods: Iterable[Pod | str] = (), *, now: Callable[[], datetime] | None = None) -> None:
        self.version: int = 0
        self.listed: bool = False
        self.trouble: Exception | None = None
        self._now = now or _utc_now
        self._pods: dict[str, FleetPod] = {}
        self._gone: dict[str, FleetPod] = {}
        self._counts: Counter[Condition] = Counter()
        self._cost_per_hr = 0.0
        self._spent_by_forgotten = 0.0
        self._samples: list[FleetSample] = []
        self._step = _FIRST_STEP
        self.expect(pods)

    def expect(self, pods: Iterable[Pod | str]) -> list[str]:
        """Learn of pods before their first change.

        Args:
            pods: Pods, or ids; of those known, a pod adds what its id does not tell.

        Returns:
            The ids that were not known.
        """
        new: list[str] = []
        for item in pods:
            pod_id = item if isinstance(item, str) else item.id
            known = self._pods.get(pod_id) or self._gone.get(pod_id)
            if known is None:
                known = self._pods[pod_id] = FleetPod(pod_id=pod_id)
                new.append(pod_id)
            if not isinstance(item, str):
                known.pod = item
        self.version += bool(new)
        return new

    def add(self, change: PodChange) -> None:
        """Take in a change: for ``on_change``, or in a loop over a watch."""
        now, pod_id = self._now(), change.pod_id
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
            self._forget(now)
        self._sample(now)
        self.version += 1

    def __getitem__(self, pod_id: str) -> FleetPod:
        """Return a pod, also one that is gone; of those the newest 1,000 are kept.

        Raises:
            KeyError: It is none of them.
        """
        return self._pods[pod_id] if pod_id in self._pods else self._gone[pod_id]

    def __contains__(self, pod_id: str) -> bool:
        return pod_id in self._pods or pod_id in self._gone

    def __len__(self) -> int:
        return len(self._pods)

    def __repr__(self) -> str:
        parts = [f"{len(self)} pods", *(f"{count} {condition}" for condition, count in self.counts.items())]
        return f"<Fleet: {', '.join(parts)}, {self.cost_per_hr:.2f} an hour>"

    @property
    def counts(self) -> dict[Condition, int]:
        """How many pods are in each condition, in the order of :class:`Condition`; only what is not 0."""
        return {condition: count for condition in Condition if (count := self._counts[condition])}

    @property
    def unseen(self) -> int:
        """How many pods have not been seen yet."""
        return sum(pod.condition is None for pod in self._pods.values())

    @property
    def cost_per_hr(self) -> float:
        """What the pods cost an hour as they are now, as far as the API says."""
        # Not summed here, for those who show it at each change of ten thousand pods. Rounding leaves no debt.
        return max(0.0, self._cost_per_hr)

    @property
    def spent(self) -> float:
        """About what the pods have cost until now, those that are gone included.

        At their prices since their creation, or since they were first seen where only ids were given. The
        bill is in ``client.pods.history()``.
        """
        now = self._now()
        pods = (*self._pods.values(), *self._gone.values())
        return self._spent_by_forgotten + math.fsum(pod.spent(now) for pod in pods)

    @property
    def samples(self) -> tuple[FleetSample, ...]:
        """How the counts have changed until now; of a long time about 1,000 samples, and so less exactly."""
        return (*self._samples, FleetSample(time=self._now(), counts=self.counts)) if self._samples else ()

    def pods(self, most: int | None = None) -> list[FleetPod]:
        """Return the pods, those first that need looking at: as :class:`Condition` orders, then by name.

        Args:
            most: How many to return at most.
        """
        pods = [*self._pods.values(), *self._gone.values()]
        return heapq.nsmallest(len(pods) if most is None else most, pods, key=_rank)

    def _forget(self, now: datetime) -> None:
        while len(self._gone) > _MOST_GONE:
            self._spent_by_forgotten += self._gone.pop(next(iter(self._gone))).spent(now)

    def _sample(self, now: datetime) -> None:
        sample = FleetSample(time=now, counts=self.counts)
        if self._samples and now - self._samples[-1].time < self._step:
            self._samples[-1] = attrs.evolve(sample, time=self._samples[-1].time)
            return
        self._samples.append(sample)
        if len(self._samples) > _MOST_SAMPLES:
            self._samples = self._samples[::2]
            self._step *= 2


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _rank(pod: FleetPod) -> tuple[float, str, str]:
    # One that was not seen yet stands with those that are on their way.
    return (_ORDER[pod.condition or Condition.PENDING], pod.name, pod.pod_id)
