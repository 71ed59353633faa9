"""A triggerer as it runs in production, with 200 waits."""

import json
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from primepods.emulator import Emulator

from .cluster import Cluster, descendants, open_sockets, wait_for
from .conftest import ROOT, connection, own_home

WAITS = 200
INTERVAL = 2.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def fleet() -> Generator[Emulator]:
    """Pods that take long to boot."""
    with Emulator(pods=WAITS, boot_seconds=3600) as emulator:
        yield emulator


@pytest.fixture
def cluster(airflow_home: dict[str, str], tmp_path: Path, fleet: Emulator) -> Generator[Cluster]:
    """An Airflow of its own."""
    cluster = Cluster(own_home(airflow_home, tmp_path) | connection(fleet))
    yield cluster
    cluster.stop()


def asked_for(fleet: Emulator, since: int) -> set[str]:
    """The pods whose status was asked for."""
    return {value for request in fleet.requests[since:] for name, value in request.query if name == "pod_ids"}


def sockets_of(cluster: Cluster) -> int:
    """How many sockets the triggerer's processes have open."""
    pid = cluster.parts["triggerer"].pid
    return sum(open_sockets(process) for process in [pid, *descendants(pid)])


def defer(cluster: Cluster, pods: list[str]) -> None:
    """Have the triggerer wait for pods."""
    subprocess.run(
        [sys.executable, "-m", "tests.airflow.defer"],
        env=cluster.environment,
        cwd=ROOT,
        input=json.dumps(pods),
        text=True,
        check=True,
        capture_output=True,
    )


def test_two_hundred_waits_survive_the_triggerer(cluster: Cluster, fleet: Emulator) -> None:
    """They are three requests a poll at most, few sockets, and go on when another triggerer is started."""
    pods = list(fleet.pods)
    defer(cluster, pods)
    cluster.start("triggerer")
    wait_for("all waits", lambda: asked_for(fleet, 0) == set(pods))
    time.sleep(2 * INTERVAL)

    since, polls = len(fleet.requests), 4
    time.sleep(polls * INTERVAL)
    assert polls <= len(fleet.requests) - since <= 3 * (polls + 1)
    # Airflow has some of its own, to its database's process and between its processes.
    assert sockets_of(cluster) <= 30

    cluster.kill("triggerer")
    since = len(fleet.requests)
    cluster.start("triggerer")
    wait_for("all waits again", lambda: asked_for(fleet, since) == set(pods), seconds=90)
    assert {request.method for request in fleet.requests[:]} == {"GET"}
    assert len(fleet.pods) == WAITS
