"""Almost a third of all responses are bad while pods are listed, looked at and deleted."""

from collections.abc import Awaitable
from typing import TypeVar

from primepods import AsyncPods, NotFoundError, PrimePodsError, ProtocolError, RetryPolicy, TransportError

from ..clocks import now
from ..responses import BadResponses
from ..world import World

T = TypeVar("T")
_UNKNOWN = "no-such-pod"
_UNPROVEN = "the list does not show the pod, and its end is not confirmed"


async def story(world: World) -> None:
    """Each result is correct, or an error that a bad response explains; a patient client has only results."""
    ids = await _begin(world)
    lasting, doomed, passing = {*ids[::3]}, ids[1::3], ids[2::3]
    patient = world.happens("patience")
    deadline, attempts = (5e3, 60) if patient else world.choose("limits", (60.0, 5), (3.0, 5), (60.0, 1))
    retry = RetryPolicy(attempts=attempts, base_delay=0.2, max_delay=4.0)
    ann = world.machine("ann", timeout=10.0, deadline=deadline, retry=retry)
    pods = ann.client.pods
    before, known = await pods.statuses([*lasting, _UNKNOWN]), await pods.get(ids[0])
    responses = BadResponses(world, patient=patient)

    async def attempt(call: Awaitable[T], *, is_unknown: bool = False) -> T | None:
        began = now()
        try:
            return await call
        except PrimePodsError as error:
            if not (is_unknown and (isinstance(error, NotFoundError) or _UNPROVEN in str(error))):
                excuse(error)
        finally:
            world.require("a call ends by its deadline", now() <= began + deadline + 1e-6)
        return None

    def excuse(error: PrimePodsError) -> None:
        passes = isinstance(error, TransportError | ProtocolError) or getattr(error, "transient", False)
        world.require(f"a bad response explains {error!r}", passes and responses.may_fail)

    async def look() -> None:
        after = await attempt(pods.statuses([*lasting, _UNKNOWN]))
        if after is not None:
            for error in after.errors.values():
                excuse(error)
            told = {key: row for key, row in before.items() if key not in after.errors}
            world.require("statuses are true", dict(after) == told and set(after.missing) <= {_UNKNOWN})
        world.require("a pod is as it was", await attempt(pods.get(known.id)) in {known, None})
        world.require("no unknown pod", await attempt(pods.get(_UNKNOWN), is_unknown=True) is None)

    async def delete() -> None:
        deletions = await pods.delete_many(doomed)
        for pod_id, error in deletions.errors.items():
            excuse(error)
            world.say(f"ann: {pod_id} may run: {error}")
        world.require("each has its outcome", {*deletions, *deletions.errors} == {*doomed})
        world.require("what is confirmed goes", not any(world.is_running(pod_id) for pod_id in deletions))
        state = await attempt(pods.delete(_UNKNOWN), is_unknown=True)
        world.require("an unknown pod is not deleted", state is None)

    async def read() -> None:
        try:
            await _list(world, pods, {*lasting, *doomed}, ids)
        except PrimePodsError as error:
            excuse(error)

    reading = ann.start("read", read)
    await _come_and_go(world, passing, ids)
    await reading
    for pod_id in doomed:
        world.give_back(pod_id)
    for program in (look, delete):
        await ann.run(program.__name__, program)
    responses.end()


async def _begin(world: World) -> list[str]:
    """Start the API; return the ids of its pods, which are older than any response lags behind."""
    slow = world.choose("slow", 0.0, 15.0)
    count = world.choose("pods", 3, 12, 40, 130)
    await world.begin(pods=count, boot_seconds=0.0, appear_seconds=0.0, delete_seconds=slow, failure_rate=0.0)
    await world.sleep(3_600)
    return list(world.emulator.pods)


async def _come_and_go(world: World, passing: list[str], ever: list[str]) -> None:
    longest = world.choose("longest pause", 0.2, 5.0)
    for _ in range(30):
        await world.sleep(world.moment("pause", longest))
        if passing and world.happens("change"):
            pod_id = passing.pop(world.choose("which", *range(len(passing))))
            world.give_back(pod_id)
            world.emulator.delete_pod(pod_id)
        else:
            ever.append(world.emulator.add_pod("new"))
            world.take(ever[-1], "another user", is_for_good=True)


async def _list(world: World, pods: AsyncPods, lasting: set[str], ever: list[str]) -> None:
    """List the pods while others come and go: each that lasts comes once."""
    found = [pod.id async for pod in pods.list(page_size=world.choose("page", 3, 10, 100))]
    world.require("each pod once", len(found) == len({*found}))
    world.require("none is lost or made up", lasting <= {*found} <= {*ever})
