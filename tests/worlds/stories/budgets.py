"""Leases reach their limits of hours and of dollars while requests fail."""

from ..world import World


async def story(world: World) -> None:
    """Lease with limits that end the block, the boot or nothing."""
    await world.begin()
    world.fail_sometimes()
    ann = world.machine("ann")
    leases = [
        ann.lease(hold=world.moment("hold", 2_000), max_hours=world.choose("hours", 0.02, 0.1, 0.5)),
        ann.lease(hold=world.moment("hold", 2_000), max_spend=world.choose("dollars", 0.01, 0.1, 1.0)),
    ]
    if world.happens("price"):
        await world.sleep(world.moment("rise", 500))
        world.emulator.set_price(world.spec.cloud_id, 50.0)
    if world.happens("cancel"):
        await world.sleep(world.moment("moment", 500))
        leases[world.choose("which", 0, 1)].cancel()
    if world.happens("partition"):
        world.partition(ann)
        await world.sleep(world.moment("gap", 900))
        world.heal()
