"""A container is gone with its disk; a machine that has only the key sweeps what has expired."""

from ..world import World


async def story(world: World) -> None:
    """Lose a container at any moment of its leases, which have an expiry."""
    await world.begin()
    world.fail_sometimes()
    box, bob = world.machine("box"), world.machine("bob")
    box.lease(hold=world.moment("hold", 900), max_hours=world.choose("max_hours", 0.1, 0.5))
    box.lease(hold=60, max_hours=0.2, keep=True)
    await world.sleep(world.moment("cut", 500))
    box.cut_power()
    box.disk.wipe()
    for _ in range(2):
        await world.sleep(world.moment("pause", 2000))
        bob.sweep(expired=True)
