"""The recipe for Temporal: a real server with a database, and workers in processes of their own."""

import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import attrs
import pytest

pytest.importorskip("temporalio", reason="needs Temporal's SDK, which the step `recipes` of .ci/run installs")
if not Path(sys.executable).with_name("temporal").exists():
    pytest.skip(
        "needs Temporal's server, which the step `recipes` of .ci/run installs", allow_module_level=True
    )

from temporalio.client import Client, WorkflowFailureError, WorkflowHandle
from temporalio.exceptions import ApplicationError, CancelledError

from primepods.emulator import Reset

from .conftest import PATIENCE, Setting, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

SLOW = "echo x >>../runs; touch started; until [ -e ../go ]; do sleep 0.1; done; echo trained"


@attrs.define
class Temporal:
    """A server with its database, and workers of the recipe."""

    setting: Setting
    port: int
    server: subprocess.Popen[bytes] = attrs.field(init=False)
    client: Client = attrs.field(init=False)

    def start_server(self) -> None:
        """Start the server on its database."""
        where = ["--port", str(self.port), "--db-filename", str(self.setting.folder / "temporal.db")]
        self.server = self.setting.start("temporal", "server", "start-dev", "--headless", *where)

    def start_worker(self) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self.setting.start("python", "temporal_recipe.py", f"127.0.0.1:{self.port}")

    async def connect(self) -> None:
        """Connect to the server when it is there."""
        with anyio.fail_after(PATIENCE):
            while True:
                try:
                    self.client = await Client.connect(f"127.0.0.1:{self.port}")
                except RuntimeError:
                    await anyio.sleep(0.1)
                else:
                    return

    async def begin(self, command: str) -> WorkflowHandle[Any, Any]:
        """Start a workflow; a worker is taken for dead after five seconds."""
        job = {"command": command, "takeover": 5.0}
        return await self.client.start_workflow("Training", job, id=uuid4().hex, task_queue="pods")

    async def begun(self, command: str) -> WorkflowHandle[Any, Any]:
        """Start a workflow, and wait until its command runs."""
        handle = await self.begin(command)
        await anyio.to_thread.run_sync(self.setting.until, lambda: self.setting.homes_with("started"))
        return handle

    def go(self) -> None:
        """Let the command end."""
        [home] = self.setting.homes_with("started")
        (home.parent / "go").touch()

    def runs(self) -> int:
        """How often the command has run."""
        [home] = self.setting.homes_with("started")
        return (home.parent / "runs").read_text().count("x")


@pytest.fixture
async def temporal(setting: Setting) -> Temporal:
    """A server that runs."""
    made = Temporal(setting, free_port())
    setting.recipe("Temporal")
    made.start_server()
    await made.connect()
    return made


async def test_a_killed_worker(temporal: Temporal) -> None:
    """Another worker finds the pod, and the command that goes on there; it has run once."""
    worker = temporal.start_worker()
    handle = await temporal.begun(SLOW)
    temporal.setting.kill(worker)
    temporal.start_worker()
    temporal.go()
    assert await handle.result() == "trained\n"
    assert temporal.setting.orders() == temporal.runs() == 1
    assert not temporal.setting.emulator.pods


async def test_a_restarted_server(temporal: Temporal) -> None:
    """The worker goes on when the server is back."""
    temporal.start_worker()
    handle = await temporal.begun(SLOW)
    temporal.setting.kill(temporal.server)
    temporal.start_server()
    await temporal.connect()
    temporal.go()
    assert await temporal.client.get_workflow_handle(handle.id).result() == "trained\n"
    assert temporal.setting.orders() == temporal.runs() == 1
    assert not temporal.setting.emulator.pods


async def test_lost_answers(temporal: Temporal) -> None:
    """Nothing is ordered twice, and nothing is left."""
    temporal.setting.emulator.faults.add(Reset(acted=True), on={"create", "delete"}, times=2)
    temporal.start_worker()
    assert await (await temporal.begin("echo trained")).result() == "trained\n"
    assert temporal.setting.orders() == 1
    assert not temporal.setting.emulator.pods


async def test_a_cancelled_workflow(temporal: Temporal) -> None:
    """Its pod is gone when it has ended."""
    temporal.start_worker()
    handle = await temporal.begun(SLOW)
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert isinstance(caught.value.cause, CancelledError)
    assert not temporal.setting.emulator.pods
    temporal.go()


async def test_much_output(temporal: Temporal) -> None:
    """More than Temporal's limit for a payload: the end of it is the result."""
    temporal.start_worker()
    handle = await temporal.begin("head -c 5000000 /dev/zero | tr '\\0' x; echo trained")
    assert len(result := await handle.result()) == 250_000
    assert result.endswith("xtrained\n")
    assert not temporal.setting.emulator.pods


async def test_a_command_that_fails(temporal: Temporal) -> None:
    """It is not run again, its error says what it printed, and its pod is gone."""
    temporal.start_worker()
    command = "echo x >>../runs; touch started; echo no data >&2; exit 3"
    handle = await temporal.begin(command)
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert caught.value.cause is not None
    error = caught.value.cause.__cause__
    assert isinstance(error, ApplicationError)
    assert (error.type, list(error.details)) == ("CommandError", [3])
    assert error.message == f"{command!r} ended with exit code 3: no data\n"
    assert temporal.runs() == 1
    assert not temporal.setting.emulator.pods
