"""Rules that select the requests to which a fault applies."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator
from fnmatch import fnmatchcase
from random import Random
from typing import Self

import attrs

from ._api.http import Request
from ._state.config import check_amount, validate_amount, validate_share
from ._state.randomness import random_for
from .clock import Clock
from .faults import Fault

_OPTIONAL_TEXT = attrs.validators.optional(attrs.validators.instance_of(str))


@attrs.frozen(kw_only=True)
class Conditions:
    """Conditions of a rule, as in ``FaultPlan.add``; ``start`` and ``end`` are times on the clock."""

    on: frozenset[str] | None
    path: str | None = attrs.field(validator=_OPTIONAL_TEXT)
    pod_id: str | None = attrs.field(validator=_OPTIONAL_TEXT)
    times: int | None = attrs.field(validator=attrs.validators.optional(validate_amount))
    skip: int = attrs.field(validator=validate_amount)
    probability: float = attrs.field(validator=validate_share)
    start: float
    end: float | None
    rate_limit: int = attrs.field(validator=validate_amount)
    window: float = attrs.field(validator=validate_amount)

    def matches(self, request: Request, operation: str | None, now: float) -> bool:
        """Return whether operation, path, pod and time match."""
        return (
            (self.on is None or operation in self.on)
            and (self.path is None or fnmatchcase(request.path, self.path))
            and (self.pod_id in {None, *request.path.split("/")} or ("pod_ids", self.pod_id) in request.query)
            and self.start <= now
            and (self.end is None or now < self.end)
        )


@attrs.define(kw_only=True, eq=False)
class Rule:
    """A fault and its conditions. As a context manager, it removes itself when the block ends."""

    number: int
    fault: Fault
    when: Conditions
    hits: int = 0
    """Number of requests affected so far."""
    _plan: FaultPlan = attrs.field(repr=False, alias="plan")
    _rng: Random = attrs.field(repr=False, alias="rng")
    _match_count: int = 0
    _recent_matches: deque[float] = attrs.field(factory=deque[float])

    def remove(self) -> None:
        """Remove the rule from its plan, if it has not been removed."""
        self._plan.remove(self)

    def count(self, request: Request, operation: str | None, now: float) -> bool:
        """Return whether the fault affects a request, and update the counts."""
        when = self.when
        if not when.matches(request, operation, now):
            return False
        if when.times is not None and self.hits >= when.times:
            return False
        self._match_count += 1
        if self._match_count <= when.skip:
            return False
        if when.rate_limit and self._count_within_rate_limit(now):
            return False
        if self._rng.random() >= when.probability:
            return False
        self.hits += 1
        return True

    def _count_within_rate_limit(self, now: float) -> bool:
        """Count a request if it is within the rate limit; return whether it is."""
        while self._recent_matches and self._recent_matches[0] <= now - self.when.window:
            self._recent_matches.popleft()
        if len(self._recent_matches) >= self.when.rate_limit:
            return False
        self._recent_matches.append(now)
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class FaultPlan:
    """All rules, in the order in which they were added; thread-safe."""

    def __init__(self, clock: Clock, operations: Collection[str], seed: int) -> None:
        self._clock = clock
        self._operations = operations
        self._seed = seed
        self._last_number = 0
        self._rules: list[Rule] = []
        self._lock = threading.Lock()

    def add(
        self,
        fault: Fault,
        *,
        on: str | Collection[str] | None = None,
        path: str | None = None,
        pod_id: str | None = None,
        times: int | None = None,
        skip: int = 0,
        probability: float = 1.0,
        after: float = 0.0,
        duration: float | None = None,
        rate_limit: int = 0,
        window: float = 1.0,
    ) -> Rule:
        """Apply ``fault`` to requests that match all conditions; return the rule, which counts hits.

        The first rule that applies decides the response, so several rules with ``times=1`` make a sequence.
        ``Delay``, ``Stale``, ``Rename``, ``DeadGpu`` and ``LostDeletion`` combine with the rules after them.

        Args:
            fault: The fault to inject.
            on: One or more operations: list, create, get, status, delete, log, history, gpus,
                gpu_summary, multi_node, multi_node_summary, disks (offers), ssh_keys, ssh_key_upload,
                ssh_key_delete, ssh_key_update, disk_list, disk_create, disk_get, disk_update, disk_delete,
                whoami, teams, team_members, wallet.
            path: Pattern of the request's path, as in ``fnmatch``; ``*`` also matches slashes.
            pod_id: The pod's id, in the path or among the ids of a status request.
            times: Max number of affected requests.
            skip: Number of matching requests to skip first.
            probability: Share of matching requests to affect; the emulator's seed decides which.
            after: Seconds from now until the rule is active.
            duration: Seconds for which the rule is then active; ``None`` for no limit.
            rate_limit: Max number of matching requests per ``window`` that are not affected; 0 to affect all.
            window: Length of the rate limit's window in seconds.

        Raises:
            ValueError: An operation is unknown, or a number is invalid.
        """
        check_amount("after", after)
        check_amount("duration", duration or 0.0)
        start = self._clock.now() + after
        when = Conditions(
            on=self._check_operations(on),
            path=path,
            pod_id=pod_id,
            times=times,
            skip=skip,
            probability=probability,
            start=start,
            end=None if duration is None else start + duration,
            rate_limit=rate_limit,
            window=window,
        )
        with self._lock:
            self._last_number += 1
            rng = random_for(self._seed, f"fault:{self._last_number}")
            rule = Rule(number=self._last_number, fault=fault, when=when, plan=self, rng=rng)
            self._rules.append(rule)
        return rule

    def remove(self, rule: Rule) -> None:
        """Remove a rule, if it has not been removed."""
        with self._lock:
            self._rules = [other for other in self._rules if other is not rule]

    def clear(self) -> None:
        """Remove all rules, and restart the numbers and the random numbers of later ones."""
        with self._lock:
            self._rules = []
            self._last_number = 0

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules[:])

    def __len__(self) -> int:
        return len(self._rules)

    def pick(self, request: Request, operation: str | None, now: float) -> list[Fault]:
        """Count a request, and return its faults. Only the ``outcome`` of the last one is used."""
        faults: list[Fault] = []
        with self._lock:
            for rule in self._rules:
                if rule.count(request, operation, now):
                    faults.append(rule.fault)
                    if rule.fault.is_last:
                        break
        return faults

    def _check_operations(self, on: str | Collection[str] | None) -> frozenset[str] | None:
        if on is None:
            return None
        names = frozenset({on} if isinstance(on, str) else on)
        unknown = ", ".join(sorted(names - set(self._operations)))
        if unknown:
            raise ValueError(f"there is no operation {unknown}; there are {', '.join(self._operations)}")
        return names
