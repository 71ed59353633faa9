"""Two machines with one account and the same names do one thing after another, and all may fail."""

from typing import Any

from ..world import World
from .wrong_clocks import ERRORS


async def story(world: World) -> None:
    """Lease, create, sweep and end processes, with wrong clocks, a lagging replica and failing requests."""
    await world.begin()
    world.fail_sometimes()
    world.lag_sometimes(5.0, 60.0, 300.0)
    machines = [world.machine(name, clock_error=world.choose("error", *ERRORS)) for name in ("ann", "bob")]
    for _ in range(world.choose("acts", *range(1, 9))):
        await world.sleep(world.moment("pause", 400))
        machine = world.choose("machine", *machines)
        spec = world.spec_named(world.choose("name", "train", "train-x"))
        max_hours = world.choose("max_hours", None, 0.05, 0.5)
        match world.choose("act", "lease", "keep", "create", "sweep", "kill"):
            case "create":
                machine.create(world.spec_named(None))
            case "sweep":
                ways: tuple[dict[str, Any], ...] = (
                    {},
                    {"expired": True},
                    {"prefix": "train-", "older_than": 86_400},
                )
                machine.sweep(**world.choose("way", *ways))
            case "kill":
                machine.kill()
                machine.restart()
            case act:
                hold = world.moment("hold", 500)
                machine.lease(spec, hold=hold, keep=act == "keep", max_hours=max_hours)
