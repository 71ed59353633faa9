"""A triggerer as it runs in production, with 200 waits."""

import json
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing

import pytest

from primepods.emulator import Emulator

from .cluster import Cluster, descendants, open_sockets, wait_for

WAITS = 200
INTERVAL = 2.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture
def pods(cluster: Cluster, cluster_emulator: Emulator) -> Generator[list[str]]:
    """Pods that take long to boot, and for each a task that waits in the triggerer."""
    cluster_emulator.reset()
    pods = [cluster_emulator.add_pod(boot_seconds=3600) for _ in range(WAITS)]
    file = cluster.home / "pods.json"
    file.write_text(json.dumps(pods))
    cluster.fork("tests.airflow.defer", str(file), log="defer.log").wait()
    yield pods
    # Other tests find a triggerer that waits for nothing.
    cluster.kill("triggerer")
    with closing(sqlite3.connect(cluster.home / "airflow.db", timeout=60)) as database, database:
        database.execute("UPDATE task_instance SET state = 'failed', trigger_id = NULL WHERE trigger_id > 0")
    cluster.start("triggerer")


def asked_for(emulator: Emulator, since: int) -> set[str]:
    """The pods whose status was asked for."""
    asked = [query for request in emulator.requests[since:] for query in request.query]
    return {value for name, value in asked if name == "pod_ids"}


def sockets_of(cluster: Cluster) -> int:
    """How many sockets the triggerer's processes have open."""
    pid = cluster.parts["triggerer"].pid
    return sum(open_sockets(process) for process in [pid, *descendants(pid)])


def test_two_hundred_waits_survive_the_triggerer(
    cluster: Cluster, cluster_emulator: Emulator, pods: list[str]
) -> None:
    """They are three requests a poll at most, few sockets, and go on when another triggerer is started."""
    requests = cluster_emulator.requests
    wait_for("all waits", lambda: asked_for(cluster_emulator, 0) == set(pods))
    time.sleep(INTERVAL)  # until those that came in between wait for the common poll

    # Not the first pod: a process that another test has left may ask for one with its id.
    others = set(pods[1:])

    def polls() -> int:
        return sum(not others.isdisjoint(value for _, value in request.query) for request in requests[:])

    since, begun = polls(), time.monotonic()
    wait_for("four polls", lambda: polls() >= since + 8)
    # One may have been due before, and one may come in time after one that was late.
    assert polls() - since <= 3 * ((time.monotonic() - begun) / INTERVAL + 2)
    # Airflow has some of its own, to its database's process and between its processes.
    assert sockets_of(cluster) <= 30

    cluster.kill("triggerer")
    since = len(requests)
    cluster.start("triggerer")
    wait_for("all waits again", lambda: asked_for(cluster_emulator, since) == set(pods))
    assert {request.method for request in requests[:]} == {"GET"}
    assert len(cluster_emulator.pods) == WAITS
