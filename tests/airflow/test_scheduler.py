"""Tasks in a whole Airflow: killed workers, tasks that a user ends, an API that is not there."""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from primepods.emulator import Emulator
from primepods.emulator.faults import Delay, Drip, Status

from .cluster import Cluster, signal_all, wait_for

WAITS = ["wait_here", pytest.param("wait_deferred", marks=pytest.mark.each_version)]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(500)]


@pytest.fixture
def emulator(cluster_emulator: Emulator) -> Emulator:
    """Where the cluster's pods are: each test begins with none, and without requests."""
    cluster_emulator.reset()
    return cluster_emulator


def counts(emulator: Emulator) -> tuple[int, int]:
    """How many pods were ordered, and how often a deletion was accepted."""
    requests = emulator.requests[:]
    accepted = [request for request in requests if request.method == "DELETE" and request.status == 200]
    return [request.method for request in requests].count("POST"), len(accepted)


def add_pod(emulator: Emulator) -> str:
    """Add a pod whose id no other test has: tasks of earlier tests may still ask for theirs."""
    return emulator.add_pod(id=uuid4().hex, boot_seconds=3600)


def polls(emulator: Emulator, pod_id: str) -> int:
    """How often the state of a pod was asked for."""
    return sum(pod_id in f"{request.path} {request.query}" for request in emulator.requests[:])


def gone(emulator: Emulator) -> bool:
    """Whether no pod is left."""
    return not emulator.pods


def test_create_killed_after_its_order_adopts_the_pod(cluster: Cluster, emulator: Emulator) -> None:
    """The worker dies while the answer is on its way: the retry goes on with the pod."""
    emulator.faults.add(Drip(200.0), on="create", times=1)
    run = cluster.run("rent")
    wait_for("the order", lambda: emulator.pods)
    run.kill_worker("create")
    assert run.wait_until_done() == "success"
    assert run.task("create")["try_number"] == 2
    assert "that an earlier try has rented" in run.log("create")
    assert counts(emulator) == (1, 1)
    assert gone(emulator)


def test_a_job_that_is_cleared_runs_on_the_new_pod(cluster: Cluster, emulator: Emulator) -> None:
    """Create and wait are cleared along with it: it never gets the address of the pod that is deleted."""
    run = cluster.run("train")
    assert run.wait_until_done() == "success"
    first = run.result("train")
    run.clear("train")
    wait_for("the second order", lambda: counts(emulator)[0] == 2)
    assert run.wait_until_done() == "success"
    assert run.result("train") == run.result("create")["id"] != first
    assert gone(emulator)


def is_ordered(emulator: Emulator, _: Path) -> bool:
    """Whether there is a pod."""
    return bool(emulator.pods)


def is_active(emulator: Emulator, _: Path) -> bool:
    """Whether there is one that has booted."""
    return any(pod.status == "ACTIVE" for pod in emulator.pods.values())


def has_begun(_: Emulator, folder: Path) -> bool:
    """Whether a command has made something in its folder."""
    return any(folder.iterdir())


@pytest.mark.parametrize(
    ("dag_id", "task_id", "drip", "is_due"),
    [
        # The order ends before Airflow's next heartbeat, which would call `on_kill`.
        ("rent", "create", 2.0, is_ordered),
        # Its answer comes too late: the pod is found by its name.
        ("rent", "create", 200.0, is_ordered),
        ("run_job", "work", 200.0, is_ordered),
        # A plain task has no `on_kill`, but `exit_on_sigterm`.
        ("lease", "hold", 0.0, is_active),
        pytest.param("run_job", "work", 0.0, has_begun, marks=pytest.mark.each_version),
    ],
)
def test_a_task_that_is_marked_failed_gives_its_pod_back(
    cluster: Cluster,
    emulator: Emulator,
    tmp_path: Path,
    *,
    dag_id: str,
    task_id: str,
    drip: float,
    is_due: Callable[[Emulator, Path], bool],
) -> None:
    """Before Airflow kills its worker: while it orders, and while it uses the pod."""
    emulator.faults.add(Drip(drip), on="create", times=1)
    run = cluster.run(dag_id, command=f"touch {tmp_path}/$$; exec sleep 300")
    wait_for("the moment", lambda: is_due(emulator, tmp_path))
    run.mark_failed(task_id)
    wait_for("the end of the pod", lambda: gone(emulator))
    assert counts(emulator) == (1, 1)
    assert run.task(task_id)["state"] == "failed"


def test_a_wait_goes_on_in_another_worker(cluster: Cluster, emulator: Emulator) -> None:
    """The worker dies in mid-wait: the retry waits for the same pod."""
    pod_id = add_pod(emulator)
    run = cluster.run("wait_here", pod_id=pod_id)
    wait_for("the wait", lambda: polls(emulator, pod_id) > 2)
    run.kill_worker("wait")
    # The task's own process notices a little later, and goes on asking until then.
    wait_for("the retry", lambda: run.task("wait")["try_number"] == 2, interval=0.5)
    run.wait_for_task("wait", "running")
    since = polls(emulator, pod_id)
    wait_for("what it asks", lambda: polls(emulator, pod_id) > since + 2)
    assert counts(emulator) == (0, 0)
    run.mark_failed("wait")
    wait_for("the end of the pod", lambda: gone(emulator))


@pytest.mark.parametrize("dag_id", WAITS)
def test_a_wait_that_is_marked_failed_deletes_once(cluster: Cluster, emulator: Emulator, dag_id: str) -> None:
    """In a worker or in the triggerer, where `delete_on_kill` asks for it."""
    pod_id = add_pod(emulator)
    run = cluster.run(dag_id, pod_id=pod_id)
    if dag_id == "wait_deferred":
        # The worker looks first, and Airflow cancels no trigger that has not started.
        run.wait_for_task("wait", "deferred")
        emulator.requests.clear()
        # Slower than Airflow, which repeats the cancellation of a trigger once a second. A worker's task is
        # killed after 5 seconds, which on a busy machine leave time for a single request.
        emulator.faults.add(Delay(2.0), on="delete", times=1)
        emulator.faults.add(Status(503), on="delete", times=1)
    wait_for("the wait", lambda: polls(emulator, pod_id) > 2)
    assert pod_id in emulator.pods
    run.mark_failed("wait")
    wait_for("the end of the pod", lambda: gone(emulator))
    time.sleep(6)
    # The repeated cancellation does not begin another deletion.
    assert counts(emulator)[1] <= 1
    assert run.task("wait")["state"] == "failed"


def test_a_pod_outlives_the_triggerer_that_has_lost_its_wait(cluster: Cluster, emulator: Emulator) -> None:
    """Airflow calls `on_kill` there, too, while the task is deferred and another triggerer waits on."""
    pod_id = add_pod(emulator)
    run = cluster.run("wait_deferred", pod_id=pod_id)
    run.wait_for_task("wait", "deferred")
    emulator.requests.clear()
    wait_for("the wait", lambda: polls(emulator, pod_id) > 2)
    stalled = cluster.parts["triggerer"]
    signal_all(stalled, signal.SIGSTOP)
    cluster.start("triggerer")
    try:
        since = polls(emulator, pod_id)
        wait_for("the other triggerer", lambda: polls(emulator, pod_id) > since + 2)
        signal_all(stalled, signal.SIGCONT)
        line = f"Not deleting pod {pod_id}: no user has ended the task"
        wait_for("the line", lambda: gone(emulator) or line in run.log("wait"))
        assert counts(emulator) == (0, 0)
        emulator.delete_pod(pod_id)
        assert run.wait_until_done() == "failed"
        assert f"Pod {pod_id} is gone" in run.log("wait")
    finally:
        signal_all(stalled, signal.SIGCONT)
        cluster.kill("triggerer")
        cluster.parts["triggerer"] = stalled


@pytest.mark.parametrize("dag_id", ["wait_here", "wait_deferred"])
def test_the_log_says_that_the_api_is_not_there(cluster: Cluster, emulator: Emulator, dag_id: str) -> None:
    """Whoever looks at the task sees why it waits, and the wait outlives that."""
    pod_id = add_pod(emulator)
    run = cluster.run(dag_id, pod_id=pod_id)
    wait_for("the wait", lambda: polls(emulator, pod_id) > 2)
    emulator.stop()
    wait_for("the line", lambda: "Still waiting, but" in run.log("wait"))
    emulator.start()
    emulator.delete_pod(pod_id)
    assert run.wait_until_done() == "failed"
    assert "is gone" in run.log("wait")


def begun(folder: Path) -> str:
    """What a command has made in its folder, once it runs on its pod."""
    return wait_for("the command", lambda: next((path.name for path in folder.iterdir()), None))


STEPS = "echo begun >> {0}/begun; until [ -e {0}/go ]; do sleep 0.1; done; echo all done; exit ${{CODE-0}}"
"""A command that notes each of its beginnings, and ends when a test says so."""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_job_outlives_its_worker(
    cluster: Cluster, emulator: Emulator, tmp_path: Path, number: signal.Signals
) -> None:
    """Killed, or asked to end as for an upgrade: the retry goes on with the pod and the command."""
    run = cluster.run("run_job", command=STEPS.format(tmp_path))
    begun(tmp_path)
    [pod_id] = emulator.pods
    wait_for("the id", lambda: run.pushed("work", "id") == pod_id, interval=0.5)
    run.kill_worker("work", number)
    wait_for("the retry", lambda: "Continuing with the job" in run.log("work"), interval=0.5)
    (tmp_path / "go").touch()
    assert run.wait_until_done() == "success"
    assert run.task("work")["try_number"] == 2
    assert (tmp_path / "begun").read_text() == "begun\n"
    assert "all done" in run.log("work")
    assert (counts(emulator), list(emulator.pods)) == ((1, 1), [])


def test_a_deferred_job_outlives_its_triggerer(cluster: Cluster, emulator: Emulator, tmp_path: Path) -> None:
    """No worker waits, and the next triggerer follows the job; its output is in the task's log, once."""
    run = cluster.run("run_deferred", command=f"echo hello; {STEPS.format(tmp_path)}")
    run.wait_for_task("work", "deferred")
    wait_for("the output", lambda: "hello" in run.log("work"), interval=0.5)
    cluster.kill("triggerer")
    cluster.start("triggerer")
    (tmp_path / "go").touch()
    assert run.wait_until_done() == "success"
    assert (tmp_path / "begun").read_text() == "begun\n"
    assert run.log("work").count("all done") == 1
    assert run.result("work")["exit_code"] == 0
    assert (counts(emulator), list(emulator.pods)) == ((1, 1), [])


def test_a_deferred_job_that_is_marked_failed_gives_its_pod_back(
    cluster: Cluster, emulator: Emulator, tmp_path: Path
) -> None:
    """The triggerer deletes it."""
    run = cluster.run("run_deferred", command=STEPS.format(tmp_path))
    run.wait_for_task("work", "deferred")
    wait_for("the trigger", lambda: "Following the job" in run.log("work"), interval=0.5)
    run.mark_failed("work")
    wait_for("the end of the pod", lambda: gone(emulator))
    assert counts(emulator)[0] == 1


def test_the_key_is_nowhere(cluster: Cluster, emulator: Emulator) -> None:
    """Not in the database, with XComs, rendered templates and triggers, nor in a log."""
    pod_id = emulator.add_pod(boot_seconds=6)
    runs = [cluster.run("rent"), cluster.run("wait_deferred", pod_id=pod_id)]
    assert [run.wait_until_done() for run in runs] == ["success", "success"]
    files = [path for path in Path(cluster.home).rglob("*") if path.is_file()]
    assert any(path.name == "airflow.db" for path in files)
    assert any(path.name.endswith(".log") and pod_id in path.read_text("utf-8") for path in files)
    assert not [path for path in files if emulator.api_key.encode() in path.read_bytes()]
