"""All connections of a machine are reset, again and again, at any moment of a lease."""

from ..world import World


async def story(world: World) -> None:
    """Reset them up to ten times."""
    await world.begin()
    ann = world.machine("ann")
    lease = ann.lease(hold=world.moment("hold", 100))
    for _ in range(world.choose("resets", *range(1, 11))):
        await world.sleep(world.moment("pause", 120))
        world.reset_connections(ann)
        if lease.done():
            break
