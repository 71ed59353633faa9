"""The network between a machine and the API is gone for a while, at any moment of a lease."""

from ..world import World


async def story(world: World) -> None:
    """Part them once or twice; a lease is longer than the gap, or not."""
    await world.begin()
    ann = world.machine("ann")
    ann.lease(hold=world.moment("hold", 300), release_timeout=world.choose("release", 600.0, 30.0))
    for _ in range(world.choose("gaps", 1, 2)):
        await world.sleep(world.moment("until", 200))
        world.partition(ann)
        await world.sleep(world.moment("gap", 1_000))
        world.heal()
