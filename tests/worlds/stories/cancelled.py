"""A lease's task is cancelled at any moment, perhaps several times."""

import asyncio

from ..world import World


async def story(world: World) -> None:
    """Cancel it, and cancel again while it is released."""
    await world.begin()
    world.fail_sometimes()
    ann = world.machine("ann")
    lease = ann.lease(hold=world.moment("hold", 200))
    ann.lease(hold=world.moment("other.hold", 200))
    for _ in range(world.choose("cancellations", 1, 2, 3)):
        await world.sleep(world.moment("cancel", 250))
        lease.cancel()
    await asyncio.wait([lease])
    # The client is usable afterwards.
    ann.lease(hold=1)
