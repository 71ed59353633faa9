"""The worlds themselves: a seed is one world, failures and hangs are found and told; and some worlds."""

import asyncio
import gc
import os
from pathlib import Path

import pytest

pytest.importorskip("simloom", reason="it needs the group `worlds`, and Python 3.12")

from .__main__ import seed_of_commit
from .disk import Disk
from .run import Story, load, run, story_names
from .search import describe, search
from .world import World

# Nobody closes the sessions of a machine that loses power.
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed:ResourceWarning")


async def breaks_a_promise(world: World) -> None:
    """A program deletes a pod of somebody else, if the seed says so."""
    await world.begin()
    ann = world.machine("ann")
    ann.lease(hold=5)
    if world.happens("mistake"):
        theirs = next(iter(world.uses))

        async def delete() -> None:
            await ann.client.pods.delete(theirs)

        ann.start("delete", delete)


async def leaks_a_pod(world: World) -> None:
    """A pod is made that nobody is told of."""
    await world.begin()
    world.emulator.add_pod("train-0000000000")


async def waits_forever(world: World) -> None:
    """A program never ends, but time goes on."""
    await world.begin()

    world.machine("ann").start("wait", lambda: asyncio.sleep(1e9))


async def turns_forever(world: World) -> None:
    """A program never ends, and time stands still."""
    await world.begin()
    loop = asyncio.get_running_loop()

    def turn() -> None:
        loop.call_soon(turn)

    turn()
    await asyncio.sleep(1)


def error_of(story: Story) -> str:
    """Run a world; return its error, as text: the error itself would hold the world."""
    return str(run(story, 0)[0].error)


@pytest.mark.parametrize("story", story_names())
def test_a_seed_is_one_world(story: str) -> None:
    """Each story gives the same events twice with the same seed, and ends well."""
    result, _ = run(load(story), 1, check_determinism=True)
    assert result.error is None


def test_a_broken_invariant_is_found_and_shrunk() -> None:
    """The report has the invariant, the draw that matters, and the requests."""
    seed = next(seed for seed in range(20) if run(breaks_a_promise, seed)[0].error is not None)
    report = describe(breaks_a_promise, seed, seconds=0)
    assert "nothing deleted unasked" in report
    assert "mistake = 1 (of 2)" in report
    assert "DELETE /api/v1/pods/" in report


def test_a_pod_that_nobody_is_told_of_is_found() -> None:
    """Whoever made it."""
    assert "nothing billed that nobody was told of" in error_of(leaks_a_pod)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_world_that_hangs_fails() -> None:
    """A call that never ends breaks an invariant; a loop at one moment is stopped after so many steps."""
    assert "every call ends: ann: wait" in error_of(waits_forever)
    assert "livelock" in error_of(turns_forever)
    gc.collect()  # the tasks that such a world cannot even cancel


@pytest.mark.parametrize(("fate", "left"), [(0, b"synced"), (1, b"synced, n"), (2, b"synced, not synced")])
def test_what_is_not_synced_may_be_lost_or_torn(tmp_path: Path, fate: int, left: bytes) -> None:
    """An unsynced append is lost, torn or complete after a power cut; an unsynced name is lost."""
    draws = {"disk.entry": 0, "disk.fate": fate, "disk.tear": 3}
    disk = Disk(tmp_path / "disk", lambda label, _: draws[label])
    with (disk.folder / "lease").open("wb") as file:
        file.write(b"synced")
        file.flush()
        disk.note_sync(file.fileno())
        folder = os.open(disk.folder, os.O_RDONLY)
        disk.note_sync(folder)
        os.close(folder)
        file.write(b", not synced")
    (disk.folder / "other").write_bytes(b"neither is its name")
    disk.restart()
    assert {path.name: path.read_bytes() for path in disk.folder.iterdir()} == {"lease": left}
    disk.close()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_worlds_hold() -> None:
    """Some hundred worlds with the seeds of this commit; ``PRIMEPODS_TEST_WORLDS`` says how many."""
    worlds = int(os.environ.get("PRIMEPODS_TEST_WORLDS", "320"))
    count = 0
    for total, reports in search(worlds, seed_of_commit(), None, os.cpu_count() or 1):
        assert not reports, "\n".join(reports)
        count = sum(total.worlds.values())
    assert count == worlds
