"""How a pod boots: a timeline drawn once at its birth, after that a pure function of its age.

Nothing here waits or remembers: the state of ten thousand pods at any moment follows from their timelines and
the clock, so that two runs with the same seed agree and a manual clock can jump.
"""

from bisect import bisect_right
from random import Random

from attrs import evolve, frozen

from .catalog import FAILURES_EARLY, FAILURES_INSTALL, HICCUPS

PROVISIONING = "PROVISIONING"
PENDING = "PENDING"
ACTIVE = "ACTIVE"
ERROR = "ERROR"
DELETING = "DELETING"
TERMINATED = "TERMINATED"
FINISHED = "FINISHED"

SLOWEST = 3.0
"""No boot takes longer than this many times `boot_seconds`."""
FASTEST = 0.3
PAUSE = 0.2
"""Share of a failed attempt's time that passes before the next one."""
EARLY = 0.3
"""Share of the failing boots that never get a machine."""


@frozen(kw_only=True)
class Stage:
    """What a pod is at one moment."""

    status: str
    installation: str
    progress: int | None = None
    failure: str | None = None
    addressed: bool = False
    """Whether the pod has its addresses."""
    since: float = 0.0
    """The pod's age in seconds at which it got into this stage."""


@frozen
class Step:
    """From age `at` (seconds) on the pod is in `stage`.

    Its progress grows to `progress_to` until the next step.
    """

    at: float
    stage: Stage
    progress_to: int | None = None


Timeline = tuple[Step, ...]


def stage_at(timeline: Timeline, age: float) -> Stage:
    """The stage at `age` seconds after birth."""
    index = max(0, bisect_right(timeline, age, key=_begins) - 1)
    step = timeline[index]
    if step.progress_to is None or index + 1 == len(timeline):
        return step.stage
    start = step.stage.progress or 0
    share = (age - step.at) / (timeline[index + 1].at - step.at)
    return evolve(step.stage, progress=start + int((step.progress_to - start) * share))


def _begins(step: Step) -> float:
    return step.at


def draw_duration(rng: Random, boot_seconds: float, factor: float) -> float:
    """A boot time in seconds.

    Log-normal around `boot_seconds * factor`, within 0.3 to 3 times `boot_seconds`.
    """
    drawn = boot_seconds * factor * rng.lognormvariate(0.0, 0.35)
    return min(max(drawn, FASTEST * boot_seconds), SLOWEST * boot_seconds)


@frozen(kw_only=True)
class _Marks:
    """Ages at which the machine is found, is up, and is installed."""

    pending: float
    active: float
    ready: float


def _marks(rng: Random, duration: float) -> _Marks:
    pending = duration * rng.uniform(0.15, 0.3)
    return _Marks(pending=pending, active=pending + duration * rng.uniform(0.05, 0.2), ready=duration)


def _waiting(marks: _Marks) -> list[Step]:
    return [
        Step(0.0, Stage(status=PROVISIONING, installation=PENDING)),
        Step(marks.pending, Stage(status=PENDING, installation=PENDING, since=marks.pending)),
    ]


def ready(since: float = 0.0) -> Step:
    """The pod is up and installed from age `since` on."""
    stage = Stage(status=ACTIVE, installation=FINISHED, progress=100, addressed=True, since=since)
    return Step(since, stage)


def installing(since: float, progress_to: int, failure: str | None = None) -> Step:
    """The pod is up from age `since` on and its installation moves from 0 to `progress_to` percent."""
    stage = Stage(
        status=ACTIVE, installation=ACTIVE, progress=0, failure=failure, addressed=True, since=since
    )
    return Step(since, stage, progress_to)


def failed(since: float, failure: str) -> Step:
    """The pod is broken for good from age `since` on."""
    return Step(since, Stage(status=ERROR, installation=ERROR, failure=failure, since=since))


def boots(rng: Random, duration: float) -> Timeline:
    """PROVISIONING, PENDING, ACTIVE with installation progress, FINISHED after `duration` seconds (0.

    At once).
    """
    if duration <= 0:
        return (ready(),)
    marks = _marks(rng, duration)
    return (*_waiting(marks), installing(marks.active, 100), ready(marks.ready))


def recovers(rng: Random, duration: float, retries: int) -> Timeline:
    """A boot whose installation fails `retries` times, is retried by the platform, and succeeds.

    While an attempt has failed, the installation is in ERROR; while the next one runs, the text of the
    failure stays. All within `duration` seconds.
    """
    if duration <= 0:
        return (ready(),)
    marks = _marks(rng, duration)
    attempt = (marks.ready - marks.active) / (retries + 1)
    steps = _waiting(marks)
    failure: str | None = None
    for number in range(retries):
        begin = marks.active + number * attempt
        reached = rng.randint(5, 80)
        steps.append(installing(begin, reached, failure))
        failure = rng.choice(HICCUPS)
        steps.append(_hiccup(begin + attempt * (1 - PAUSE), failure))
    return (*steps, installing(marks.ready - attempt, 100, failure), ready(marks.ready))


def _hiccup(since: float, failure: str) -> Step:
    stage = Stage(status=ACTIVE, installation=ERROR, failure=failure, addressed=True, since=since)
    return Step(since, stage)


def breaks(rng: Random, duration: float, failure: str | None = None) -> Timeline:
    """A boot that ends in ERROR within `duration` seconds, with `failure` or a drawn text as its reason."""
    marks = _marks(rng, duration)
    early = rng.random() < EARLY
    text = failure if failure is not None else rng.choice(FAILURES_EARLY if early else FAILURES_INSTALL)
    if duration <= 0:
        return (failed(0.0, text),)
    if early:
        return (*_waiting(marks), failed(marks.active, text))
    reached = rng.randint(5, 90)
    at = marks.active + (marks.ready - marks.active) * reached / 100
    return (*_waiting(marks), installing(marks.active, reached), failed(at, text))


def deleting(before: Stage, since: float) -> Stage:
    """The stage of a pod that was in stage `before` when it was deleted, at age `since`."""
    return evolve(before, status=DELETING, addressed=False, since=since)
