"""The recipe for Celery: a real worker with prefork processes, and a broker in files."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

pytest.importorskip("celery", reason="needs Celery, which the step `recipes` of .ci/run installs")

from celery.exceptions import TaskRevokedError  # type: ignore[import-untyped]  # Celery has no types
from celery.result import AsyncResult  # type: ignore[import-untyped]  # Celery has no types

from primepods.emulator import Reset

from .conftest import ONCE_SLOW, PATIENCE, Setting

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]

SETTINGS = """
from celery_recipe import app

app.conf.update(
    broker_url="filesystem://",
    broker_transport_options={
        "data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control",
    },
    result_backend="file://results",
    worker_lost_wait=0.1,
)
"""
SLOW = "touch started; sleep 300"


def children(pid: int) -> list[int]:
    """The processes that a process, in any of its threads, has started."""
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


@attrs.frozen
class Pool:
    """The recipe's task, and workers for it."""

    setting: Setting
    task: Any

    def start(self) -> subprocess.Popen[bytes]:
        """Start a worker with two processes."""
        lean = ["--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"]
        return self.setting.start("celery", "-A", "settings", "worker", "-c", "2", *lean)

    def begin(self, command: str) -> AsyncResult[str]:
        """Send a task, and wait until its command runs on its pod."""
        result: AsyncResult[str] = self.task.delay(command)
        self.setting.until(lambda: self.setting.homes_with("started"))
        return result


@pytest.fixture
def pool(setting: Setting) -> Iterator[Pool]:
    """The recipe, with a broker and results in the test's folder."""
    for name in ("queue", "control", "results"):
        (setting.folder / name).mkdir()
    (setting.folder / "settings.py").write_text(SETTINGS, encoding="utf-8")
    module = setting.load("Celery")
    exec(SETTINGS, {})  # noqa: S102 - this process's half of it
    yield Pool(setting, module.train)
    module.app.close()


def test_lost_answers(pool: Pool) -> None:
    """Two tasks at once, in two processes with a client each, leave no pod, though answers are lost."""
    pool.setting.emulator.faults.add(Reset(acted=True), on={"create", "delete"}, times=4)
    pool.start()
    results = [pool.task.delay(f"echo {number}") for number in range(2)]
    assert [result.get(timeout=PATIENCE, interval=0.05) for result in results] == ["0\n", "1\n"]
    assert pool.setting.orders() == 2
    assert not pool.setting.emulator.pods


def test_a_command_that_fails(pool: Pool) -> None:
    """The task's error has the exit code, the command, and what it wrote; its pod is gone."""
    pool.start()
    command = "echo no data >&2; exit 3"
    with pytest.raises(Exception, match="no data") as caught:
        pool.task.delay(command).get(timeout=PATIENCE, interval=0.05)
    assert type(caught.value).__name__ == "JobError"
    assert caught.value.args == (3, command, "no data\n")
    assert not pool.setting.emulator.pods


def test_revoke_gives_the_pod_back(pool: Pool) -> None:
    """A revoked task's command ends, and its pod goes; the worker takes the next task."""
    pool.start()
    result = pool.begin(SLOW)
    result.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        result.get(timeout=PATIENCE, interval=0.05)
    pool.setting.until(lambda: not pool.setting.emulator.pods)
    assert pool.task.delay("echo next").get(timeout=PATIENCE, interval=0.05) == "next\n"


def test_a_killed_process(pool: Pool) -> None:
    """The task runs again, on another pod, and the killed process's pod is deleted before that."""
    worker = pool.start()
    result = pool.begin(ONCE_SLOW)
    # The one that runs the command, not one that waits for a task: that may hold the pool's lock.
    [busy] = [child for child in children(worker.pid) if children(child)]
    os.kill(busy, signal.SIGKILL)
    assert result.get(timeout=PATIENCE, interval=0.05) == ""
    assert pool.setting.homes_with("again") != pool.setting.homes_with("started")
    assert pool.setting.orders() == 2
    assert not pool.setting.emulator.pods


def test_a_restarted_worker(pool: Pool) -> None:
    """A task in the queue outlives the worker, and the next worker deletes the pod that it has left."""
    worker = pool.start()
    pool.begin(SLOW)
    pool.setting.kill(worker)
    waiting = pool.task.delay("echo waited")
    [left] = pool.setting.emulator.pods
    pool.start()
    assert waiting.get(timeout=PATIENCE, interval=0.05) == "waited\n"
    assert left not in pool.setting.emulator.pods
    assert not pool.setting.emulator.pods


def test_a_warm_shutdown(pool: Pool) -> None:
    """The worker waits for its task, and so does whoever stops it."""
    worker = pool.start()
    result = pool.begin("touch started; sleep 3; echo done")
    worker.terminate()
    assert worker.wait(PATIENCE) == 0
    assert result.get(timeout=PATIENCE, interval=0.05) == "done\n"
    assert not pool.setting.emulator.pods


def test_a_soft_shutdown(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the page's two settings, the task is ended after its time, without a pod, and queued again."""
    monkeypatch.setenv("REMAP_SIGTERM", "SIGQUIT")
    with (pool.setting.folder / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write("app.conf.worker_soft_shutdown_timeout = 0.5\n")
    worker = pool.start()
    pool.begin(SLOW)
    worker.terminate()
    assert worker.wait(PATIENCE) == 0
    assert not pool.setting.emulator.pods
    assert "Restoring 1 unacknowledged message" in pool.setting.log()
