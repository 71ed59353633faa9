"""Leases in processes of their own: Ctrl-C, once and again, and processes that are killed."""

import signal
import subprocess
import textwrap
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

import primepods
from primepods.emulator import Emulator, Status
from tests.renting.stage import lease_files, spec_of
from tests.support.processes import Process, start_python

ASYNC = """
    import asyncio, sys, primepods
    from tests.renting.child import spec_from_environment

    async def main():
        print("begun", flush=True)
        async with primepods.AsyncClient() as client:
            async with client.pods.lease(spec_from_environment(), interval=0.05) as pod:
                print("ready", pod.id, flush=True)
                await asyncio.sleep(60)

    asyncio.run(main())
"""


PRELUDE = """
        import asyncio, os, signal, sys, threading, time, primepods
        from tests.renting.child import spec_from_environment
        client, spec = primepods.Client(), spec_from_environment()
        """


BLOCKING = (
    PRELUDE
    + """
        print("begun", flush=True)
        with client.pods.lease(spec, interval=0.05) as pod:
            print("ready", pod.id, flush=True)
            time.sleep(60)
        """
)


POOL = (
    PRELUDE
    + """
        def work(pod, item):
            print("begun\\n", end="", flush=True)  # in one write: two threads print
            time.sleep(600)

        with client.pods.pool(spec, size=2, interval=0.05) as pool:
            list(pool.map(work, range(5)))
        """
)


OTHER_LOOP = """
    import asyncio, primepods
    from tests.renting.child import spec_from_environment

    async def begin():
        client = primepods.AsyncClient()
        lease = client.pods.lease(spec_from_environment(), interval=0.05)
        await lease.__aenter__()
        return client, lease

    async def end():
        await client.aclose()
        try:
            await lease.__aexit__(None, None, None)
        except primepods.NotReleasedError as error:
            print(error.pod_id, flush=True)
            input()

    loop = asyncio.new_event_loop()
    client, lease = loop.run_until_complete(begin())
    loop.close()
    asyncio.run(end())
"""


RUSH = """
    import asyncio, primepods
    from tests.renting.child import spec_from_environment

    async def job(client):
        async with client.pods.lease(spec_from_environment(), interval=1):
            pass

    async def main():
        async with primepods.AsyncClient(deadline=10) as client, asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(job(client))

    asyncio.run(main())
"""


def process(emulator: Emulator, folder: Path, source: str) -> Process:
    """A process that leases a pod of the emulator's."""
    with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
        spec = spec_of(client.request("GET", "/api/v1/availability/gpus"))
    fields = ("cloud_id", "gpu_type", "socket", "gpu_count", "provider")
    environment = {
        "PYTHONPATH": str(Path(primepods.__file__).parent.parent),
        "PRIME_API_KEY": emulator.api_key,
        "PRIME_API_BASE_URL": emulator.url,
        "PRIMEPODS_STATE_DIR": str(folder),
        "SPEC": ";".join(f"{name}={getattr(spec, name)}" for name in fields),
    }
    return start_python("-c", textwrap.dedent(source), stdin=subprocess.PIPE, environment=environment)


@contextmanager
def leasing(folder: Path, source: str, **options: Any) -> Iterator[tuple[Emulator, Process]]:
    """An emulator with these options, and such a process."""
    with Emulator(**options) as emulator, process(emulator, folder, source) as running:
        yield emulator, running


def interrupt_until_its_end(running: Process) -> None:
    """Send SIGINT every 0.4 s until the process ends: a busy process merges pending signals."""
    ends_at = time.monotonic() + 50
    while running.poll() is None and time.monotonic() < ends_at:
        running.send_signal(signal.SIGINT)
        time.sleep(0.4)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_rush_on_a_rate_limit(folder: Path) -> None:
    """Processes that lease at once share what the API allows: each lease gets its pod, and all pods go.

    A lease whose last list got no turn leaves its file, in case of a second pod: a sweep finds none.
    """
    with Emulator(boot_seconds=1, delete_seconds=0.3) as emulator, ExitStack() as stack:
        running = [stack.enter_context(process(emulator, folder, RUSH)) for _ in range(4)]
        rule = emulator.faults.add(Status(429, retry_after=1), rate_limit=20, window=1)
        outcomes = [each.communicate(timeout=220) for each in running]
        assert [each.returncode for each in running] == [0] * 4, outcomes
        assert len(emulator.requests.where(method="POST", status=200)) == 16
        assert rule.hits > 0
        assert not emulator.pods
        emulator.faults.clear()
        with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
            assert client.pods.sweep().errors == {}
    assert not lease_files(folder)


@pytest.mark.parametrize(
    ("source", "boot", "told"),
    [
        (ASYNC, 0.0, ["begun", "ready"]),
        (BLOCKING, 0.0, ["begun", "ready"]),
        pytest.param(BLOCKING, 30.0, ["begun"], marks=pytest.mark.slow),
        pytest.param(POOL, 0.1, ["begun", "begun"], marks=pytest.mark.slow),
    ],
    ids=["async", "blocking", "booting", "pool"],
)
def test_ctrl_c_deletes_before_the_process_ends(
    folder: Path, source: str, boot: float, told: list[str]
) -> None:
    """KeyboardInterrupt comes out when the pod, or each of a pool, is gone; also while it boots."""
    with leasing(folder, source, boot_seconds=boot, delete_seconds=0.3) as (emulator, running):
        assert [running.line().partition(" ")[0] for _ in told] == told
        while not emulator.requests.where(path="/api/v1/pods/status"):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=100)
        assert "KeyboardInterrupt" in errors
        assert (len(emulator.pods), list(lease_files(folder))) == (0, [])


def test_a_second_ctrl_c_waits_until_the_deletion_is_accepted(folder: Path) -> None:
    """And the process ends soon."""
    with leasing(folder, ASYNC, boot_seconds=0, delete_seconds=0.5) as (emulator, running):
        assert [running.line().partition(" ")[0] for _ in range(2)] == ["begun", "ready"]
        emulator.faults.add(Status(503), on="delete", times=3)
        running.send_signal(signal.SIGINT)
        while not emulator.requests.where(method="DELETE"):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=100)
        assert (len(emulator.pods), list(lease_files(folder))) == (0, [])


@pytest.mark.parametrize(
    "source", [ASYNC, pytest.param(BLOCKING, marks=pytest.mark.slow)], ids=["async", "blocking"]
)
def test_ctrl_c_again_and_again_gives_up_and_says_so(folder: Path, source: str) -> None:
    """The pod is named on stderr and in its file, and a sweep deletes it."""
    with leasing(folder, source, boot_seconds=0, delete_seconds=0) as (emulator, running):
        assert running.line() == "begun"
        pod_id = running.line().split()[1]
        emulator.faults.add(Status(503), on="delete")
        interrupt_until_its_end(running)
        _, errors = running.communicate(timeout=100)
        assert pod_id in errors
        assert pod_id in emulator.pods
        assert [record.given_up for _, record in lease_files(folder)] == [True]
        emulator.faults.clear()
        with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
            assert client.pods.sweep().deleted == (pod_id,)
        assert (len(emulator.pods), list(lease_files(folder))) == (0, [])


@pytest.mark.slow
def test_a_lease_whose_loop_has_ended_is_told(folder: Path) -> None:
    """In another one its release would be waited for in vain, for ever; a sweep finds the pod at once."""
    with (
        leasing(folder, OTHER_LOOP, boot_seconds=0, delete_seconds=0) as (emulator, running),
        primepods.Client(emulator.api_key, base_url=emulator.url) as client,
    ):
        pod_id = running.line()
        assert client.pods.sweep().deleted == (pod_id,)
        _, errors = running.communicate("\n", timeout=100)
        assert f"Pod {pod_id}" in errors
        assert (len(emulator.pods), list(lease_files(folder))) == (0, [])


@pytest.mark.slow
def test_a_client_whose_loop_is_gone_stops_no_release_at_exit(folder: Path) -> None:
    """The pods of other clients are waited for; its own stays in its file."""
    source = (
        PRELUDE
        + """
        other = primepods.Client()
        leases = [of.pods.lease(spec, interval=0.05) for of in (client, other)]
        pods = [lease.__enter__() for lease in leases]
        print(*[pod.id for pod in pods], flush=True)
        sys.stdin.readline()
        client._portal.close()
        """
    )
    with leasing(folder, source, boot_seconds=0, delete_seconds=0) as (emulator, running):
        lost, slow = running.line().split()
        emulator.faults.add(Status(503), on="delete", pod_id=lost)
        # Longer than a loop has at its own end.
        emulator.faults.add(Status(503), on="delete", pod_id=slow, duration=16.0)
        running.communicate("\n", timeout=100)
        assert list(emulator.pods) == [lost]
        assert [record.pod_id for _, record in lease_files(folder)] == [lost]


@pytest.mark.parametrize("count", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_what_killed_processes_leave_is_swept(folder: Path, count: int) -> None:
    """Killed at random moments: before the order, while it is sent, while the pod boots, in the block."""
    rng = Random(f"killed {count}")
    with Emulator(boot_seconds=0.5, delete_seconds=0.1) as emulator:
        for _ in range(count):
            with process(emulator, folder, ASYNC) as running:
                time.sleep(rng.uniform(0.2, 1.2))
                running.kill()
        with primepods.Client(emulator.api_key, base_url=emulator.url) as client:
            found = client.pods.sweep(dry_run=True).found
            assert {pod.pod_id for pod in found if pod.pod_id} == set(emulator.pods)
            sweep = client.pods.sweep()
        assert len(emulator.pods) == 0
        assert set(sweep.errors) <= {str(pod.name) for pod in found if pod.pod_id is None}


STORM = """
        print("begun", flush=True)
        while True:
            try:
                while not os.path.exists(os.environ["STOP"]):
                    with client.pods.lease(spec, interval=0.05):
                        time.sleep(0.01)
                break
            except (KeyboardInterrupt, primepods.PrimePodsError):
                pass
"""


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_ctrl_c_at_any_moment_leaves_no_unknown_pod(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """150 of them, in a loop of blocking leases: between any two steps of entering and leaving."""
    stop = tmp_path / "stop"
    monkeypatch.setenv("STOP", str(stop))
    rng = Random("storm")
    sent = 0
    with Emulator(boot_seconds=0.02, delete_seconds=0.02) as emulator:
        while sent < 150:
            # The one that hits the loop's own lines ends the process.
            with process(emulator, folder, PRELUDE + STORM) as running:
                assert running.line() == "begun"
                while sent < 150 and running.poll() is None:
                    time.sleep(rng.choice([0.0, rng.uniform(0, 0.02), rng.uniform(0, 0.3)]))
                    running.send_signal(signal.SIGINT)
                    sent += 1
                stop.touch()
                _, errors = running.communicate(timeout=60)
                stop.unlink()
            known = {word for _, record in lease_files(folder) for word in (record.pod_id, record.name)}
            left = [pod_id for pod_id, pod in emulator.pods.items() if not {pod_id, pod.name} & known]
            assert left == [], errors
