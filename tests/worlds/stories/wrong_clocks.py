"""The clocks of the machines and of the API are up to three hours apart."""

from ..world import World

ERRORS = (0.0, 60.0, -60.0, 5_000.0, -5_000.0)


async def story(world: World) -> None:
    """Lease with an expiry, lose power, and sweep from a machine with another clock."""
    await world.begin(clock_error=world.choose("api.error", *ERRORS))
    ann = world.machine("ann", clock_error=world.choose("ann.error", *ERRORS))
    bob = world.machine("bob", clock_error=world.choose("bob.error", *ERRORS))
    bob.lease(hold=world.moment("bob.hold", 1_500), max_hours=world.choose("bob.max_hours", None, 0.5))
    ann.lease(hold=world.moment("hold", 1_500), max_hours=world.choose("max_hours", 0.3, 0.5))
    for _ in range(3):
        await world.sleep(world.moment("pause", 1_500))
        bob.sweep(expired=True)
        ann.sweep(older_than=600.0)
    if world.happens("cut"):
        ann.cut_power()
