"""Whole DAGs in a real Airflow, with `dag.test()`, against an emulator."""

import pytest

from primepods.emulator import Emulator
from primepods.emulator.faults import Reset

from .conftest import Run

pytestmark = pytest.mark.timeout(120)


def orders(emulator: Emulator) -> int:
    """How many pods were ordered."""
    return len([request for request in emulator.requests[:] if request.method == "POST"])


ALL_WELL = dict.fromkeys(("create", "wait", "look", "use", "delete"), "success")


@pytest.mark.parametrize("name", ["deferred", "blocking"])
def test_a_pipeline_rents_one_pod_and_leaves_none(run: Run, emulator: Emulator, name: str) -> None:
    """Create, wait, sensor, job and teardown, in workers or in the triggerer."""
    done = run(name, emulator)
    assert done.states() == ALL_WELL
    assert ("Pausing task as DEFERRED" in done.log) == (name == "deferred")
    assert orders(emulator) == 1
    assert not emulator.pods
    created = {key: done.xcoms[f"create.{key}"] for key in ("id", "name", "price_hr")}
    assert created == done.xcoms["create.return_value"]
    assert done.xcoms["wait.return_value"]["ssh"]["command"] == done.xcoms["use.return_value"]
    assert emulator.api_key not in done.log


def test_deferrable_defaults_to_airflows_setting(run: Run, emulator: Emulator) -> None:
    """`[operators] default_deferrable` decides where an operator does not."""
    done = run("short", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE="True")
    assert set(done.states().values()) == {"success"}
    assert done.log.count("Pausing task as DEFERRED") == 2


def test_a_failing_job_leaves_no_pod(run: Run, emulator: Emulator) -> None:
    """The teardown deletes it, and the run has failed."""
    done = run("failing_job", emulator)
    assert (done.state, done.tasks["fail"]["state"]) == ("failed", "failed")
    assert done.tasks["delete"]["state"] == "success"
    assert (orders(emulator), len(emulator.pods)) == (1, 0)


@pytest.mark.parametrize("deferrable", ["True", "False"])
def test_a_failing_pod_ends_the_wait_without_retries(run: Run, deferrable: str) -> None:
    """Its reason is in the task's log, and it is deleted."""
    with Emulator(boot_seconds=0.5, delete_seconds=0.5, failure_rate=1.0) as emulator:
        done = run("short", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE=deferrable)
        assert (orders(emulator), len(emulator.pods)) == (1, 0)
    assert done.tasks["wait"] == {"state": "failed", "tries": 1}
    assert "AirflowFailException" in done.log
    assert "has failed: " in done.log
    assert done.tasks["delete"]["state"] == "success"


def test_a_deletion_that_takes_time_is_seen_to_its_end(run: Run) -> None:
    """The delete task ends when the pod is gone, however long it says DELETING."""
    with Emulator(boot_seconds=0, delete_seconds=4.0) as emulator:
        done = run("short", emulator)
        assert (orders(emulator), len(emulator.pods)) == (1, 0)
    assert set(done.states().values()) == {"success"}


def test_a_lost_answer_is_no_second_pod(run: Run, emulator: Emulator) -> None:
    """The connection breaks when the order is carried out: the pod is found by its name."""
    emulator.faults.add(Reset(acted=True), on="create", times=1)
    done = run("short", emulator)
    assert set(done.states().values()) == {"success"}
    assert "DEFERRED" not in done.log
    assert (orders(emulator), len(emulator.pods)) == (1, 0)


def test_create_tried_again_adopts_its_pod(run: Run, emulator: Emulator) -> None:
    """A try that fails when the pod is rented leaves it to the next one."""
    done = run("tried_again", emulator)
    assert set(done.states().values()) == {"success"}
    assert done.tasks["create"]["tries"] == 2
    assert (orders(emulator), len(emulator.pods)) == (1, 0)


def test_a_failed_pod_is_not_adopted(run: Run) -> None:
    """A further try deletes what has failed meanwhile, and rents another."""
    with Emulator(boot_seconds=0, delete_seconds=0.5, failure_rate=1.0) as emulator:
        run("tried_again", emulator)
        assert (orders(emulator), len(emulator.pods)) == (2, 0)


@pytest.mark.parametrize("deferrable", ["True", "False"])
def test_a_time_out_fails_the_task(run: Run, deferrable: str) -> None:
    """It could be retried, and says how far the pod was."""
    with Emulator(boot_seconds=3600, delete_seconds=0.5) as emulator:
        done = run("impatient", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE=deferrable)
        assert not emulator.pods
    assert done.tasks["wait"]["state"] == "failed"
    assert "AirflowFailException" not in done.log
    assert "1 of 1 pods are still pending" in done.log


@pytest.mark.parametrize("deferrable", ["True", "False"])
def test_a_sensor_that_fails_softly_is_skipped(run: Run, deferrable: str) -> None:
    """Its time-out is one of a sensor, as `soft_fail` wants it."""
    with Emulator(boot_seconds=3600, delete_seconds=0.5) as emulator:
        done = run("soft_sensor", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE=deferrable)
        assert not emulator.pods
    assert done.states() == {"create": "success", "look": "skipped", "delete": "success"}
    assert "1 of 1 pods are still pending" in done.log


def test_a_bad_spec_is_refused_at_once(run: Run, emulator: Emulator) -> None:
    """Nothing is sent, and no retry would help."""
    done = run("misspelt", emulator)
    assert done.tasks["create"] == {"state": "failed", "tries": 1}
    assert "gpu_kount" in done.log
    assert not emulator.requests[:]


def test_mapped_tasks_have_pods_of_their_own(run: Run, emulator: Emulator) -> None:
    """Each finds its pod by the whole output of its create task; a name in the spec is a prefix."""
    done = run("mapped", emulator)
    assert set(done.states().values()) == {"success"}
    assert (orders(emulator), len(emulator.pods)) == (2, 0)
    names = sorted(done.xcoms[f"create{index}.name"] for index in (0, 1))
    assert [name[:-17] for name in names] == ["airflow-mapped", "second"]
