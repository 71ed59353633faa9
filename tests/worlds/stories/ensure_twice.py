"""``ensure`` is called for one name by several programs at once."""

from ..world import World


async def story(world: World) -> None:
    """Each program gets a running pod of that name, or an error that says what may exist."""
    await world.begin()
    world.fail_sometimes()
    ann, bob = world.machine("ann"), world.machine("bob")
    spec = world.spec_named("service")
    for machine in (ann, ann, bob):
        machine.ensure(spec)
        await world.sleep(world.moment("pause", 60))
    if world.happens("kill"):
        ann.kill()
        # Whoever kills it knows: an order under a chosen name that is on its way is recorded nowhere.
        world.say("ann was killed, and may have ordered 'service'")
        ann.restart()
        ann.ensure(spec)
