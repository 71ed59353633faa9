"""Some responses come from a replica that is up to five minutes behind."""

from ..world import World


async def story(world: World) -> None:
    """Lease, create and sweep with it."""
    await world.begin()
    world.lag_sometimes(5.0, 60.0, 300.0)
    ann, bob = world.machine("ann"), world.machine("bob")
    ann.lease(hold=world.moment("hold", 400), max_hours=world.choose("max_hours", None, 0.2))
    bob.create(world.spec_named(None))
    for _ in range(2):
        await world.sleep(world.moment("pause", 400))
        bob.sweep(prefix="train-", expired=True)
        ann.sweep()
    bob.lease(hold=10, keep=world.happens("keep"))
