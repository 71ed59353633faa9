"""What the exporter counts, what it does when the API fails, and `primepods exporter`."""

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import primepods
from primepods._utils.unique_names import unique_name
from primepods.emulator import Delay, Edit, Emulator, ManualClock, Status
from primepods.exporter import Exporter, serve
from primepods.runs import Run, RunRecord
from tests.support.client import emulated, make_client
from tests.support.clock import ManualClock as ClientClock
from tests.support.eventually import eventually


class Scraped:
    """The metrics of an exporter, by name and labels."""

    def __init__(self, text: str) -> None:
        self.text = text
        lines = re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE)
        self.rows = [
            (name, dict(re.findall(r'(\w+)="([^"]*)"', labels)), float(value))
            for name, labels, value in lines
        ]

    def sum(self, metric: str, **labels: str) -> float:
        """The sum of a metric over the rows with these labels."""
        return sum(
            value
            for name, found, value in self.rows
            if name == f"primepods_{metric}" and labels.items() <= found.items()
        )


async def scrape(exporter: Exporter) -> Scraped:
    """Look once, and read the metrics."""
    await exporter.look()
    return read(exporter)


def read(exporter: Exporter) -> Scraped:
    """What Prometheus would read."""
    registry = CollectorRegistry()
    registry.register(exporter)
    return Scraped(generate_latest(registry).decode())


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    """An empty account whose time stands still."""
    async with Emulator(clock=ManualClock(), boot_seconds=0, delete_seconds=0) as emulator:
        yield emulator


async def test_the_sums_agree_with_wallet_and_history(emulator: Emulator) -> None:
    """An hour at the exported price is what the wallet charges, and then the history, to the cent."""
    async with make_client(emulator.url, api_key=emulator.api_key) as client:
        for price in (1.11, 2.22, 3.33):
            emulator.add_pod(price_hr=price, gpu_name="H100_80GB", gpu_count=1, provider="nebius", spot=False)
        await client.disks.create(primepods.DiskSpec(size=1000, provider="nebius"))
        seen = await scrape(Exporter(client))
        emulator.advance(3600)
        entries = (await client.account.wallet()).entries
        pods = sum(entry.amount for entry in entries if entry.resource_type == "compute")
        disks = sum(entry.amount for entry in entries if entry.resource_type == "disks")
        assert seen.sum("price_per_hour", currency="USD") == pytest.approx(pods, abs=0.005)
        assert seen.sum("disks_price_per_hour") == pytest.approx(disks, abs=0.005)
        await client.pods.delete_many([pod.id async for pod in client.pods.list()])
        history = sum([record.total_billed_price async for record in client.pods.history()])
        assert history == pytest.approx(pods, abs=0.005)


async def test_pods_cost_what_their_state_costs(emulator: Emulator) -> None:
    """A stopped pod has a price of its own, a terminated one none; ages are by the server's clock."""
    for _ in range(3):
        emulator.add_pod(price_hr=4.0)
    emulator.advance(7200)
    states: dict[str, object] = {
        "data.0.status": "STOPPED",
        "data.0.stoppedPriceHr": 0.5,
        "data.1.status": "TERMINATED",
    }
    emulator.faults.add(Edit(put=states), on="list")
    async with make_client(emulator.url, api_key=emulator.api_key) as client:
        seen = await scrape(Exporter(client))
    assert seen.sum("price_per_hour") == 4.5
    assert seen.sum("pod_age_seconds", status="ACTIVE") == pytest.approx(7200, abs=5)


async def test_what_another_program_ordered_is_seen(emulator: Emulator) -> None:
    """A pod of another name is not leased; what is leased and expired, stopped or ended is told apart."""
    async with make_client(emulator.url, api_key=emulator.api_key) as client:
        exporter = Exporter(client)
        assert (await scrape(exporter)).sum("pods") == 0
        spec = primepods.PodSpec.from_offer(await client.availability.cheapest(gpu_type="H100"))
        await client.pods.create(spec)
        emulator.add_pod("prime-made-this", gpu_name="A100_80GB", price_hr=1.5, team_id="team")
        emulator.add_pod("broken", failure="no", boot_seconds=0)
        seen = await scrape(exporter)
        assert (seen.sum("pods"), seen.sum("pods", leased="no"), seen.sum("pods", status="ERROR")) == (
            3,
            2,
            1,
        )
        assert seen.sum("price_per_hour", gpu="A100_80GB", team="team") == 1.5
        assert not [row for row in seen.rows if any(pod_id in str(row) for pod_id in emulator.pods)]


def test_a_slow_part_keeps_no_other_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that is not read within its time counts as one that failed."""

    async def look() -> Scraped:
        async with emulated(pods=1) as (emulator, client):
            emulator.faults.add(Delay(3600), on="wallet")
            exporter = Exporter(client)
            looking = asyncio.create_task(exporter.look())
            await eventually(lambda: len(exporter._succeeded_at) == 5)
            # The time of all others has come, too, but they have been read.
            loop, time_before = asyncio.get_running_loop(), asyncio.get_running_loop().time
            monkeypatch.setattr(loop, "time", lambda: time_before() + 60)
            await looking
            return read(exporter)

    seen = asyncio.run(look())
    assert (seen.sum("pods"), seen.sum("up", part="pods"), seen.sum("up", part="wallet")) == (1, 1, 0)


async def test_rules_and_dashboard_name_what_there_is() -> None:
    """Each metric in the alert rules and in the Grafana dashboard is exported."""
    async with Emulator(pods=1) as emulator, make_client(emulator.url, api_key=emulator.api_key) as client:
        await client.disks.create(primepods.DiskSpec(size=100, provider="nebius"))
        exported = {name for name, _, _ in (await scrape(Exporter(client))).rows}
    named = set[str]()
    for file in ("alerts.yml", "dashboard.json"):
        text = (Path(__file__).parents[2] / ".github" / "monitoring" / file).read_text(encoding="utf-8")
        expressions = re.findall(r'"?expr"?: "?(.*)', text)
        assert len(expressions) >= 3
        named |= set(re.findall(r"\bprimepods_\w+", " ".join(expressions)))
    assert named <= exported
    assert len(named) > 6


@pytest.mark.slow
async def test_leases_without_their_process_and_expired_pods(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one is a file here, whose process was killed; the other a name, whichever machine made it."""
    program = (
        "import os, primepods\n"
        "with primepods.Client() as client:\n"
        "    spec = primepods.PodSpec.from_offer(client.availability.cheapest(gpu_type='H100'))\n"
        "    with client.pods.lease(spec, interval=0.05):\n"
        "        os._exit(9)\n"
    )
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path))
    async with Emulator(boot_seconds=0) as emulator:
        monkeypatch.setenv("PRIME_API_KEY", emulator.api_key)
        monkeypatch.setenv("PRIME_API_BASE_URL", emulator.url)
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", program)
        assert await process.wait() == 9
        emulator.add_pod(unique_name("job", expires_at=time.time() - 3600))
        async with make_client(emulator.url, api_key=emulator.api_key) as client:
            seen = await scrape(Exporter(client))
    assert (seen.sum("leases_without_process"), seen.sum("pods_expired")) == (1, 1)


async def test_a_failed_look_is_a_metric(emulator: Emulator) -> None:
    """What cannot be read is missing, and said to be; the rest stays, and nothing ends."""
    emulator.add_pod(price_hr=1.5)
    key = emulator.add_api_key({"instances": {"read": True, "write": False}})
    clock = ClientClock(auto=True)
    async with make_client(emulator.url, api_key=key, clock=clock) as client:
        exporter = Exporter(client)
        assert [(name, up) for name, _, up in read(exporter).rows] == [("primepods_up", 0)] * 6
        seen = await scrape(exporter)
        assert (seen.sum("pods"), seen.sum("up", part="pods"), seen.sum("up", part="wallet")) == (1, 1, 0)
        assert "primepods_wallet_balance" not in seen.text
        succeeded_at = seen.sum("last_success_timestamp_seconds", part="pods")
        with emulator.faults.add(Status(503)):
            seen = await scrape(exporter)
        # Without lease files, there is nothing to ask; the runs are on this machine.
        up = {part: seen.sum("up", part=part) for part in ("leases", "runs")}
        assert (seen.sum("up"), up, seen.sum("pods")) == (2, {"leases": 1, "runs": 1}, 0)
        assert seen.sum("last_success_timestamp_seconds", part="pods") == succeeded_at > 0
        assert (await scrape(exporter)).sum("pods") == 1


async def test_held_pods_are_counted(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are billed without work, so an alert can tell somebody to fetch the result."""
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(tmp_path))
    options: dict[str, Any] = {"client": {}, "find": {}, "changes": {}, "lease": {}, "command": ""}
    run = Run.create(RunRecord(**options, is_detached=True, began_at=0.0, held_until=9e9))
    async with make_client(emulator.url, api_key=emulator.api_key) as client:
        assert (await scrape(Exporter(client))).sum("runs", state="holding") == 1
    run.remove()


async def test_scrapes_cost_no_requests(emulator: Emulator) -> None:
    """However many there are; the port is free again at the end."""
    async with make_client(emulator.url, api_key=emulator.api_key) as client:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = int(free.getsockname()[1])
        serving = asyncio.create_task(serve(client, host="127.0.0.1", port=port, interval=3600))
        await eventually(lambda: _reachable(port))
        await eventually(lambda: 'primepods_up{part="pods"} 1.0' in _read(port))
        looked = len(emulator.requests)
        for _ in range(5):
            assert 'primepods_up{part="pods"} 1.0' in await asyncio.to_thread(_read, port)
        assert len(emulator.requests) == looked
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving
        assert not _reachable(port)


def _reachable(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
        return True
    return False


def _read(port: int) -> str:
    opener: Any = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://127.0.0.1:{port}/metrics", timeout=30) as response:
        return str(response.read().decode())


@pytest.mark.slow
async def test_the_command_serves_until_it_is_ended(emulator: Emulator) -> None:
    """It says where, and ends with SIGTERM; a port that is taken is an error in one line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
        variables = {"PRIME_API_KEY": emulator.api_key, "PRIME_API_BASE_URL": emulator.url}
        command = [sys.executable, "-m", "primepods", "exporter", "--port", str(port)]
        taken.listen()
        refused = await asyncio.to_thread(
            subprocess.run,
            command,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (refused.returncode, "in use" in refused.stderr) == (1, True)
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, **variables}, stderr=asyncio.subprocess.PIPE
    )
    try:
        assert process.stderr is not None
        assert f"http://127.0.0.1:{port}/metrics" in (await process.stderr.readline()).decode()
        await eventually(lambda: _reachable(port))
        assert "primepods_up" in await asyncio.to_thread(_read, port)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 143
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
