"""Several pods are ordered at once, under new names, a shared one, and that of a pod that runs."""

from ..world import World


async def story(world: World) -> None:
    """No two calls are given one pod, and what was made although its order failed, an error names."""
    await world.begin()
    world.fail_sometimes()
    if world.happens("sold out"):
        world.emulator.set_stock(world.spec.cloud_id, 2)
    ann = world.machine("ann")
    for _ in range(world.choose("orders", *range(1, 7))):
        ann.create(world.spec_named(world.choose("name", None, "shared", "job")))
        await world.sleep(world.moment("pause", 30))
