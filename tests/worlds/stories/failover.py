"""The first choices of a lease are sold out, too dear, or fail to boot."""

import attrs

from ..world import World

ENDING = {"DELETING", "TERMINATED"}


async def story(world: World) -> None:
    """Lease with three choices, of which some cannot be had; cancel at any moment.

    There is never more than one pod of a lease, unless it is told that an order may be carried out later.
    """
    await world.begin(failure_rate=world.choose("boots", 0.0, 0.5, 1.0))
    world.fail_sometimes()
    if world.happens("sold out"):
        world.emulator.set_stock(world.spec.cloud_id, world.choose("left", 0, 1))
    dear = attrs.evolve(world.spec, max_price=0.01)
    ann = world.machine("ann")
    choices = world.choose(
        "order", (world.spec, world.spec), (dear, world.spec), (world.spec, dear, world.spec)
    )
    choices = tuple(attrs.evolve(choice, name="train-choice") for choice in choices)
    lease = ann.lease(*choices, hold=world.moment("hold", 100), ready_timeout=world.choose("ready", 900, 50))
    ann.lease(world.spec, hold=5)
    cancels_at = world.moment("moment", 400) if world.happens("cancel") else None
    seconds = 0
    while not lease.done():
        await world.sleep(1)
        seconds += 1
        if cancels_at is not None and seconds > cancels_at:
            lease.cancel()
            cancels_at = None
        names = [pod.name for pod in world.emulator.pods.values() if pod.status not in ENDING]
        running = sum(str(name).startswith("train-choice-") for name in names)
        is_uncertain = any("It is unknown whether the pod 'train-choice-" in line for line in world.told)
        world.require("one pod at a time", running <= 1 or is_uncertain)
