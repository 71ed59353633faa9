"""Several programs wait for up to 300 pods while the API restarts."""

from functools import partial

from ..world import World


async def story(world: World) -> None:
    """All pods become ready; each wait returns each of its pods."""
    await world.begin(boot_seconds=120.0, failure_rate=0.0, appear_seconds=0.0)
    # Two status requests a poll, or three: 300 pods take most of a second.
    count = world.choose("pods", 120, 120, 120, 300)
    ids = [world.emulator.add_pod(f"batch {number}") for number in range(count)]
    for pod_id in ids:
        world.take(pod_id, "another user", is_for_good=True)
    ann = world.machine("ann")

    async def wait(first: int) -> None:
        statuses = await ann.client.pods.wait(ids[first:], timeout=3_000.0)
        world.require("a wait returns its pods", sorted(statuses) == sorted(ids[first:]))

    waits = [ann.start(f"wait {first}", partial(wait, first)) for first in (0, count // 2, count - 1)]
    for _ in range(world.choose("restarts", 1, 2)):
        await world.sleep(world.moment("until", 300))
        await world.stop_api()
        await world.sleep(world.moment("down", 60))
        await world.start_api()
    if world.happens("cancel"):
        waits[0].cancel()
    await waits[1]
    world.require(
        "a wait of ready pods ends well", not any(f"wait {count // 2}:" in line for line in world.told)
    )
