"""The recipe for Ray: a real cluster, whose nodes are processes of this machine."""

import importlib.util
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from anyio import sleep, to_thread

if importlib.util.find_spec("ray") is None:
    # Not imported, which would take seconds: only the nodes and the driver use it.
    pytest.skip("needs Ray, which the step `recipes` of .ci/run installs", allow_module_level=True)

import primepods
from primepods.emulator import Reset

from .conftest import PATIENCE, Setting, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


def kill_all_with(text: str) -> None:
    """Kill the processes whose command lines have a text that no others have."""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in file.read_bytes():
                os.kill(int(file.parent.name), signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            pass


@pytest.fixture
def sockets() -> Iterator[str]:
    """A folder whose path is short enough for Ray's sockets; what Ray has left running ends with it."""
    folder = tempfile.mkdtemp(prefix="ray", dir="/tmp")
    yield folder
    kill_all_with(folder)
    shutil.rmtree(folder)


async def nodes(head: primepods.AsyncLeasedPod, address: str, count: int) -> set[str]:
    """Run the recipe's driver; return the names of the nodes on which it has run a task, by their ids."""
    result = await head.run(f"python3 driver.py {count}", env={"RAY_ADDRESS": address})
    lines = [line.split() for line in result.stdout.splitlines()]
    assert all(where == "True" for _, where in lines), result
    return {name for name, _ in lines}


async def test_workers_that_fail(setting: Setting, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why; the second failure is an error, which ends the cluster; no third pod is rented."""
    recipe: Any = setting.load("Ray")
    command = ["sh", "-c", "echo no Ray here >&2; exit 4"]
    async with primepods.AsyncClient() as client:
        specs = primepods.PodSpec.from_offers(await client.availability.find(gpu_type="H100", limit=1))
        with pytest.raises(primepods.CommandError, match="no Ray here"):
            await recipe.worker(client, specs, command)
    assert caplog.text.count("ended with exit code 4. ") == setting.orders() == 2
    assert not setting.emulator.pods


async def test_sigterm(setting: Setting) -> None:
    """No pod is left for as long as `max_hours` says."""
    await to_thread.run_sync(setting.end_while_it_waits, "Ray")


async def test_a_cluster(setting: Setting, sockets: str) -> None:
    """Nodes have their pods' names, a worker that is killed is replaced, and the head takes all with it."""
    setting.emulator.faults.add(Reset(acted=True), on={"create", "delete"}, times=2)
    recipe: Any = setting.load("Ray")
    recipe.PORT = free_port()

    def pods() -> set[str]:
        return {pod.name for pod in setting.emulator.pods.values()}

    async def use() -> None:
        options = ["--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats"]
        async with recipe.ray_cluster(1, [*options, f"--temp-dir={sockets}"]) as (head, address):
            await head.upload("driver.py", "driver.py")
            first = await nodes(head, address, 2)
            assert first == pods()
            [worker] = first - {head.name}
            kill_all_with(worker)
            await to_thread.run_sync(setting.until, lambda: worker not in pods() and len(pods()) == 2)
            assert await nodes(head, address, 2) == pods()
            kill_all_with(head.name)
            await sleep(PATIENCE)

    with pytest.raises(ExceptionGroup) as caught:
        await use()
    assert caught.group_contains(primepods.CommandError)
    assert setting.orders() == 3
    assert not setting.emulator.pods
