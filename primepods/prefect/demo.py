"""``python -m primepods.prefect.demo``: a complete pipeline on this machine, without an account.

The demo starts a Prefect server, an emulator of the API and a worker, and runs the flow "train". It stops all
of them when it exits.
"""

import argparse
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final, NoReturn
from uuid import UUID

import anyio
import httpx
from prefect import flow, get_run_logger, task
from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import FlowRun

from ..emulator import Emulator

_POOL: Final = "gpus"
_START_TIMEOUT: Final = 90.0
_RUN_TIMEOUT: Final = 300.0
_DELETION_TIMEOUT: Final = 60.0


@task
def prepare(samples: int) -> list[float]:
    """Generate data."""
    return [sample / samples for sample in range(samples)]


@task
def fit(data: list[float], epoch: int) -> float:
    """Train one epoch; return the loss."""
    loss = sum((value - 0.5) ** 2 for value in data) / len(data) / (epoch + 1)
    get_run_logger().info("epoch %d: loss %.4f", epoch, loss)
    time.sleep(0.5)
    return loss


@flow
def train(epochs: int = 3) -> float:
    """Example training flow, which runs on a pod."""
    data = prepare(1_000)
    return min(fit(data, epoch) for epoch in range(epochs))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo; ``argv`` are the arguments after its name."""
    parser = argparse.ArgumentParser(
        "python -m primepods.prefect.demo",
        description="Run a complete pipeline on this machine, without an account.",
    )
    parser.add_argument("--runs", type=int, default=4, help="number of flow runs (default: 4)")
    parser.add_argument("--port", type=int, default=0, help="port of the server (default: any free port)")
    parser.add_argument(
        "--boot-seconds", type=float, default=5.0, help="typical boot time in seconds (default: 5)"
    )
    parser.add_argument(
        "--once", action="store_true", help="exit after the last run, instead of waiting for Ctrl-C"
    )
    options = parser.parse_args(argv)
    port = _free_port(options.port)
    # By default, SIGTERM would end this process without cleanup, and leave its child processes running.
    signal.signal(signal.SIGTERM, _exit)
    url = f"http://127.0.0.1:{port}/api"
    with (
        tempfile.TemporaryDirectory(prefix="primepods-demo-") as folder,
        Emulator(boot_seconds=options.boot_seconds, delete_seconds=1.0) as emulator,
    ):
        settings = {
            "HOME": folder,
            "PREFECT_API_URL": url,
            "PREFECT_HOME": folder,
            "PREFECT_LOGGING_TO_API_BATCH_INTERVAL": "0.5",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PRIME_API_BASE_URL": emulator.url,
            "PRIME_API_KEY": emulator.api_key,
            "TMPDIR": folder,
        }
        with _prefect(settings, "server", "start", "--port", str(port)) as server:
            _print("Starting a Prefect server, which takes a while …")
            _wait_for_server(url, server)
            worker = ("worker", "start", "--pool", _POOL, "--type", "prime-pod", "--name", "demo")
            with _prefect(settings, *worker):
                runs = anyio.run(_run, url, options.runs)
                are_deleted = _wait_until(lambda: not emulator.pods, _DELETION_TIMEOUT)
                rented = len(emulator.requests.where(operation="create", status=200))
                _print(f"Pods rented: {rented}. Pods left: {len(emulator.pods)}.")
                if not options.once:
                    _print(f"See http://127.0.0.1:{port}/runs. Press Ctrl-C to stop.")
                    with suppress(KeyboardInterrupt):
                        signal.pause()
    if not are_deleted or any(run.state_name != "Completed" for run in runs):
        raise SystemExit(1)


async def _run(url: str, count: int) -> list[FlowRun]:
    async with PrefectClient(url) as client:
        with anyio.move_on_after(_START_TIMEOUT) as scope:
            # The worker creates the pool.
            while _POOL not in [pool.name for pool in await client.read_work_pools()]:  # noqa: ASYNC110 - polled
                await anyio.sleep(0.5)
        if scope.cancelled_caught:
            raise SystemExit(
                "The Prefect worker did not start. Run "
                f"`prefect worker start --pool {_POOL} --type prime-pod` to see why."
            )
        variables: dict[str, Any] = {
            "ssh_command": shlex.join([sys.executable, "-m", "primepods.emulator.local_ssh"]),
            "poll_interval": 0.5,
        }
        deployment = await client.create_deployment(
            flow_id=await client.create_flow_from_name("train"),
            name="on-pods",
            entrypoint="primepods.prefect.demo.train",
            work_pool_name=_POOL,
            job_variables=variables,
        )
        ids = [(await client.create_flow_run_from_deployment(deployment)).id for _ in range(count)]
        return await _follow(client, ids)


async def _follow(client: PrefectClient, ids: list[UUID]) -> list[FlowRun]:
    printed_states: dict[UUID, str | None] = {}
    with anyio.fail_after(_RUN_TIMEOUT):
        while True:
            runs = [await client.read_flow_run(flow_run_id) for flow_run_id in ids]
            for run in runs:
                if printed_states.get(run.id) != run.state_name:
                    printed_states[run.id] = run.state_name
                    _print(f"{run.name:>24}: {run.state_name}")
            if all(run.state is not None and run.state.is_final() for run in runs):
                return runs
            await anyio.sleep(0.5)


@contextmanager
def _prefect(settings: dict[str, str], *words: str) -> Generator[subprocess.Popen[bytes]]:
    """Run a Prefect command until the block ends."""
    # `env` adds to the inherited environment. `Popen(env=…)` would need a copy of the environment, which only
    # `config/` may read.
    assignments = [f"{name}={value}" for name, value in settings.items()]
    command = ["/usr/bin/env", *assignments, sys.executable, "-m", "prefect", *words]
    with subprocess.Popen(  # noqa: S603 - our own words
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()


def _wait_for_server(url: str, server: subprocess.Popen[bytes]) -> None:
    def poll_server() -> bool:
        """Return whether the server responds, or its process has ended."""
        with suppress(httpx.TransportError):
            return httpx.get(f"{url}/health").is_success
        return server.poll() is not None

    if not _wait_until(poll_server, _START_TIMEOUT) or server.poll() is not None:
        raise SystemExit("The Prefect server did not start. Run `prefect server start` to see why.")


def _wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Wait for a condition for at most ``timeout`` seconds; return whether it became true."""
    deadline = time.monotonic() + timeout
    while not (is_true := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return is_true


def _exit(number: int, _: object) -> NoReturn:
    raise SystemExit(128 + number)


def _free_port(wanted: int) -> int:
    """Return the wanted port if it is free; for 0, return any free port."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError) as exc:
            raise SystemExit(f"The port {wanted} cannot be used: {exc}") from None
        return int(listener.getsockname()[1])


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is a command


if __name__ == "__main__":
    main()
