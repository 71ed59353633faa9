"""A process is killed in its lease, while others of the same machine lease and sweep."""

from ..world import World


async def story(world: World) -> None:
    """Kill a process, and start another one in the same folder."""
    await world.begin()
    world.fail_sometimes()
    ann, bob = world.machine("ann"), world.machine("bob")
    bob.lease(hold=world.moment("bob.hold", 300))
    ann.lease(hold=world.moment("ann.hold", 300), keep=world.happens("keep"))
    ann.lease(hold=10)
    await world.sleep(world.moment("kill", 300))
    ann.kill()
    ann.restart()
    ann.lease(hold=20)
    ann.sweep()
    bob.sweep(prefix="train-", older_than=86_400)
