"""The list is read while pods come and go: each pod that lasts comes once."""

from ..world import World


async def story(world: World) -> None:
    """List with small pages; delete and add pods meanwhile."""
    await world.begin(
        delete_seconds=0.0, appear_seconds=0.0, pods=world.choose("pods", 5, 40), boot_seconds=0.0
    )
    ann = world.machine("ann")
    lasting, passing = list(world.emulator.pods)[::2], list(world.emulator.pods)[1::2]
    found: list[str] = []

    async def read() -> None:
        async for pod in ann.client.pods.list(page_size=world.choose("page", 3, 10, 100)):
            found.append(pod.id)
        world.require("each pod once", len(found) == len(set(found)))
        world.require("each pod that lasts", set(lasting) <= set(found))

    reading = ann.start("read", read)
    for _ in range(30):
        await world.sleep(world.moment("pause", 0.2))
        if passing and world.happens("change"):
            pod_id = passing.pop(world.choose("which", *range(len(passing))))
            world.give_back(pod_id)
            world.emulator.delete_pod(pod_id)
        else:
            world.take(world.emulator.add_pod("new"), "another user", is_for_good=True)
    await reading
    world.require("a list ends well", not any("read:" in line for line in world.told))
