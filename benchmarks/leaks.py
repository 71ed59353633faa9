"""Pods that nobody owns, after a thousand jobs: `python -m benchmarks.leaks [--jobs N] [--seed S]`.

Each job rents a pod and deletes it, on an emulator that loses responses to orders and deletions, answers 429
and 503, and boots pods that fail; one job in fifty runs in a process that is killed. The same mix of faults
meets primepods (a lease of the three cheapest offers, then `primepods sweep`), a loop over `requests` that
tries each request four times and deletes in a `finally`, and the same loop over the vendor's client and
SkyPilot's provider functions, if PyPI's `prime` and `skypilot` are installed. Time on the emulator is 60
times as fast. `--output FOLDER` writes leaks.json and leaks.svg there.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any, Protocol

import primepods
from primepods.emulator import Emulator, LostDeletion, Reset, Status

from . import report
from .picture import draw_leaks

TOOLS = {"primepods": "primepods", "requests": "requests", "prime": "prime_cli", "skypilot": "sky"}
"""Each tool, with the module that shows that it is installed."""
_SPEED = 60.0
_BOOT_SECONDS = 12.0
_IN_FLIGHT = 16
_RATE_LIMIT = 100
"""Requests in a real second, beyond which the API answers 429."""
_KILLED_SHARE = 50
"""One job in this many runs in a process that is killed."""
_MAX_KILL_DELAY = 3.0
"""Real seconds from its order on, after which such a process is killed; its work takes as long."""
_ATTEMPTS = 4
_BOOT_TIMEOUT = 5.0
"""Real seconds for a pod to become ready."""
_SETTLE_SECONDS = 5.0
"""Real seconds after the last job, before what is left is counted."""
_HOURS_A_DAY = 24

Job = dict[str, Any]
"""`done`: whether its work was done; `gone`: the id of a pod that its tool said was deleted."""


class Calls(Protocol):
    """The calls of a loop."""

    def create(self) -> str:
        """Order a pod, and return its id."""
        ...

    def status(self, pod_id: str) -> str:
        """Return the pod's state."""
        ...

    def delete(self, pod_id: str) -> None:
        """Delete a pod."""
        ...


def add_faults(emulator: Emulator) -> None:
    """Add the mix of faults."""
    add = emulator.faults.add
    add(Reset(acted=True), on="create", probability=0.03)
    add(Status(503), on="create", probability=0.02)
    add(Status(502, acted=True), on="create", probability=0.01)
    add(Reset(acted=True), on="delete", probability=0.03)
    add(Status(503), on="delete", probability=0.03)
    add(LostDeletion(5), on="delete", probability=0.02)
    add(Status(429, retry_after=0.2), rate_limit=_RATE_LIMIT, window=_SPEED)
    add(Status(503), on={"status", "get", "list"}, probability=0.03)


class Requests:
    """A script's calls, with `requests`."""

    def __init__(self, order: dict[str, Any]) -> None:
        requests: Any = importlib.import_module("requests")
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {os.environ['PRIME_API_KEY']}"
        self._url = os.environ["PRIME_API_BASE_URL"] + "/api/v1/pods/"
        self._order = order

    def _call(self, method: str, path: str = "", **options: Any) -> Any:
        response = self._session.request(method, self._url + path, timeout=10, **options)
        response.raise_for_status()
        return response.json()

    def create(self) -> str:
        """Order a pod."""
        return str(self._call("POST", json=self._order)["id"])

    def status(self, pod_id: str) -> str:
        """Return the pod's state."""
        return str(self._call("GET", pod_id)["status"])

    def delete(self, pod_id: str) -> None:
        """Delete a pod."""
        self._call("DELETE", pod_id)


class Prime:
    """The same calls with the vendor's client."""

    def __init__(self, order: dict[str, Any]) -> None:
        core: Any = importlib.import_module("prime_cli.core")
        pods: Any = importlib.import_module("prime_cli.api.pods")
        self._pods = pods.PodsClient(core.APIClient())
        self._order = order

    def create(self) -> str:
        """Order a pod."""
        return str(self._pods.create(self._order).id)

    def status(self, pod_id: str) -> str:
        """Return the pod's state."""
        return str(self._pods.get(pod_id).status)

    def delete(self, pod_id: str) -> None:
        """Delete a pod."""
        self._pods.delete(pod_id)


class SkyPilot:
    """The same calls with SkyPilot's provider functions, used as its provisioner does.

    That tears a cluster down if its launch has failed, three times at most. Its pauses are as much shorter as
    the emulator's time is faster.
    """

    def __init__(self, order: dict[str, Any]) -> None:
        utils: Any = importlib.import_module("sky.provision.primeintellect.utils")
        common: Any = importlib.import_module("sky.provision.common")
        instance: Any = importlib.import_module("sky.provision.primeintellect.instance")
        logging.disable()  # it writes to the standard output, as this program does
        pod = order["pod"]
        machine = f"{order['provider']['type']}__{pod['gpuCount']}x{pod['gpuType']}__-1__-1"
        # In the place of its catalog, which it would download.
        vars(utils).update(_df=pod, _lookup_dict={machine: pod["cloudId"]})
        utils.INITIAL_BACKOFF_SECONDS /= _SPEED
        instance.POLL_INTERVAL /= _SPEED
        self._sky = instance
        self._config = common.ProvisionConfig(
            provider_config={"zones": "UNSPECIFIED"},
            authentication_config={},
            docker_config={},
            node_config={"InstanceType": machine, "DiskSize": None},
            count=1,
            tags={},
            resume_stopped_nodes=False,
            ports_to_open_on_launch=None,
        )
        self._clusters: dict[str, str] = {}

    def create(self) -> str:
        """Launch a cluster of one pod, and wait until it is ready."""
        name = f"job-{uuid.uuid4().hex[:10]}"
        try:
            record = self._sky.run_instances("UNSPECIFIED", name, name, self._config)
        except Exception:
            for _ in range(3):
                with suppress(Exception):
                    self._sky.terminate_instances(name)
                    break
                time.sleep(self._sky.POLL_INTERVAL)
            raise
        self._clusters[record.head_instance_id] = name
        return str(record.head_instance_id)

    def status(self, pod_id: str) -> str:
        """Return the pod's state."""
        name = self._clusters[pod_id]
        state, _ = self._sky.query_instances(name, name, {}).get(pod_id, (None, None))
        return "ACTIVE" if getattr(state, "name", "") == "UP" else str(state)

    def delete(self, pod_id: str) -> None:
        """Terminate the pod's cluster, and wait until it is gone."""
        self._sky.terminate_instances(self._clusters[pod_id])


def die_after(seconds: float | None) -> float:
    """Have this process killed, if asked to; return the seconds that the work of its job takes."""
    if seconds is None:
        return 0.0
    timer = Timer(seconds, os._exit, [9])
    timer.daemon = True
    timer.start()
    return _MAX_KILL_DELAY


def run_loop(calls: Calls, seconds: float) -> Job:
    """Do one job as scripts do."""

    def retried(call: Callable[..., Any], *arguments: str) -> Any:
        for attempt in range(_ATTEMPTS):
            try:
                return call(*arguments)
            except Exception:
                if attempt + 1 == _ATTEMPTS:
                    raise
                time.sleep(0.05 * 2**attempt)
        return None

    job: Job = {"done": False, "gone": None}
    pod_id = None
    try:
        pod_id = retried(calls.create)
        deadline = time.monotonic() + _BOOT_TIMEOUT
        while (state := retried(calls.status, pod_id)) != "ACTIVE":
            if state == "ERROR" or time.monotonic() > deadline:
                return job
            time.sleep(0.05)
        time.sleep(seconds)
        job["done"] = True
    except Exception:
        return job
    finally:
        if pod_id is not None:
            try:
                retried(calls.delete, pod_id)
                job["gone"] = pod_id
            except Exception:
                print(f"could not delete {pod_id}", file=sys.stderr)
    return job


async def run_leases(count: int, kill_after: float | None) -> list[Job]:
    """Do jobs with leases."""
    slots = asyncio.Semaphore(_IN_FLIGHT)

    async def run(client: primepods.AsyncClient, specs: list[primepods.PodSpec]) -> Job:
        job: Job = {"done": False, "gone": None}
        async with slots:
            try:
                async with client.pods.lease(specs, interval=0.05, ready_timeout=_BOOT_TIMEOUT) as pod:
                    await asyncio.sleep(seconds)
                    job["done"] = True
                job["gone"] = pod.id
            except primepods.PrimePodsError as error:
                print(error, file=sys.stderr)
        return job

    async with primepods.AsyncClient(retry=primepods.RetryPolicy(base_delay=0.05)) as client:
        specs = primepods.PodSpec.from_offers(await client.availability.find(gpu_type="H100", limit=3))
        seconds = die_after(kill_after)
        return await asyncio.gather(*(run(client, specs) for _ in range(count)))


def work(tool: str, count: int, kill_after: float | None) -> None:
    """Do jobs in this process, and print what became of them; or be killed."""
    if tool == "primepods":
        jobs = asyncio.run(run_leases(count, kill_after))
    else:
        with primepods.Client() as client:
            offer = client.availability.find(gpu_type="H100", limit=1)[0]
        order = {
            "pod": {
                "name": "job",
                "cloudId": offer.cloud_id,
                "gpuType": offer.gpu_type,
                "socket": offer.socket,
                "gpuCount": offer.gpu_count,
                "maxPrice": 1_000,
            },
            "provider": {"type": offer.provider},
        }
        kinds: dict[str, Callable[[dict[str, Any]], Calls]] = {
            "requests": Requests,
            "prime": Prime,
            "skypilot": SkyPilot,
        }
        calls = kinds[tool](order)
        seconds = die_after(kill_after)
        with ThreadPoolExecutor(_IN_FLIGHT) as pool:
            jobs = list(pool.map(lambda _: run_loop(calls, seconds), range(count)))
    print(json.dumps(jobs))
    sys.stdout.flush()
    os._exit(0)


def measure(tool: str, jobs: int, seed: int) -> dict[str, Any]:
    """Run the jobs of a tool, and count what is left."""
    killed = jobs // _KILLED_SHARE
    rand = random.Random(seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        Emulator(seed=seed, speed=_SPEED, boot_seconds=_BOOT_SECONDS, failure_rate=0.05) as emulator,
    ):
        add_faults(emulator)
        environment = {
            **os.environ,
            "HOME": folder,
            "PRIMEPODS_STATE_DIR": str(Path(folder, "leases")),
            "PRIME_API_KEY": emulator.api_key,
            "PRIME_API_BASE_URL": emulator.url,
            "PRIME_BASE_URL": emulator.url,
        }

        if tool == "skypilot":
            Path(folder, ".prime").mkdir()
            saved = {"api_key": emulator.api_key, "base_url": emulator.url}
            Path(folder, ".prime", "config.json").write_text(json.dumps(saved), encoding="utf-8")

        def start(count: int, kill_after: float | None) -> list[Job]:
            command = [sys.executable, "-m", "benchmarks.leaks", "--work", tool, "--jobs", str(count)]
            command += [] if kill_after is None else ["--kill-after", str(kill_after)]
            done = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False
            )
            found: list[Job] = json.loads(done.stdout) if done.returncode == 0 else []
            return found

        with ThreadPoolExecutor(3) as pool:
            delays = [rand.uniform(0.0, _MAX_KILL_DELAY) for _ in range(killed)]
            deaths = pool.map(lambda delay: start(1, delay), delays)
            found = start(jobs - killed, None)
            found += [job for dead in deaths for job in dead]
        time.sleep(_SETTLE_SECONDS)
        emulator.faults.clear()
        before = len(emulator.pods)
        if tool == "primepods":
            command = [sys.executable, "-m", "primepods", "sweep", "--yes"]
            subprocess.run(command, env=environment, capture_output=True, check=False)
            time.sleep(_SETTLE_SECONDS / 2)
        left = dict(emulator.pods)
    gone = {job["gone"] for job in found if job["gone"]}
    return {
        "tool": tool,
        "jobs": jobs,
        "seed": seed,
        "done": sum(job["done"] for job in found),
        "left before the sweep": before,
        "left": len(left),
        "dollars a day": round(_HOURS_A_DAY * sum(pod.price_hr for pod in left.values()), 2),
        "false claims": len(gone & left.keys()),
    }


def main() -> None:
    """Run the benchmark, and print a line of JSON for each tool."""
    parser = argparse.ArgumentParser("python -m benchmarks.leaks", description=__doc__)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", nargs="+", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--output", type=Path, help="folder for leaks.json and leaks.svg")
    parser.add_argument("--work", choices=TOOLS, help=argparse.SUPPRESS)
    parser.add_argument("--kill-after", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work, options.jobs, options.kill_after)
    results: list[dict[str, Any]] = []
    for tool in options.only:
        if importlib.util.find_spec(TOOLS[tool]) is None:
            print(f"{tool} is not installed and is left out", file=sys.stderr)
            continue
        results.append(measure(tool, options.jobs, options.seed))
        print(json.dumps(results[-1]), flush=True)
    if options.output:
        (options.output / "leaks.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        (options.output / "leaks.svg").write_text(draw_leaks(results, report.machine()), encoding="utf-8")


if __name__ == "__main__":
    main()
