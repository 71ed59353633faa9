"""A triggerer as it runs in production, with 200 waits."""

import json
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from primepods.emulator import Emulator

from .cluster import Cluster, descendants, open_files, wait_for
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


def files_of(cluster: Cluster) -> int:
    """What the triggerer's processes have open."""
    pid = cluster.parts["triggerer"].pid
    return sum(open_files(process) for process in [pid, *descendants(pid)])


def defer(cluster: Cluster, pods: list[str]) -> None:
    """Have the triggerer wait for pods."""
    for command, text in (("airflow dags reserialize", ""), ("tests.airflow.defer", json.dumps(pods))):
        subprocess.run(
            [sys.executable, "-m", *command.split()],
            env=cluster.environment,
            cwd=ROOT,
            input=text,
            text=True,
            check=True,
            capture_output=True,
        )


def test_two_hundred_waits_survive_the_triggerer(cluster: Cluster, fleet: Emulator) -> None:
    """They are three requests a poll at most, few files, and go on when another triggerer is started."""
    pods = list(fleet.pods)
    cluster.start("triggerer")
    wait_for("the runner of triggers", lambda: descendants(cluster.parts["triggerer"].pid))
    time.sleep(5)
    files = files_of(cluster)
    defer(cluster, pods)
    wait_for("all waits", lambda: asked_for(fleet, 0) == set(pods))
    time.sleep(2 * INTERVAL)

    since, polls = len(fleet.requests), 4
    time.sleep(polls * INTERVAL)
    assert polls <= len(fleet.requests) - since <= 3 * (polls + 1)
    # Airflow itself has a log file open for each trigger.
    more = files_of(cluster) - files - WAITS
    assert more <= 20

    cluster.kill("triggerer")
    since = len(fleet.requests)
    cluster.start("triggerer")
    wait_for("all waits again", lambda: asked_for(fleet, since) == set(pods), seconds=90)
    assert {request.method for request in fleet.requests[:]} == {"GET"}
    assert len(fleet.pods) == WAITS
