"""A machine loses power at any moment of a lease; it starts again and sweeps, and so does another."""

from ..world import World


async def story(world: World) -> None:
    """Cut the power in a lease, perhaps twice."""
    await world.begin()
    world.fail_sometimes()
    ann, bob = world.machine("ann"), world.machine("bob")
    for _ in range(world.choose("cuts", 1, 2)):
        ann.lease(hold=world.moment("hold", 200), max_hours=world.choose("max_hours", None, 0.5))
        await world.sleep(world.moment("cut", 300))
        ann.cut_power()
        bob.sweep(prefix="train-", expired=True)
        await world.sleep(world.moment("off", 60))
        ann.restart()
        ann.sweep()
