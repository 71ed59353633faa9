"""Whatever pods, network, clients and callers do: every wait ends once and rightly, and nothing is left.

Each example is a plan: what becomes of some pods, who waits for which of them and how, when the API fails,
when clients are closed and waits cancelled. It is played on a clock moved by hand and over a real socket.
Then each wait's end is held against the plan: what it reports must have been so while it waited (safety), and
what should have ended it must not have been there for long without ending it (liveness).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import primepods
from primepods import PodChange, PodStatus
from tests.support.clock import ManualClock, settle
from tests.support.server import Answer, Hang, Reply, Reset, reply
from tests.waiting.fleet import Asked, Stage, row, stage

CLIENTS = 3
TIMEOUT = 6.0
"""Seconds for one request."""
FAILED = frozenset({"error", "stopped", "deleting", "terminated"})
STATES = ["provisioning", "installing", "ready", "bare", "hiccup", *sorted(FAILED), None]

FAULTS: dict[str, Answer] = {
    "503": Reply(503),
    "429": reply({}, 429, headers={"Retry-After": "3"}),
    "reset": Reset(),
    "empty": reply({"data": []}),
    "html": Reply(200, b"<html>"),
    "cut": Reply(200, b'{"data": []}', cut=4),
    "hang": Hang(),
}


@attrs.frozen(kw_only=True)
class Pod:
    """What becomes of a pod: for how many seconds it is in which state; it stays in the last."""

    steps: list[tuple[float, str | None]]

    def segments(self) -> Iterator[tuple[float, float, str | None]]:
        """From when to when it is in which state."""
        at = 0.0
        for n, (seconds, state) in enumerate(self.steps):
            end = math.inf if n == len(self.steps) - 1 else at + seconds
            yield at, end, state
            at = end

    def was(self, wanted: Callable[[str | None], bool], since: float, until: float) -> bool:
        """Whether it was in such a state at any time."""
        return any(wanted(state) for start, end, state in self.segments() if start <= until and end > since)


@attrs.frozen(kw_only=True)
class Fault:
    """The API fails for a while, one way or another, for status, for `get` or for both."""

    kind: str
    start: float
    length: float
    on: str

    def strikes(self, asked: Asked) -> bool:
        """Whether a request meets it."""
        if self.on != "both" and asked.is_status != (self.on == "status"):
            return False
        # An empty list is no answer to `get`.
        return self.start <= asked.time < self.start + self.length and (
            asked.is_status or self.kind != "empty"
        )

    @property
    def until(self) -> float:
        """Until when it can have an effect: a pause, a request that hangs, a lookup only after 30 s."""
        return self.start + self.length + 40


@attrs.frozen(kw_only=True)
class Waiter:
    """Somebody who waits."""

    kind: str
    pods: list[int]
    client: int = 0
    start: float = 0.0
    timeout: float = 90.0
    interval: float = 5.0
    appear_grace: float = 0.0
    install_grace: float = 12.0
    cancelled: float | None = None


@attrs.frozen(kw_only=True)
class Plan:
    """One example."""

    pods: list[Pod]
    waiters: list[Waiter]
    faults: list[Fault]
    closings: list[tuple[int, float]]
    seed: int

    def closed(self, client: int) -> float:
        """When a client is closed."""
        return min((time for closed, time in self.closings if closed == client), default=math.inf)

    def calm(self, since: float, until: float) -> bool:
        """Whether the API answers as it should."""
        return not any(fault.start <= until and fault.until >= since for fault in self.faults)


@attrs.define
class Outcome:
    """What became of a waiter."""

    started: float = 0.0
    ended: float | None = None
    ends: int = 0
    value: Any = None
    error: BaseException | None = None
    changes: list[tuple[float, PodChange]] = attrs.field(factory=list)


moments = st.integers(0, 60).map(float)
plans = st.builds(
    Plan,
    pods=st.lists(
        st.builds(
            Pod,
            steps=st.lists(
                st.tuples(st.integers(1, 40).map(float), st.sampled_from(STATES)), min_size=1, max_size=4
            ),
        ),
        min_size=1,
        max_size=4,
    ),
    waiters=st.lists(
        st.builds(
            Waiter,
            kind=st.sampled_from(["ready", "settled", "gone", "watch"]),
            pods=st.lists(st.integers(0, 3), min_size=1, max_size=2),
            client=st.integers(0, CLIENTS - 1),
            start=moments,
            timeout=st.sampled_from([4.0, 30.0, 90.0]),
            interval=st.sampled_from([2.0, 5.0, 8.0]),
            appear_grace=st.sampled_from([0.0, 12.0]),
            install_grace=st.sampled_from([0.0, 12.0]),
            cancelled=st.none() | moments,
        ),
        min_size=1,
        max_size=6,
    ),
    faults=st.lists(
        st.builds(
            Fault,
            kind=st.sampled_from(sorted(FAULTS)),
            start=moments,
            length=st.sampled_from([0.5, 6.0, 20.0]),
            on=st.sampled_from(["status", "get", "both"]),
        ),
        max_size=2,
    ),
    closings=st.lists(st.tuples(st.integers(0, CLIENTS - 1), moments), max_size=2),
    seed=st.integers(0, 1_000),
)


async def carry_out(waiter: Waiter, client: primepods.AsyncClient, clock: ManualClock, out: Outcome) -> None:
    """Wait as planned."""
    ids = [f"pod{n}" for n in waiter.pods]
    out.started = clock.elapsed

    def note(change: PodChange) -> None:
        out.changes.append((clock.elapsed, change))

    try:
        if waiter.kind == "watch":
            async for change in client.pods.watch(ids, interval=waiter.interval, timeout=waiter.timeout):
                note(change)
        else:
            out.value = await client.pods.wait(
                ids,
                until=getattr(primepods, waiter.kind),
                timeout=waiter.timeout,
                interval=waiter.interval,
                on_change=note,
                appear_grace=waiter.appear_grace,
                install_grace=waiter.install_grace,
            )
    except BaseException as exc:
        out.error = exc
        raise
    finally:
        out.ended = clock.elapsed
        out.ends += 1


async def play(plan: Plan) -> list[Outcome]:
    """Carry out a plan; `stage` checks at its end that nothing is left."""
    clock = ManualClock(chance=Random(plan.seed))
    async with stage(clock) as made:
        made.fleet.faults.append(
            lambda asked: next((FAULTS[fault.kind] for fault in plan.faults if fault.strikes(asked)), None)
        )
        clients = [made.client(timeout=TIMEOUT) for _ in range(CLIENTS)]
        outcomes = [Outcome() for _ in plan.waiters]
        tasks: dict[int, asyncio.Task[None]] = {}
        for time, action in sorted(actions(plan, made, clients, outcomes, tasks), key=lambda each: each[0]):
            await made.advance(time - clock.elapsed)
            await action()
        await made.advance(max(waiter.start + waiter.timeout for waiter in plan.waiters) + 1 - clock.elapsed)
        assert all(task.done() for task in tasks.values())
        # The last one to leave has taken everything with it, clients open or not.
        await made.check_nothing_left()
        check_requests(made)
        return outcomes


Action = Callable[[], Awaitable[None]]


def actions(
    plan: Plan,
    made: Stage,
    clients: list[primepods.AsyncClient],
    outcomes: list[Outcome],
    tasks: dict[int, asyncio.Task[None]],
) -> Iterator[tuple[float, Action]]:
    """Everything that happens, and when."""

    async def change(pod_id: str, state: str | None) -> None:
        made.fleet.set(state, pod_id)

    async def begin(n: int, waiter: Waiter) -> None:
        tasks[n] = made.start(carry_out(waiter, clients[waiter.client], made.clock, outcomes[n]))

    for number, pod in enumerate(plan.pods):
        for start, _, state in pod.segments():
            yield start, partial(change, f"pod{number}", state)
    for number, waiter in enumerate(plan.waiters):
        yield waiter.start, partial(begin, number, waiter)
        if waiter.cancelled is not None:
            yield waiter.start + waiter.cancelled, partial(cancel, number, outcomes, tasks)
    for client, time in plan.closings:
        yield time, clients[client].aclose


async def cancel(n: int, outcomes: list[Outcome], tasks: dict[int, asyncio.Task[None]]) -> None:
    """Cancel a wait. If it has not ended by then, this is how it ends, and with the very arguments."""
    going_on = not tasks[n].done()
    tasks[n].cancel("as planned")
    await settle()
    if going_on:
        error = outcomes[n].error
        assert tasks[n].cancelled()
        assert error is not None
        assert error.args == ("as planned",)


def check_requests(made: Stage) -> None:
    """Only reads, never a pod twice in one request, and no more lookups than there is reason for."""
    for asked in made.fleet.asked:
        assert asked.received.method == "GET"
        assert len(set(asked.ids)) == len(asked.ids)


@pytest.mark.slow
@pytest.mark.timeout(600)  # for shrinking an example that fails; else it takes seconds
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(plans)
@example(
    # Its tick and its deadline come at the same moment.
    Plan(
        pods=[Pod(steps=[(1.0, "hiccup")])],
        waiters=[Waiter(kind="ready", pods=[0])],
        faults=[],
        closings=[],
        seed=0,
    )
)
def test_every_wait_ends_once_in_the_right_way_and_nothing_is_left(plan: Plan) -> None:
    """See the module."""
    for waiter, outcome in zip(plan.waiters, asyncio.run(play(plan)), strict=True):
        assert outcome.ends == 1
        assert outcome.ended is not None
        check_changes(plan, waiter, outcome, outcome.ended)
        check_end(plan, waiter, outcome, outcome.ended)
        for number in set(waiter.pods):
            check_in_time(plan, waiter, number, outcome, outcome.ended)


def pod_of(plan: Plan, number: int) -> Pod:
    """A pod of the plan; those that it does not have are never there."""
    return plan.pods[number] if number < len(plan.pods) else Pod(steps=[(1.0, None)])


def says(status: PodStatus | None, state: str | None) -> bool:
    """Whether a status is what the API says of a pod in a state."""
    if status is None or state is None:
        return status is None and state in {None, "terminated"}
    wire = row(status.pod_id, state)
    return (status.status, status.installation_status) == (wire["status"], wire["installationStatus"])


def check_changes(plan: Plan, waiter: Waiter, outcome: Outcome, ended: float) -> None:
    """Each change leads on from the one before, and tells of a state that was there in between."""
    last: dict[str, PodStatus | None] = {}
    since = dict.fromkeys((f"pod{n}" for n in waiter.pods), outcome.started)
    for time, change in outcome.changes:
        assert change.before == last.get(change.pod_id)
        assert change.after != change.before or change.pod_id not in last
        pod = pod_of(plan, int(change.pod_id[3:]))
        after = change.after
        assert pod.was(partial(says, after), since[change.pod_id], time)
        # What was seen last may have been asked for up to a request's time before.
        last[change.pod_id], since[change.pod_id] = after, max(outcome.started, time - TIMEOUT)
    assert all(time <= ended for time, _ in outcome.changes)


def check_end(plan: Plan, waiter: Waiter, outcome: Outcome, ended: float) -> None:
    """What the wait says at its end was so while it waited."""
    error, began = outcome.error, outcome.started
    pods = {f"pod{n}": pod_of(plan, n) for n in waiter.pods}
    match error:
        case asyncio.CancelledError():
            assert waiter.cancelled is not None
            assert ended == began + waiter.cancelled
        case primepods.ClientClosedError():
            assert ended == max(began, plan.closed(waiter.client))
        case primepods.WaitTimeoutError():
            assert ended == began + waiter.timeout
            assert error.pending
        case primepods.PodFailedError():
            assert waiter.kind == "ready"
            pod = pods[error.pod_id]
            hiccup = pod.was(lambda state: state == "hiccup", began, ended - waiter.install_grace)
            assert pod.was(lambda s: s in FAILED or s is None, began, ended) or hiccup
        case primepods.NotFoundError():
            assert waiter.kind == "ready"
            assert ended >= began + waiter.appear_grace
            assert any(pod.was(lambda state: state is None, began, ended) for pod in pods.values())
        case None:
            check_result(waiter, outcome, pods, ended)
        case _:
            raise AssertionError(repr(error)) from error
    if not isinstance(error, asyncio.CancelledError):
        assert ended <= max(began, plan.closed(waiter.client))
        assert ended <= began + waiter.timeout


def check_result(waiter: Waiter, outcome: Outcome, pods: dict[str, Pod], ended: float) -> None:
    """A wait that brought a result, or a watch that came to its end."""
    if waiter.kind == "watch":
        last = {change.pod_id: change.after for _, change in outcome.changes}
        assert last == dict.fromkeys(pods)
        return
    statuses: primepods.PodStatuses = outcome.value
    assert {*statuses, *statuses.missing} == set(pods)
    assert not set(statuses) & set(statuses.missing)
    for pod_id, pod in pods.items():
        status = statuses.get(pod_id)
        assert getattr(primepods, waiter.kind)(status)
        assert pod.was(partial(says, status), outcome.started, ended)


def check_in_time(plan: Plan, waiter: Waiter, number: int, outcome: Outcome, ended: float) -> None:
    """Nothing that ends a wait for a single pod was there for longer than it takes to see it."""
    if len(set(waiter.pods)) > 1 or waiter.kind == "watch":
        return
    for start, end, state in pod_of(plan, number).segments():
        begins = max(start, outcome.started)
        takes = seconds_to_see(waiter, state)
        if takes is None or end < begins + takes or not plan.calm(begins, begins + takes):
            continue
        assert ended <= begins + takes, f"{state} since {begins} has not ended it by {ended}"


def seconds_to_see(waiter: Waiter, state: str | None) -> float | None:
    """How long a state takes at most to end a wait: ticks, a grace; ``None`` if it does not end it."""
    tick = 1.1 * waiter.interval + 0.5
    if state is None:
        # Two ticks, and perhaps a lookup that was made just before.
        return 3 * tick + 30 + (0 if waiter.kind == "gone" else waiter.appear_grace)
    if waiter.kind == "gone":
        return 2 * tick + 30 if state == "terminated" else None
    if state == "hiccup":
        return waiter.install_grace + 3 * tick
    return tick if state == "ready" or state in FAILED else None
