"""Programs wait for pods that boot, fail and go, while almost a third of all responses are bad."""

import asyncio
import math

import attrs

import primepods
from primepods import ClientClosedError, NotFoundError, PodChange, PodFailedError, PodStatus, WaitTimeoutError
from primepods.waiting import _poller

from ..clocks import now
from ..responses import BadResponses
from ..world import World

_KINDS = ("ready", "settled", "gone")
_TAKES = 90.0
"""Seconds in which a wait sees what ends it: ticks, the grace of a pod that has not appeared, lookups."""


@attrs.frozen
class _Fate:
    """When a pod becomes ready, whether it fails instead, and when it goes."""

    ready_at: float = math.inf
    fails: bool = False
    goes_at: float = math.inf

    def is_over(self) -> bool:
        return self.fails or self.goes_at <= now()

    def decided_at(self, kind: str) -> float:
        return self.goes_at if kind == "gone" else min(self.ready_at, self.goes_at)


async def story(world: World) -> None:
    """Each wait ends in time and rightly, and its changes lead on from each other; no poller is left."""
    await world.begin(failure_rate=0.0, appear_seconds=0.0)
    loop, fates = asyncio.get_running_loop(), {"no-such-pod": _Fate(goes_at=0.0)}
    for _ in range(world.choose("pods", 2, 4)):
        fails, boots = world.happens("fails"), world.choose("boots", 0.0, 40.0)
        pod_id = world.emulator.add_pod(boot_seconds=boots, failure="no image" if fails else None)
        goes = world.choose("goes", None, 30.0, 90.0)
        fates[pod_id] = _Fate(now() + boots, fails, math.inf if goes is None else now() + goes)
        if goes is None:
            world.take(pod_id, "another user", is_for_good=True)
        else:
            loop.call_later(goes, world.emulator.delete_pod, pod_id)
    responses, quiet = BadResponses(world, patient=True), world.choose("quiet", 0.0, 60.0, 1e6)
    loop.call_later(quiet, responses.end)
    ann = world.machine("ann", timeout=6.0)
    clients = [ann.client]
    ann.renew()
    clients.append(ann.client)
    closed, calm_at, waits = list[primepods.AsyncClient](), now() + quiet, []
    for number in range(world.choose("waits", 1, 4)):
        first = world.choose("first", *range(len(fates)))
        some = dict([*fates.items()][first : first + world.choose("of", 1, 2)])
        wait = _Wait(
            world, world.choose("client", *clients), world.choose("kind", *_KINDS), some, closed, calm_at
        )
        waits.append(ann.start(f"wait {number}", wait.run))
        if world.choose("cancel", 0, 0, 1):
            loop.call_later(world.moment("cancel", 100), waits[-1].cancel, "as planned")
        await world.sleep(world.moment("pause", 60))
    if world.happens("close"):
        await world.sleep(world.moment("close", 60))
        closed.append(clients[0])
        await ann.run("close", clients[0].aclose)
    await asyncio.wait(waits)
    await ann.run("close", clients[0].aclose)
    world.require("no poller is left", not _poller._pollers)
    responses.end()
    await world.sleep(100)  # until all pods that go have gone


@attrs.frozen
class _Wait:
    """A wait for some pods."""

    world: World
    client: primepods.AsyncClient
    kind: str
    fates: dict[str, _Fate]
    closed: list[primepods.AsyncClient]
    calm_at: float
    last: dict[str, PodStatus | None] = attrs.field(factory=dict)

    async def run(self) -> None:
        """Wait, and check how it ends."""
        began, until, fates = now(), getattr(primepods, self.kind), [*self.fates.values()]
        timeout, is_right = self.world.choose("timeout", 300.0, 300.0, 30.0), self.kind == "ready"
        try:
            statuses = await self.client.pods.wait(
                [*self.fates], until=until, timeout=timeout, on_change=self.note
            )
        except PodFailedError as error:
            is_right &= self.fates[error.pod_id].is_over()
        except NotFoundError:
            is_right &= any(fate.is_over() for fate in fates)
        except WaitTimeoutError as error:
            is_right = math.isclose(now(), began + timeout) and bool(error.pending)
        except ClientClosedError:
            is_right = self.client in self.closed
        except asyncio.CancelledError as error:
            is_right = error.args == ("as planned",)
        else:
            is_right = {*statuses, *statuses.missing} == {*self.fates}
            for pod_id, fate in self.fates.items():
                status = statuses.get(pod_id)
                is_ready = status is not None and status.is_ready and fate.ready_at <= now()
                is_right &= until(status) and (is_ready or fate.is_over())
        self.world.require(f"a wait until {self.kind} ends rightly", is_right)
        decided_at = max(began, self.calm_at, *(fate.decided_at(self.kind) for fate in fates))
        self.world.require("a wait ends in time", now() <= decided_at + _TAKES)

    def note(self, change: PodChange) -> None:
        """Check a change."""
        known = change.pod_id in self.last
        leads_on = change.before == self.last.get(change.pod_id) and (
            change.after != change.before or not known
        )
        self.world.require("changes lead on from each other", leads_on)
        self.last[change.pod_id] = change.after
