"""The recipe for Dask: a real scheduler, and workers in processes of their own."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("distributed", reason="needs Dask, which the step `recipes` of .ci/run installs")

from distributed import Client

from primepods.emulator import Reset

from .conftest import ONCE_SLOW, PATIENCE, Setting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

IDLE = "import time\nfrom dask_recipe import pod_cluster\nwith pod_cluster(1):\n    time.sleep(300)\n"


def is_open(port: int) -> bool:
    """Whether somebody listens at a port."""
    with socket.socket() as made:
        return made.connect_ex((socket.gethostname(), port)) == 0


@pytest.fixture
def cluster(setting: Setting) -> Iterator[Any]:
    """The recipe's cluster, with one worker."""
    with setting.load("Dask").pod_cluster(1) as cluster:
        yield cluster


def test_a_killed_worker(setting: Setting, cluster: Any) -> None:
    """The task that it was running runs on another pod, and the first pod is gone."""
    connect: Any = Client  # it has no types
    with connect(cluster) as client:
        client.wait_for_workers(1, timeout=PATIENCE)
        [group] = client.run(os.getpgrp).values()
        [first] = setting.emulator.pods
        done = client.submit(subprocess.run, ["sh", "-c", ONCE_SLOW])
        setting.until(lambda: setting.homes_with("started"))
        os.killpg(group, signal.SIGKILL)
        assert done.result(timeout=PATIENCE).returncode == 0
    assert setting.homes_with("again") != setting.homes_with("started")
    assert first not in setting.emulator.pods
    assert setting.orders() == 2


def test_workers_that_fail(setting: Setting, cluster: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why, for each of two pods, no third is rented, and who waits for workers is told."""
    recipe: Any = sys.modules["dask_recipe"]

    class Broken(recipe.PodWorker):  # type: ignore[misc]  # a class of the paper's
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            self.command = ["sh", "-c", "echo no Dask here >&2; exit 4"]

    cluster.wait_for_workers(1, timeout=PATIENCE)
    cluster.new_spec["cls"] = Broken
    cluster.scale(2)
    setting.until(lambda: caplog.text.count("ended with exit code 4. Its last line") == 2)
    setting.until(lambda: len(setting.emulator.pods) == 1 and len(cluster.worker_spec) == 1)
    assert setting.orders() == 3
    with pytest.raises(TimeoutError, match="Only 1/2 workers arrived"):
        cluster.wait_for_workers(2, timeout=0.5)


def test_sigterm(setting: Setting) -> None:
    """No pod is left for as long as `max_hours` says."""
    setting.end_while_it_waits("Dask")


def test_scaling_down(setting: Setting, cluster: Any) -> None:
    """Each worker that is retired gives its pod back, and rents no other."""
    cluster.scale(2)
    cluster.wait_for_workers(2, timeout=PATIENCE)
    cluster.scale(0)
    setting.until(lambda: not setting.emulator.pods)
    assert setting.orders() == 2


def test_lost_answers(setting: Setting) -> None:
    """The program ends well, has ordered two pods, and leaves none."""
    setting.emulator.faults.add(Reset(acted=True), on={"create", "delete"}, times=4)
    program = setting.start("python", str(setting.recipe("Dask")))
    assert program.wait(PATIENCE) == 0, setting.log()
    assert "[0, 1, 4, 9, 16, 25, 36, 49, 64, 81]" in setting.log()
    assert setting.orders() == 2
    assert not setting.emulator.pods


def test_a_killed_program(setting: Setting) -> None:
    """Its workers end by themselves, and the next start deletes its pods."""
    setting.recipe("Dask")
    program = setting.start("python", "-c", IDLE)
    setting.until(lambda: "Register worker" in setting.log())
    [left] = setting.emulator.pods
    [port] = re.findall(r"Register worker addr: tcp://.*:(\d+)", setting.log())
    setting.kill(program)
    setting.until(lambda: not is_open(int(port)))
    setting.load("Dask").pod_cluster(0).close()
    assert left not in setting.emulator.pods
