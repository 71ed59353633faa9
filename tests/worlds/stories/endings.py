"""A power cut, a partition and `stop` around the end of a run, whose command saves its work now and then."""

from ..world import World

_LIMIT, _WIND_DOWN, _BOOT = 1_800.0, 180.0, 60.0


async def story(world: World) -> None:
    """Have trouble around the end, and take the run over until it has ended.

    What the command has saved is here, unless the limit is over or its user has stopped a held pod; and no
    pod is left.
    """
    await world.begin(failure_rate=0.0, appear_seconds=0.0)
    ann = world.machine("ann")
    here = world.folder / "here"
    here.mkdir()
    seconds = world.choose("seconds", 100, 1_200, 3_600)
    record = world.record(
        max_hours=_LIMIT / 3600,
        command=["save", str(seconds), str(world.choose("code", 0, 3))],
        downloads=[("out", str(here / "out"))],
        wind_down=_WIND_DOWN,
    )
    run = await ann.begin_run(record)
    await world.sleep(min(_BOOT + seconds, _LIMIT - _WIND_DOWN) - 60 + world.moment("moment", 300))
    was_stopped_in_hold = False
    for trouble in world.choose(
        "troubles",
        ["stop"],
        ["partition"],
        ["power"],
        ["partition", "stop"],
        ["stop", "power"],
        ["no ssh", "power"],
    ):
        if trouble == "stop" and run.reload().exit_code is None:
            was_stopped_in_hold = run.state == "holding"
            await ann.stop(run)
        elif trouble in {"partition", "no ssh"}:
            world.has_no_ssh = True
            for machine in world.machines if trouble == "partition" else ():
                world.partition(machine)
        elif trouble == "power":
            ann.kill_processes()
            ann.cut_power()
            await world.sleep(world.moment("off", 60))
            ann.restart()
            ann.attach(run)
        await world.sleep(world.moment("pause", 500))
    world.heal()
    while run.reload().exit_code is None:
        await ann.attach(run)
        await world.sleep(10)
    saved = sum(job.saved() for job in world.check_jobs())
    fetched = int((here / "out").read_bytes()) if (here / "out").exists() else 0
    is_over = (run.record.ended_at or 0.0) - record.began_at >= _LIMIT - _WIND_DOWN / 2
    world.require(
        "what the command has saved is here, or the limit is over, or its user has given it up",
        fetched == saved or is_over or was_stopped_in_hold,
    )
    world.require("no pod is left", not world.is_running(str(run.record.pod_id)))
