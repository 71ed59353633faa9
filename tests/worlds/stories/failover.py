"""The first choices of a lease are sold out, too dear, or fail to boot."""

import attrs

from ..world import World


async def story(world: World) -> None:
    """Lease with three choices, of which some cannot be had; cancel at any moment."""
    await world.begin(failure_rate=world.choose("boots", 0.0, 0.5, 1.0))
    world.fail_sometimes()
    if world.happens("sold out"):
        world.emulator.set_stock(world.spec.cloud_id, world.choose("left", 0, 1))
    dear = attrs.evolve(world.spec, max_price=0.01)
    ann = world.machine("ann")
    choices = world.choose(
        "order", (world.spec, world.spec), (dear, world.spec), (world.spec, dear, world.spec)
    )
    lease = ann.lease(*choices, hold=world.moment("hold", 100), ready_timeout=world.choose("ready", 900, 50))
    ann.lease(world.spec, hold=5)
    if world.happens("cancel"):
        await world.sleep(world.moment("moment", 400))
        lease.cancel()
