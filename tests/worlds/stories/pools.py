"""A pool works while its provider takes pods away and its machine loses power."""

from ..world import World


async def story(world: World) -> None:
    """Lose pods, and perhaps the machine, which starts again and sweeps."""
    await world.begin()
    world.fail_sometimes()
    ann = world.machine("ann")
    ann.pool(12, hold=world.moment("hold", 100), size=3, max_hours=world.choose("max_hours", None, 0.2))
    for _ in range(world.choose("losses", 0, 1, 3)):
        await world.sleep(world.moment("loss", 200))
        theirs = sorted(pod_id for pod_id in world.emulator.pods if pod_id not in world.uses)
        if theirs:
            world.emulator.delete_pod(theirs[0])
    if world.happens("cut"):
        await world.sleep(world.moment("cut", 300))
        ann.cut_power()
        await world.sleep(world.moment("off", 60))
        ann.restart()
        ann.sweep()
