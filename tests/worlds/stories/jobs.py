"""The process of a detached run dies at any moment, connections are cut at any byte, and pods are lost."""

import asyncio

from ..world import World


async def story(world: World) -> None:
    """Run a job, interrupt it, and have two programs take it over at once each time.

    Its command begins once a try, no byte is lost or comes twice, and deaths and cuts end no run.
    """
    await world.begin(failure_rate=0.0, appear_seconds=0.0)
    if has_trouble := world.happens("trouble"):
        world.fail_sometimes()
    restarts = world.choose("restarts", 0, 2)
    ann = world.machine("ann")
    record = world.record(
        command=["print", str(world.choose("lines", 5, 60, 300)), str(world.choose("code", 0, 3))],
        restarts=restarts,
    )
    run = await ann.begin_run(record)
    for _ in range(world.choose("interruptions", 1, 2, 3, 5)):
        await world.sleep(world.moment("moment", 500))
        if world.happens("loss") and run.reload().pod_id in world.emulator.pods:
            restarts -= 1
            has_trouble |= restarts < 0 or run.record.job is None
            world.emulator.delete_pod(str(run.record.pod_id))
        if world.happens("death"):
            ann.kill_processes()
            # Nobody knows what became of an order that was not answered.
            has_trouble |= run.reload().lease_file is not None and run.record.pod_id is None
        await asyncio.gather(ann.attach(run), ann.attach(run))
    while run.reload().exit_code is None and run.is_live:
        await world.sleep(10)
    jobs, stdout, is_whole = world.check_jobs(), run.files(0)["stdout"], False
    left = stdout.read_bytes() if stdout.exists() else b""
    for job in jobs:
        received = job.received(left)
        left, is_whole = left.removeprefix(received), received == job.output()
    world.require("no byte comes twice, or from elsewhere", not left)
    if not has_trouble or run.record.exit_code == int(record.command[2]):
        world.require(
            "deaths and cuts end no run", run.record.exit_code == int(record.command[2]) and is_whole
        )
