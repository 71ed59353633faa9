"""Two processes sweep one folder at once, while leases of it begin and end."""

from ..world import World


async def story(world: World) -> None:
    """Leave two pods behind, then sweep from a second client and from another machine."""
    await world.begin()
    world.fail_sometimes()
    ann, bob = world.machine("ann"), world.machine("bob")
    ann.lease(hold=900)
    ann.lease(hold=900, max_hours=0.1)
    await world.sleep(world.moment("kill", 200))
    ann.kill()
    ann.restart()
    for _ in range(3):
        await world.sleep(world.moment("pause", 400))
        ann.sweep(dry_run=world.happens("dry"))
        ann.sweep(prefix="train-", expired=True)
        bob.sweep(expired=True)
        ann.lease(hold=world.moment("hold", 30))
