"""Boot timelines, drawn when a pod is created. The stage of a boot is a pure function of the pod's age."""

from __future__ import annotations

from bisect import bisect_right
from operator import attrgetter
from random import Random

import attrs

from .catalog import FAILURES_EARLY, FAILURES_INSTALL, FAILURES_RETRIED

PROVISIONING = "PROVISIONING"
PENDING = "PENDING"
ACTIVE = "ACTIVE"
ERROR = "ERROR"
DELETING = "DELETING"
TERMINATED = "TERMINATED"
FINISHED = "FINISHED"

MAX_BOOT = 3.0
"""The longest drawn boot, in multiples of ``boot_seconds``."""
MIN_BOOT = 0.3
"""The shortest drawn boot, in multiples of ``boot_seconds``."""
PAUSE_SHARE = 0.2
"""Pause before the next attempt, as a share of the time from one attempt to the next."""
EARLY_FAILURE_SHARE = 0.3
"""Share of failing boots whose machine never comes up."""


@attrs.frozen(kw_only=True)
class Stage:
    """State of a pod at one time."""

    status: str
    installation: str
    progress: int | None = None
    failure: str | None = None
    addressed: bool = False
    """``True`` if the pod has addresses."""
    since: float = 0.0
    """The pod's age in seconds when this stage began."""


@attrs.frozen
class Step:
    """Step of a timeline. At the age of ``at`` seconds, ``stage`` begins.

    The progress of the stage grows to ``progress_to`` until the next step.
    """

    at: float
    stage: Stage
    progress_to: int | None = None


Timeline = tuple[Step, ...]


def stage_at(timeline: Timeline, age: float) -> Stage:
    index = max(0, bisect_right(timeline, age, key=attrgetter("at")) - 1)
    step = timeline[index]
    if step.progress_to is None or index + 1 == len(timeline):
        return step.stage
    start = step.stage.progress or 0
    share = (age - step.at) / (timeline[index + 1].at - step.at)
    return attrs.evolve(step.stage, progress=start + int((step.progress_to - start) * share))


def draw_duration(rng: Random, boot_seconds: float, factor: float) -> float:
    """Draw a boot time around ``boot_seconds * factor``, limited by ``MIN_BOOT`` and ``MAX_BOOT``."""
    duration = boot_seconds * factor * rng.lognormvariate(0.0, 0.35)
    return min(max(duration, MIN_BOOT * boot_seconds), MAX_BOOT * boot_seconds)


def successful_boot(rng: Random, duration: float, retries: int) -> Timeline:
    """Return a boot of ``duration`` seconds; its installation fails ``retries`` times before it succeeds.

    After a failed attempt, the installation is in ERROR; during the next attempt, the failure text stays.
    """
    if duration <= 0:
        return (_ready(0.0),)
    pending, active = _draw_ages(rng, duration)
    attempt_seconds = (duration - active) / (retries + 1)
    steps = _waiting(pending)
    failure: str | None = None
    for number in range(retries):
        begun_at = active + number * attempt_seconds
        steps.append(_installing(begun_at, rng.randint(5, 80), failure))
        failure = rng.choice(FAILURES_RETRIED)
        failed_at = begun_at + attempt_seconds * (1 - PAUSE_SHARE)
        failed = Stage(status=ACTIVE, installation=ERROR, failure=failure, addressed=True, since=failed_at)
        steps.append(Step(failed_at, failed))
    return (*steps, _installing(active + retries * attempt_seconds, 100, failure), _ready(duration))


def failed_boot(rng: Random, duration: float, failure: str | None = None) -> Timeline:
    """Return a boot that ends in ERROR within ``duration`` seconds, with ``failure`` or a drawn text."""
    pending, active = _draw_ages(rng, duration)
    is_early = rng.random() < EARLY_FAILURE_SHARE
    if failure is None:
        failure = rng.choice(FAILURES_EARLY if is_early else FAILURES_INSTALL)
    if duration <= 0:
        return (_failed(0.0, failure),)
    if is_early:
        return (*_waiting(pending), _failed(active, failure))
    progress = rng.randint(5, 90)
    failed_at = active + (duration - active) * progress / 100
    return (*_waiting(pending), _installing(active, progress), _failed(failed_at, failure))


def _draw_ages(rng: Random, duration: float) -> tuple[float, float]:
    """Draw the ages at which a machine is found (PENDING) and is up (ACTIVE)."""
    pending = duration * rng.uniform(0.15, 0.3)
    return pending, pending + duration * rng.uniform(0.05, 0.2)


def _waiting(pending: float) -> list[Step]:
    """Return the steps before the machine is up; ``pending`` is the age at which it is found."""
    return [
        Step(0.0, Stage(status=PROVISIONING, installation=PENDING)),
        Step(pending, Stage(status=PENDING, installation=PENDING, since=pending)),
    ]


def _ready(since: float) -> Step:
    stage = Stage(status=ACTIVE, installation=FINISHED, progress=100, addressed=True, since=since)
    return Step(since, stage)


def _installing(since: float, progress_to: int, failure: str | None = None) -> Step:
    stage = Stage(
        status=ACTIVE, installation=ACTIVE, progress=0, failure=failure, addressed=True, since=since
    )
    return Step(since, stage, progress_to)


def _failed(since: float, failure: str) -> Step:
    return Step(since, Stage(status=ERROR, installation=ERROR, failure=failure, since=since))
