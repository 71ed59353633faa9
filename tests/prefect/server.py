"""A real Prefect server, and workers in processes of their own."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
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

FLOWS = Path(__file__).parent
LOCAL_SSH = f"{shlex.quote(sys.executable)} -m primepods.emulator.local_ssh"
HEARTBEAT = 1
"""Seconds between two heartbeats in the tests that are about them; each is a write to the database."""


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Process:
    """A command that runs until it is stopped; its output goes to a file."""

    def __init__(self, arguments: Iterable[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            # A shell that started us in the background may have had SIGINT ignored, which is inherited.
            self._process = subprocess.Popen(
                ["/usr/bin/env", "--default-signal=INT,TERM", sys.executable, "-m", "prefect", *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=log.parent,
            )

    def send(self, number: int) -> None:
        """Send a signal."""
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGTERM, timeout: float = 30.0) -> int:
        """Send a signal, and return the exit code."""
        self.send(number)
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            self._process.wait()

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None


class PrefectServer:
    """``prefect server start``, with a database in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}/api"
        self.log = folder / "server.log"

    @property
    def database(self) -> bytes:
        """All bytes of the database, and of the log that is written ahead of it."""
        return b"".join(path.read_bytes() for path in sorted(self.folder.glob("prefect.db*")))

    def environment(self, **more: str) -> dict[str, str]:
        """What a process needs to talk to it."""
        return {
            "HOME": str(self.folder),
            "PATH": os.environ["PATH"],
            "PREFECT_HOME": str(self.folder),
            "PREFECT_API_URL": self.url,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "NO_COLOR": "1",
            **more,
        }

    def stop_answering(self) -> None:
        """Freeze it: requests wait until they time out."""
        self._process.send(signal.SIGSTOP)

    def answer_again(self) -> None:
        """Have it go on."""
        self._process.send(signal.SIGCONT)

    def __enter__(self) -> Self:
        port = self.url.split(":")[2].removesuffix("/api")
        self._process = Process(["server", "start", "--port", port, "--no-ui"], self.environment(), self.log)
        ends_at = time.monotonic() + 60
        while time.monotonic() < ends_at:
            try:
                if httpx.get(f"{self.url}/health").status_code == httpx.codes.OK:
                    return self
            except httpx.TransportError:
                pass
            if not self._process.is_alive:
                break
            time.sleep(0.2)
        self.__exit__(None, None, None)
        raise TimeoutError(self.log.read_text())

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.stop(signal.SIGKILL)


class Setting:
    """A work pool of a test's own, workers of it, and an account whose pods they rent."""

    def __init__(self, server: PrefectServer, emulator: Emulator, folder: Path) -> None:
        self.server = server
        self.emulator = emulator
        self.folder = folder
        self.pool = f"pool-{uuid4().hex[:8]}"
        self.workers: list[Process] = []
        self.variables: dict[str, Any] = {"ssh_command": LOCAL_SSH, "poll_interval": 0.1}

    async def __aenter__(self) -> Self:
        self.client = await PrefectClient(self.server.url).__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        for worker in self.workers:
            if worker.is_alive:
                worker.stop(signal.SIGKILL)
        await self.client.__aexit__(*error)

    async def start_worker(self, name: str = "first", *, heartbeat: int = 30, **environment: str) -> Process:
        """Start a worker; return when it is known to the server."""
        more = {
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_HEARTBEAT_SECONDS": str(heartbeat),
            "PRIME_API_BASE_URL": self.emulator.url,
            "PRIME_API_KEY": self.emulator.api_key,
            "PRIMEPODS_STATE_DIR": str(self.folder / f"leases-{name}"),
            "TMPDIR": str(self.folder),
        }
        arguments = ["worker", "start", "--pool", self.pool, "--type", "prime-pod", "--name", name]
        log = self.folder / f"{name}.log"
        worker = Process(arguments, self.server.environment(**more | environment), log)
        self.workers.append(worker)
        await eventually(lambda: "started!" in log.read_text(), worker)
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

    async def ended(self, *flow_runs: UUID, timeout: float = 120.0) -> list[FlowRun]:
        """Return flow runs when all have ended and no pods are left."""
        found: list[FlowRun] = []
        with anyio.fail_after(timeout):
            while True:
                found = [await self.client.read_flow_run(flow_run) for flow_run in flow_runs]
                is_over = all(flow_run.state and flow_run.state.is_final() for flow_run in found)
                if is_over and not self.emulator.pods:
                    return found
                await anyio.sleep(0.1)

    async def reaches(self, flow_run: UUID, *states: StateType) -> FlowRun:
        """Return a flow run when it is in one of some states."""
        with anyio.fail_after(60):
            while True:
                found = await self.client.read_flow_run(flow_run)
                if found.state_type in states:
                    return found
                await anyio.sleep(0.1)

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
        with anyio.fail_after(120):
            while not all(text in log for text in texts):
                await anyio.sleep(0.2)
                log = await self.log_of(flow_run)
        return log

    @property
    def logs(self) -> str:
        """What all workers and the server have written."""
        return self.server.log.read_text() + "".join(worker.log.read_text() for worker in self.workers)


async def eventually(
    condition: Callable[[], bool], process: Process | None = None, timeout: float = 60.0
) -> None:
    """Return when a condition holds; fail at once if a process that it depends on has ended."""
    with anyio.fail_after(timeout):
        while not condition():
            assert process is None or process.is_alive, process.log.read_text()
            await anyio.sleep(0.05)
