"""A client is closed while it orders, waits, lists, sweeps and releases."""

from ..world import World


async def story(world: World) -> None:
    """Close it at any moment, perhaps twice; a new client works at once."""
    await world.begin(pods=20)
    world.fail_sometimes()
    ann = world.machine("ann")
    ann.lease(hold=world.moment("hold", 200), is_closed=True)
    ann.lease(hold=world.moment("hold", 200), is_closed=True, max_hours=world.choose("hours", None, 0.02))
    ann.create(world.spec_named(None))
    ann.sweep()
    ids = list(world.emulator.pods)

    async def wait() -> None:
        await ann.client.pods.wait(ids, timeout=900.0)

    async def read() -> None:
        await ann.client.pods.list(page_size=5).collect()

    ann.start("wait", wait)
    ann.start("list", read)
    await world.sleep(world.moment("close", 300))
    closing = ann.close()
    if world.happens("cancel"):
        await world.sleep(world.moment("moment", 30))
        closing.cancel()
        ann.close()
    ann.renew()
    ann.lease(hold=5)
