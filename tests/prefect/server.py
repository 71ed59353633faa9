"""A real Prefect server, and workers in processes of their own."""

import os
import shlex
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID, uuid4

import anyio
import httpx
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import FlowRun, StateType

from primepods.emulator import Emulator
from tests.support.forks import Fork, ForkServer

FLOWS = Path(__file__).parent
MODULES = ("prefect.cli.server", "prefect.cli.worker", "prefect.server.api.server", "primepods.prefect")
"""What the server and the workers import."""
LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"
API_INTERVAL = 1.0
"""Seconds between two looks at the server, each of which takes it a good while."""
HEARTBEAT = 1
"""Seconds between two heartbeats in the tests that are about them; each is a write to the database."""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class PrefectServer:
    """``prefect server start``, with a database in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}/api"
        self.log = folder / "server.log"
        self._forks = ForkServer(folder, MODULES, self.environment())

    def command(self, *words: str, log: Path, **environment: str) -> Fork:
        """Start a command of Prefect's; its output goes to a file."""
        return self._forks.run("tests.prefect.command", *words, log=log, environment=environment)

    @property
    def database(self) -> bytes:
        """All bytes of the database, and of the log that is written ahead of it."""
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob("prefect.db*")))

    def copy_flow_run(self, flow_run_id: UUID, count: int) -> list[UUID]:
        """Copy a flow run in the database, which the API does more slowly; return the copies' ids."""
        ids = [uuid4() for _ in range(count)]
        with closing(sqlite3.connect(self.folder / "prefect.db", timeout=60)) as database, database:
            database.execute(
                "CREATE TEMP TABLE copy AS SELECT * FROM flow_run WHERE id = ?", [str(flow_run_id)]
            )
            for new in ids:
                database.execute("UPDATE copy SET id = ?", [str(new)])
                database.execute("INSERT INTO flow_run SELECT * FROM copy")
        return ids

    def delete_flow_runs(self, flow_run_ids: list[UUID]) -> None:
        """Delete flow runs in the database."""
        with closing(sqlite3.connect(self.folder / "prefect.db", timeout=60)) as database, database:
            database.executemany("DELETE FROM flow_run WHERE id = ?", [(str(run),) for run in flow_run_ids])

    def environment(self) -> dict[str, str]:
        """What a process needs to talk to it."""
        return {
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "NO_COLOR": "1",
        }

    def start(self) -> None:
        """Start it; return when it answers."""
        port = self.url.split(":")[2].removesuffix("/api")
        self._process = self.command("server", "start", "--port", port, "--no-ui", log=self.log)
        ends_at = time.monotonic() + 250
        while time.monotonic() < ends_at:
            try:
                if httpx.get(f"{self.url}/health").status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            if not self._process.is_alive:
                break
            time.sleep(0.2)
        self.__exit__(None, None, None)
        raise TimeoutError(self.log.read_text())

    def stop(self) -> None:
        """Kill it: connections are refused. Its database stays."""
        self._process.stop(signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._forks.__exit__(kind, exc, traceback)


class Setting:
    """A work pool of a test's own, workers of it, and an account whose pods they rent."""

    def __init__(self, server: PrefectServer, emulator: Emulator, folder: Path) -> None:
        self.server = server
        self.emulator = emulator
        self.folder = folder
        self.pool = f"pool-{uuid4().hex[:8]}"
        self.workers: list[Fork] = []
        self.variables: dict[str, Any] = {"ssh_command": LOCAL_SSH, "poll_interval": 0.1}

    async def __aenter__(self) -> Self:
        self.client = await PrefectClient(self.server.url).__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for worker in self.workers:
            if worker.is_alive:
                worker.stop(signal.SIGKILL)
        await self.client.__aexit__(*error)

    async def start_worker(self, name: str = "first", *, heartbeat: int = 30, **environment: str) -> Fork:
        """Start a worker; return when it is known to the server."""
        more = {
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": str(heartbeat),
            "PRIME_API_BASE_URL": self.emulator.url,
            "PRIME_API_KEY": self.emulator.api_key,
            "PRIMEPODS_STATE_DIR": str(self.folder / f"leases-{name}"),
            "TMPDIR": str(self.folder),
        }
        words = ["worker", "start", "--pool", self.pool, "--type", "prime-pod", "--name", name]
        log = self.folder / f"{name}.log"
        start = log.stat().st_size if log.exists() else 0
        worker = self.server.command(*words, log=log, **more | environment)
        self.workers.append(worker)
        await eventually(lambda: "started!" in log.read_text()[start:], worker)
        return worker

    async def deploy(self, flow: str, **variables: Any) -> UUID:
        """Deploy a flow of ``flows.py`` to the pool; return the deployment's id."""
        flow_id = await self.client.create_flow_from_name(flow)
        return await self.client.create_deployment(
            flow_id=flow_id,
            # A second one of the same name would change the first.
            name=uuid4().hex,
            entrypoint=f"flows.py:{flow}",
            work_pool_name=self.pool,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(FLOWS)}}],
            job_variables=self.variables | variables,
        )

    async def start(self, flow: str, parameters: dict[str, Any] | None = None, **variables: Any) -> UUID:
        """Deploy a flow, and have it run; return the run's id."""
        deployment = await self.deploy(flow, **variables)
        run = await self.client.create_flow_run_from_deployment(deployment, parameters=parameters)
        return run.id

    async def ended(self, *flow_runs: UUID, timeout: float = 250.0) -> list[FlowRun]:
        """Return flow runs when all have ended and no pods are left."""
        found: list[FlowRun] = []
        with anyio.fail_after(timeout):
            while True:
                while self.emulator.pods:
                    await anyio.sleep(0.1)
                found = [await self.client.read_flow_run(flow_run) for flow_run in flow_runs]
                is_over = all(flow_run.state and flow_run.state.is_final() for flow_run in found)
                if is_over and not self.emulator.pods:
                    return found
                await anyio.sleep(API_INTERVAL)

    async def crashed(self, flow_run: UUID, message: str) -> FlowRun:
        """Return a flow run when it has crashed with a message, and no pods are left."""
        [found] = await self.ended(flow_run)
        assert found.state is not None
        assert found.state_name == "Crashed"
        assert message in str(found.state.message)
        return found

    async def reaches(self, flow_run: UUID, *states: StateType) -> FlowRun:
        """Return a flow run when it is in one of some states."""
        with anyio.fail_after(250):
            while True:
                found = await self.client.read_flow_run(flow_run)
                if found.state_type in states:
                    return found
                await anyio.sleep(API_INTERVAL)

    async def has_pod(self) -> str:
        """Return the id of the first pod that there is."""
        await eventually(lambda: bool(self.emulator.pods))
        return next(iter(self.emulator.pods))

    async def log_of(self, flow_run: UUID) -> str:
        """Return what the server has of a flow run's log."""
        wanted = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run]))
        return "\n".join(line.message for line in await self.client.read_logs(wanted, limit=200))

    async def log_has(self, flow_run: UUID, *texts: str) -> str:
        """Return a flow run's log when it has some texts; logs are sent in batches."""
        log = ""
        with anyio.fail_after(250):
            while not all(text in log for text in texts):
                await anyio.sleep(API_INTERVAL)
                log = await self.log_of(flow_run)
        return log

    @property
    def logs(self) -> str:
        """What all workers and the server have written."""
        return self.server.log.read_text() + "".join(worker.log.read_text() for worker in self.workers)


async def eventually(
    condition: Callable[[], bool], process: Fork | None = None, timeout: float = 250.0
) -> None:
    """Return when a condition holds; fail at once if a process that it depends on has ended."""
    with anyio.fail_after(timeout):
        while not condition():
            assert process is None or process.is_alive, process.log.read_text()
            await anyio.sleep(0.05)
