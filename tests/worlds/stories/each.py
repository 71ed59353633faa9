"""Many items on a few pods: the process of their run dies, pods are lost, and somebody stops it."""

import asyncio
import json

from ..invariants import billed
from ..world import World

_LIMIT = 7_200.0
_PROCESSES = 30


async def story(world: World) -> None:
    """Have trouble, and have two programs take the run over at once each time, until it has ended.

    Each item has one line in the record and is told once; what it has saved is here; and no pod is left, or
    it is told that one may be.
    """
    await world.begin(failure_rate=0.0, appear_seconds=0.0)
    if world.happens("trouble"):
        world.fail_sometimes()
    ann = world.machine("ann")
    here = world.folder / "here"
    here.mkdir()
    items = [
        json.dumps({"seconds": world.choose("seconds", 100, 20, 600), "code": world.choose("code", 0, 3)})
        for _ in range(world.choose("items", 3, 6))
    ]
    record = world.record(
        max_hours=_LIMIT / 3600,
        command=["save", "{seconds}", "{code}"],
        downloads=[("out", str(here))],
        pods=world.choose("pods", 2, 1),
        restarts=1,
        wind_down=180.0,
    )
    run = await ann.begin_run(record, items)
    for trouble in world.choose(
        "troubles",
        ["loss"],
        ["death"],
        ["power"],
        ["stop"],
        ["loss", "death"],
        ["power", "loss", "power"],
        ["death", "stop"],
        ["partition", "power"],
    ):
        await world.sleep(world.moment("moment", 900))
        pods = [pod_id for pod_id, name in billed(world).items() if name.startswith(run.name)]
        if trouble == "loss" and pods and pods[0] in world.emulator.pods:
            world.emulator.delete_pod(pods[0])
        elif trouble == "stop":
            await ann.stop(run)
        elif trouble == "partition":
            for machine in world.machines:
                world.partition(machine)
        elif trouble in {"death", "power"}:
            ann.kill_processes()
            if trouble == "power":
                ann.cut_power()
                await world.sleep(world.moment("off", 60))
                ann.restart()
                world.require("a power cut leaves the record", (run.path / "run.json").stat().st_size > 0)
            await asyncio.gather(ann.attach(run), ann.attach(run))
    world.heal()
    while run.reload().exit_code is None:
        await ann.attach(run)
        await world.sleep(10)
        world.require("a process that takes the run over goes on with it", len(world.machines) < _PROCESSES)
    results = run.path / "results"
    lines = results.read_text().splitlines() if results.exists() else []
    written = [json.loads(line) for line in lines if line]
    told = "\n".join(world.told)
    world.require("an item has one line", len({row["item"] for row in written}) == len(written))
    for number, item in enumerate(items, 1):
        world.require("an item is told once", told.count(f" stderr: [{number}] Exit code ") <= 1)
        jobs = [job for jobs in world.jobs.values() for job in jobs.values() if f"-{number}-" in job.name]
        codes = [row["exit_code"] for row in written if row["item"] == number]
        copies = [text for text in world.told if f"here/{number}/" in text and "Trying again" not in text]
        if codes == [0] or (codes == [json.loads(item)["code"]] and "✓" in copies[-1]):
            saved = max(jobs, key=lambda job: job.started_at).saved()
            fetched = here / str(number) / "out"
            world.require(
                "what an item has saved is here", fetched.exists() and fetched.read_text() == str(saved)
            )
    left = [name for name in billed(world).values() if name.startswith(run.name)]
    world.require("no pod is left, or it is told", not left or run.may_have_pod)
