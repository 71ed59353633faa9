"""A gateway sends an order twice, and its response may be that of the second."""

from primepods.emulator import Status

from ..world import Twice, World


async def story(world: World) -> None:
    """Order two leases through it, of which one is kept."""
    await world.begin(failure_rate=0.0)
    world.emulator.faults.add(Twice(), on="create", times=world.choose("twins", 1, 2, 3))
    refusal = world.choose("refusal", None, 409, 500)
    if refusal is not None:
        world.emulator.faults.add(Status(refusal, acted=True), on="create", times=1)
    ann = world.machine("ann")
    ann.lease(hold=world.moment("hold", 200))
    ann.lease(hold=world.moment("kept.hold", 200), keep=True)
    if world.happens("killed"):
        await world.sleep(world.moment("kill", 200))
        ann.kill()
        ann.restart()
