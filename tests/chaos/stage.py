"""What a chaos run happens on: one seed, one clock, an emulated API, and a deck of faults."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any, TypeVar

import attrs

import primepods
from primepods import RetryPolicy
from primepods.emulator import (
    BadChunk,
    Cut,
    Delay,
    Drip,
    Edit,
    Empty,
    EmptyData,
    Emulator,
    Fault,
    Html,
    Redirect,
    Reset,
    Stale,
    Status,
    WrongLength,
)
from primepods.emulator._api.http import Request
from primepods.emulator.faults import Raw, Response
from primepods.waiting import _poller as polling
from tests.renting.stage import SharedClock
from tests.support.client import make_client
from tests.support.clock import ManualClock

T = TypeVar("T")

SHARE = 0.3
LAG = 7.0
"""Seconds by which a stale answer lags behind."""
AGE = 3_600.0
"""Seconds that the fleet has lived when a run begins: longer than any answer lags."""
HANGS = 30.0
"""Real seconds after which a run has hung; they take hundredths of one."""


@attrs.frozen
class Shut(Fault):
    """The connection is closed in good order, without an answer; with ``acted``, after the API did it."""

    acted: bool = False

    @property
    def reaches(self) -> bool:
        """Only if it acts."""
        return self.acted

    def outcome(self, response: Response) -> Raw:
        """Nothing."""
        del response
        return Raw(None)


@attrs.frozen
class HangUp(Fault):
    """A good answer on a connection to be kept, which is closed while it is idle."""

    def outcome(self, response: Response) -> Raw:
        """All of it."""
        head = f"HTTP/1.1 {response.status} X\r\nContent-Length: {len(response.body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in response.headers.items())
        return Raw(response.status, (head.encode() + b"\r\n" + response.body,))


@attrs.frozen
class Garbage(Fault):
    """The API acts; what comes back is no HTTP."""

    data: bytes = b"\x15\x03\x01\x00\x02\x02\x50"

    def outcome(self, response: Response) -> Raw:
        """Bytes of another protocol."""
        del response
        return Raw(None, (self.data,))


@attrs.frozen
class Circle(Fault):
    """The request is sent to the other spelling of its path, which the API sends back here."""

    @property
    def reaches(self) -> bool:
        """It is decided when the path is known."""
        return False


PASSING: tuple[Fault, ...] = (
    Reset(),
    Reset(acted=True),
    Shut(),
    Shut(acted=True),
    Cut(),
    Cut(0.0),
    WrongLength(7),
    WrongLength(-2),
    Status(500),
    Status(500, acted=True),
    Status(502),
    Status(503),
    Status(503, retry_after=2),
    Status(504, acted=True),
    Status(429),
    Status(429, retry_after=3.5),
    Status(404, text="404 page not found"),
    Status(404, text="", acted=True),
    Status(408),
    Status(425),
    Html(401),
    Html(403),
    Html(404, acted=True),
    Empty(),
    EmptyData(),
    EmptyData(null=True),
    Stale(LAG),
    Drip(4.0),
    Drip(60.0),
    Delay(3.0),
    Delay(45.0),
    BadChunk(),
    Garbage(),
    HangUp(),
)
"""What goes better when it is asked again."""


def _count(by: int) -> Edit:
    return Edit(lambda body: {**body, "total_count": max(0, body.get("total_count", 0) + by)})


LIES: dict[str, tuple[Fault, ...]] = {"list": (Edit(rows=1), Edit(rows=3), _count(-4), _count(7))}
"""By operation: answers that contradict the one before or themselves, and so are asked for again."""


def lasting(url: str, elsewhere: str) -> tuple[Fault, ...]:
    """What is not asked again: an answer that says that this is not the API, or to come back much later."""
    return (
        Html(),
        Html(acted=True),
        Circle(),
        Redirect(f"{elsewhere}/api/v1/pods/"),
        Redirect(f"//{elsewhere.partition('//')[2]}/api/v1/pods/", 302),
        Redirect(url.replace("http:", "https:") + "/api/v1/pods/"),
        Redirect("/api/v1/pods/other", 301),
        Status(429, retry_after=900),
    )


class Deck:
    """Decides what strikes each request: stands in for the emulator's own plan, with the run's seed.

    An answer that lies is not dealt to the same operation again before a true one: nobody could tell it from
    the truth.
    """

    def __init__(self, rng: Random, faults: tuple[Fault, ...]) -> None:
        self.share = 0.0
        self.dealt: list[str] = []
        """All requests, and what struck them: for whoever looks for what went wrong."""
        self.before: Callable[[], object] = bool
        """Called before each request is answered, to change the world."""
        self._rng = rng
        self._faults = faults
        self._lost: set[str | None] = set()

    def pick(self, request: Request, operation: str | None, now: float) -> list[Fault]:
        """Do what the plan's method of this name does."""
        self.before()
        fault = self._draw(operation)
        self.dealt.append(
            f"{now:8.2f} {request.method} {request.path}?{request.raw_query[:60]} {fault or ''}"
        )
        if isinstance(fault, Circle):
            path = request.path[:-1] if request.path.endswith("/") else f"{request.path}/"
            query = f"?{request.raw_query}" if request.raw_query else ""
            fault = Redirect(path + query)
        return [] if fault is None else [fault]

    def _draw(self, operation: str | None) -> Fault | None:
        if self._rng.random() >= self.share:
            self._lost.discard(operation)
            return None
        lies = LIES.get(str(operation), ())
        while True:
            fault = self._rng.choice(self._faults + lies)
            if not isinstance(fault, EmptyData) and fault not in lies:
                return fault
            if operation not in self._lost:
                self._lost.add(operation)
                return fault


class Run:
    """One run: a seed and all that hangs on it."""

    def __init__(
        self, seed: int, clock: ManualClock, emulator: Emulator, deck: Deck, client: primepods.AsyncClient
    ) -> None:
        self.seed = seed
        self.rng = Random(f"run {seed}")
        self.clock = clock
        self.emulator = emulator
        self.deck = deck
        self.client = client
        self.patient = is_patient(seed)
        self.errors: list[str] = []
        """Kinds of the errors that calls have ended with."""

    def begin(self) -> None:
        """From now on, answers fail."""
        self.deck.share = SHARE

    async def attempt(self, call: Awaitable[T]) -> T | None:
        """Return what a call returns; ``None`` where it ends with an error of ours, which must be allowed."""
        try:
            return await call
        except primepods.PrimePodsError as error:
            self.excuse(error)
            return None

    def excuse(self, error: primepods.PrimePodsError) -> None:
        """Accept an error: of a kind that says that the API could not be asked, of a client that gives up."""
        self.errors.append(type(error).__name__)
        kinds = (primepods.TransportError, primepods.ProtocolError)
        passes = isinstance(error, primepods.APIError) and error.transient
        assert passes or isinstance(error, kinds), f"{error!r} is no answer to a fault"
        assert not self.patient, f"a patient client gave up: {error}"
        assert str(error).isprintable(), "an error is one printable line"

    def watch_deadlines(self) -> None:
        """Check from now on that each call ends by its deadline."""
        session = self.client._executor
        call = session.call

        async def timed(*args: Any, **kwargs: Any) -> Any:
            begun = self.clock.time()
            try:
                return await call(*args, **kwargs)
            finally:
                took = self.clock.time() - begun
                assert took <= session.settings.deadline + 1e-6, f"a call took {took} s"

        session.call = timed  # type: ignore[method-assign]  # counts calls


def is_patient(seed: int) -> bool:
    """Whether a run's client tries again until it succeeds, and so must give the true answer."""
    return seed % 2 == 0


def _options(rng: Random, *, patient: bool) -> dict[str, Any]:
    if patient:
        retry = RetryPolicy(attempts=60, base_delay=0.2, max_delay=4.0)
        return {"timeout": 10.0, "deadline": 5_000.0, "retry": retry, "max_concurrency": rng.randint(1, 9)}
    attempts, base = rng.choice([(1, 0.5), (5, 0.5), (9, 1.0)])
    return {
        "timeout": rng.uniform(1.0, 30.0),
        "deadline": rng.choice([rng.uniform(0.3, 4.0), rng.uniform(4.0, 90.0)]),
        "retry": RetryPolicy(attempts=attempts, base_delay=base, jitter=rng.random() < 0.7),
        "max_concurrency": rng.randint(1, 16),
    }


@asynccontextmanager
async def stage(seed: int, elsewhere: str, **fleet: Any) -> AsyncIterator[Run]:
    """Set up a run with a fleet as the emulator is told, and check at the end that nothing is left of it."""
    rng = Random(f"stage {seed}")
    clock = ManualClock(auto=True, chance=Random(f"chance {seed}"))
    shared = SharedClock(clock)
    patient = is_patient(seed)
    async with Emulator(seed=seed, clock=shared, **fleet) as emulator:
        shared.ahead = AGE
        deck = Deck(rng, PASSING if patient else PASSING + lasting(emulator.url, elsewhere))
        emulator.faults.pick = deck.pick  # type: ignore[method-assign]  # seeded faults
        options = _options(rng, patient=patient)
        async with make_client(emulator.url, clock=clock, api_key=emulator.api_key, **options) as client:
            run = Run(seed, clock, emulator, deck, client)
            run.watch_deadlines()
            yield run
    assert not polling._pollers, "a poller is left"
    assert clock.timers == 0, "a timer is left"
    left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    left = [task for task in left if "Server._serve" not in repr(task.get_coro())]
    assert left == [], f"tasks are left: {left}"


async def guarded(seed: int, run: Awaitable[T], deck: Callable[[], Deck | None]) -> T:
    """Await a run; if it fails or hangs, say with which seed, and what it was dealt."""
    begun = time.monotonic()
    try:
        async with asyncio.timeout(HANGS):
            return await run
    except BaseException as error:
        dealt = deck()
        error.add_note(f"Chaos run of seed {seed}, after {time.monotonic() - begun:.2f} s.")
        if dealt is not None:
            error.add_note("\n".join(dealt.dealt))
        raise
