"""Sessions of agents rent at once on one budget, and their processes and those of their runs are killed."""

import time
from datetime import timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any

from primepods.cli.agents._tools import AgentTools
from primepods.runs import AgentBudget

from ..clocks import EPOCH, now
from ..machine import Machine
from ..world import World


async def story(world: World) -> None:
    """Rent in up to eight sessions; in the end, all is deleted and settled.

    All that was reserved or spent never exceeds the budget, each pod has a reservation, and none costs more.
    """
    await world.begin()
    world.fail_sometimes()
    ann, bob = world.machine("ann"), world.machine("bob")
    hours = world.choose("hours", 0.1, 0.3)
    limit = world.choose("limit", 1.0, 3.0, 8.0)

    async def rent(machine: Machine, hold: float, *, releases: bool) -> None:
        account = {"base_url": None, "context": None, "team_id": None}
        api: Any = SimpleNamespace(account=account, team=None, async_client=lambda: machine.client)
        tools = AgentTools(api, AgentBudget(limit, now=time.time), lambda: EPOCH + timedelta(seconds=now()))
        quote = await tools.quote(gpu_type=world.spec.gpu_type, hours=hours)
        consent: Any = SimpleNamespace(action="accept", data=None)
        rented = await tools.rent(quote_id=quote.quote_id, consent=consent)
        await world.sleep(hold)
        if releases:
            await tools.release(pod=rented.name)

    async def look(*, is_last: bool = False) -> None:
        world.check_budget(AgentBudget(limit, now=time.time).settle(), is_last=is_last)

    sessions = [ann.process() for _ in range(world.choose("sessions", 2, 2, 3, 3, 4, 8))]
    for session in sessions:
        hold, releases = world.moment("hold", 900), world.happens("release")
        session.start("rent", partial(rent, session, hold, releases=releases))
        await world.sleep(world.moment("pause", 5))
    for _ in range(world.choose("looks", 3, 10)):
        await world.sleep(world.moment("moment", 200))
        await ann.run("look", look)
        if world.happens("death"):
            world.choose("which", *[each for each in world.machines if each.is_process]).kill()
    world.emulator.faults.clear()
    await world.sleep(4 * 3600)
    for machine in (ann, bob):
        machine.sweep()
        machine.sweep(expired=True)
    await world.sleep(3600)
    await ann.run("look", partial(look, is_last=True))
