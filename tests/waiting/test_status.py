"""`pods.status` calls that share a request, and batches that are refused because of an id."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Sequence
from typing import Any

import pytest

import primepods
from tests.support.clock import settle
from tests.support.server import Answer, Hang, Reply, reply
from tests.waiting.fleet import Asked, Fleet, Stage, raised, result

pytestmark = pytest.mark.anyio


async def test_rule_12_calls_of_one_iteration_share_a_request(stage: Stage, fleet: Fleet) -> None:
    """However many callers, and without any timer; what is called an iteration later goes out by itself."""
    ids = fleet.add(250)
    pods = stage.client().pods
    tasks = [stage.start(pods.status(pod_id)) for pod_id in [*ids, *ids]]
    await asyncio.sleep(0)
    assert stage.clock.timers == 0
    late = stage.start(pods.status(ids[0]))
    await settle()
    assert fleet.sizes == [100, 100, 50, 1]
    assert [result(task).pod_id for task in tasks] == [*ids, *ids]
    assert result(late).pod_id == ids[0]
    assert result(tasks[0]) is result(tasks[250])


async def test_clients_do_not_share_status_requests(stage: Stage, fleet: Fleet) -> None:
    """A single call belongs to its client: its key, its limits, its closing."""
    ids = fleet.add(2)
    for _ in range(3):
        stage.start(stage.client().pods.status(ids[0]))
    await settle()
    assert fleet.sizes == [1, 1, 1]


async def test_a_missing_row_is_not_found_for_its_callers_only(stage: Stage, fleet: Fleet) -> None:
    """Each with an exception of its own."""
    fleet.set("ready", "there")
    pods = stage.client().pods
    there = stage.start(pods.status("there"))
    missing = [stage.start(pods.status("missing")) for _ in range(2)]
    await settle()
    assert result(there).is_ready
    errors = [raised(task, primepods.NotFoundError) for task in missing]
    assert errors[0] is not errors[1]
    assert "'missing'" in str(errors[0])


async def test_a_refused_id_is_an_error_for_its_callers_only(stage: Stage, fleet: Fleet) -> None:
    """The batch is split; the others get their rows; each caller of the bad one an exception of its own."""
    ids = fleet.add(30)
    fleet.refused = {ids[7]: 422}
    pods = stage.client().pods
    tasks = [stage.start(pods.status(pod_id)) for pod_id in ids]
    again = stage.start(pods.status(ids[7]))
    await settle()
    for n, task in enumerate(tasks):
        if n == 7:
            assert raised(task, primepods.ValidationError) is not raised(again, primepods.ValidationError)
        else:
            assert result(task).pod_id == ids[n]


async def test_a_failure_of_the_batch_is_everybodys_own(stage: Stage, fleet: Fleet) -> None:
    """One exception a caller."""
    fleet.next_status(reply({"detail": "no"}, 401))
    pods = stage.client().pods
    tasks = [stage.start(pods.status(f"p{n}")) for n in range(3)]
    await settle()
    errors = [raised(task, primepods.AuthenticationError) for task in tasks]
    errors[0].add_note("mine")
    assert len({id(error) for error in errors}) == 3
    assert not getattr(errors[1], "__notes__", [])


async def test_cancelling_one_caller_leaves_the_others(stage: Stage, fleet: Fleet) -> None:
    """Cancelling all ends the request."""
    ids = fleet.add(3)
    held = fleet.hold()
    pods = stage.client().pods
    tasks = [stage.start(pods.status(pod_id)) for pod_id in [*ids, ids[0]]]
    await settle()
    tasks[0].cancel()
    tasks[1].cancel()
    await settle()
    held.set()
    await settle()
    assert [task.cancelled() for task in tasks] == [True, True, False, False]
    assert result(tasks[3]).pod_id == ids[0]
    fleet.next_status(Hang())
    tasks = [stage.start(pods.status(pod_id)) for pod_id in ids]
    await settle()
    assert stage.server.in_flight == 1
    for task in tasks:
        task.cancel()
    await settle()
    assert stage.server.in_flight == 0
    # Before anything was sent, nothing is sent.
    before = len(fleet.asked)
    task = stage.start(pods.status(ids[0]))
    await asyncio.sleep(0)
    task.cancel()
    await settle()
    assert len(fleet.asked) == before


async def test_a_batch_that_is_cancelled_from_outside_cancels_its_callers(stage: Stage, fleet: Fleet) -> None:
    """As when a loop ends: nobody hangs."""
    fleet.next_status(Hang())
    task = stage.start(stage.client().pods.status("a"))
    await settle()
    (batch,) = [other for other in asyncio.all_tasks() if "_Batch" in repr(other.get_coro())]
    batch.cancel()
    await settle()
    assert task.cancelled()


async def test_closing_the_client_ends_its_calls(stage: Stage, fleet: Fleet) -> None:
    """With `ClientClosedError`."""
    fleet.next_status(Hang())
    client = stage.client()
    tasks = [stage.start(client.pods.status(pod_id)) for pod_id in "ab"]
    await settle()
    await client.aclose()
    await settle()
    for task in tasks:
        raised(task, primepods.ClientClosedError)


async def test_the_batch_runs_in_a_context_of_its_own(
    stage: Stage, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in that of whoever came first."""
    variable = contextvars.ContextVar("whose", default="nobody's")
    seen: list[str] = []
    fleet.add(1)
    client = stage.client()
    transport = client._session.transport
    send = transport.send

    async def spied(*args: Any, **kwargs: Any) -> Any:
        seen.append(variable.get())
        return await send(*args, **kwargs)

    monkeypatch.setattr(transport, "send", spied)
    variable.set("the caller's")
    task = stage.start(client.pods.status("pod00000"))
    await settle()
    result(task)
    assert seen == ["nobody's"]


def refuse(*bad: str, status: int = 422) -> Any:
    """A fault that refuses requests with any of these ids."""

    def fault(asked: Asked) -> Answer | None:
        if not set(bad) & set(asked.ids):
            return None
        return reply({"errors": [{"param": "pod_ids", "details": "is no id"}]}, status)

    return fault


@pytest.mark.parametrize("status", [400, 413, 414, 422])
@pytest.mark.parametrize(
    "bad",
    [
        (0,),
        (99,),
        (42,),
        (0, 1),
        (98, 99),
        (1, 30, 60, 90),
        (10, 20, 40, 80),
        (0, 25, 50, 75),
        tuple(range(80, 100)),
    ],
)
async def test_the_bad_ids_of_a_batch_are_found(
    stage: Stage, fleet: Fleet, status: int, bad: Sequence[int]
) -> None:
    """Refused ids are in `.errors`, never in `.missing`; all others have their rows."""
    ids = fleet.add(100)
    fleet.set(None, ids[50])
    fleet.faults.append(refuse(*(ids[n] for n in bad), status=status))
    statuses = await stage.client().pods.statuses(ids)
    assert list(statuses.errors) == [ids[n] for n in bad]
    assert {error.status_code for error in statuses.errors.values()} == {status}
    assert statuses.missing == (() if 50 in bad else (ids[50],))
    assert len(statuses) == 100 - len({*bad, 50})


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
async def test_few_ids_that_are_all_bad_are_all_named(stage: Stage, fleet: Fleet, count: int) -> None:
    """Each was refused alone."""
    ids = fleet.add(count)
    fleet.faults.append(refuse(*ids))
    statuses = await stage.client().pods.statuses(ids)
    assert list(statuses.errors) == ids
    assert len(fleet.asked) <= 8


@pytest.mark.parametrize("count", [9, 40, 100])
async def test_a_batch_of_which_nothing_is_accepted_raises_after_eight_refusals(
    stage: Stage, fleet: Fleet, count: int
) -> None:
    """The first refusal: it is not about an id."""
    ids = fleet.add(count)
    fleet.faults.append(refuse(*ids, status=400))
    task = stage.start(stage.client().pods.statuses(ids))
    await settle()
    raised(task, primepods.BadRequestError)
    assert len(fleet.asked) == 8


async def test_a_batch_that_is_too_long_is_halved(stage: Stage, fleet: Fleet) -> None:
    """A gateway that takes forty ids at most gets no more than that, and all pods are answered for."""
    ids = fleet.add(100)
    fleet.faults.append(lambda asked: Reply(414) if len(asked.ids) > 40 else None)
    statuses = await stage.client().pods.statuses(ids)
    assert list(statuses) == ids
    assert not statuses.errors
    assert len(fleet.asked) <= 12


async def test_a_failure_while_splitting_is_a_failure(stage: Stage, fleet: Fleet) -> None:
    """What is no refusal ends the call."""
    ids = fleet.add(10)
    fleet.next_status(reply({"detail": "too many"}, 413))
    fleet.next_status(reply({"detail": "no"}, 403))
    task = stage.start(stage.client().pods.statuses(ids))
    await settle()
    raised(task, primepods.PermissionDeniedError)
