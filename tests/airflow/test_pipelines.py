"""Whole DAGs in a real Airflow, with `dag.test()`, against an emulator."""

import time
from collections.abc import Generator

import pytest

from primepods._utils.unique_names import expiry_of
from primepods.emulator import Emulator
from primepods.emulator.faults import Drip, Edit, Rename, Reset, Status

from .conftest import Run

pytestmark = pytest.mark.timeout(500)


def orders(emulator: Emulator) -> int:
    """How many pods were ordered."""
    return len([request for request in emulator.requests[:] if request.method == "POST"])


@pytest.fixture
def slow_emulator() -> Generator[Emulator]:
    """Where neither a boot nor an end is so quick that a worker sees it before it defers."""
    with Emulator(boot_seconds=3.0, delete_seconds=4.0) as emulator:
        yield emulator


ALL_WELL = dict.fromkeys(("create", "wait", "look", "use", "delete"), "success")


@pytest.mark.each_version
@pytest.mark.parametrize("name", ["deferred", "blocking"])
def test_a_pipeline_rents_one_pod_and_leaves_none(run: Run, slow_emulator: Emulator, name: str) -> None:
    """Create, wait, sensor, job, and a teardown that ends when the pod is gone, however long that takes."""
    done = run(name, slow_emulator)
    assert done.states() == ALL_WELL
    assert ("Pausing task as DEFERRED" in done.log) == (name == "deferred")
    assert orders(slow_emulator) == 1
    assert not slow_emulator.pods
    created = {key: done.xcoms[f"create.{key}"] for key in ("id", "name", "price_hr")}
    assert created == done.xcoms["create.return_value"]
    assert done.xcoms["wait.return_value"]["ssh"]["command"] == done.xcoms["use.return_value"]
    # The sweep finds the pod after a day, unless `max_hours` says otherwise.
    assert 86_000 < (expiry_of(created["name"]) or 0.0) - time.time() < 86_460
    assert slow_emulator.api_key not in done.log


def test_a_ready_pod_is_seen_in_the_worker(run: Run) -> None:
    """Nothing is deferred for a pod that is ready, nor for one that is gone at once."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        done = run("deferred", emulator)
        assert not emulator.pods
    assert done.states() == ALL_WELL
    assert "Pausing task as DEFERRED" not in done.log


def test_an_id_that_is_none_fails(run: Run, emulator: Emulator) -> None:
    """A missing XCom renders to "None": each operator fails at once and sends nothing."""
    done = run("no_id", emulator)
    assert list(done.tasks.values()) == [{"state": "failed", "tries": 1}] * 3
    assert "its pod may be running and billed" in done.log
    assert not emulator.requests[:]


def test_deleting_an_unknown_id_fails_unless_that_is_allowed(run: Run, emulator: Emulator) -> None:
    """An id that neither list nor history has is a mistake, or another account's."""
    done = run("unknown_id", emulator)
    assert done.states() == {"strict": "failed", "lenient": "success"}
    assert "was found neither in the list nor in the history" in done.log


def test_a_pod_that_has_ended_is_known_by_the_history(run: Run) -> None:
    """Deleting it again is a success; waiting for it fails at once, without retries, or softly."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        done = run("ended", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE="True")
    assert done.states() == {
        "create": "success",
        "delete": "success",
        "delete_again": "success",
        "wait": "failed",
        "look": "skipped",
    }
    assert done.tasks["wait"]["tries"] == 1
    assert "was terminated at" in done.log


def test_a_pod_whose_end_the_history_does_not_show_may_be_billed(run: Run) -> None:
    """It is not found, and its deletion is no success."""
    with Emulator(boot_seconds=0, delete_seconds=0) as emulator:
        emulator.faults.add(Edit(put={"data.0.terminatedAt": None}), on="history")
        done = run("ended", emulator)
    assert done.tasks["delete"]["state"] == "success"
    assert done.tasks["delete_again"]["state"] == "failed"
    assert "the history does not show that it has ended" in done.log


def test_deleting_is_skipped_where_create_is(run: Run, emulator: Emulator) -> None:
    """There is no pod that its teardown could delete."""
    done = run("unrun", emulator)
    assert done.states() == dict.fromkeys(("skip", "create", "delete"), "skipped")
    assert not emulator.requests[:]


@pytest.mark.each_version
@pytest.mark.parametrize("deferrable", ["True", "False"])
def test_an_execution_timeout_limits_each_try(run: Run, deferrable: str) -> None:
    """In a worker and deferred: a retry goes on with the pod, which the teardown deletes."""
    with Emulator(boot_seconds=3600, delete_seconds=0) as emulator:
        done = run("limited", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE=deferrable)
        deletions = [request for request in emulator.requests[:] if request.method == "DELETE"]
        assert not emulator.pods
    assert done.tasks["wait"] == {"state": "failed", "tries": 3}
    assert "was terminated at" not in done.log
    assert done.tasks["delete"]["state"] == "success"
    assert len(deletions) == 1


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


def test_a_lost_answer_is_no_second_pod(run: Run, emulator: Emulator) -> None:
    """The connection breaks when the order is carried out: the pod is found by its name."""
    emulator.faults.add(Reset(acted=True), on="create", times=1)
    done = run("short", emulator)
    assert set(done.states().values()) == {"success"}
    assert "DEFERRED" not in done.log
    assert (orders(emulator), len(emulator.pods)) == (1, 0)


def test_a_create_that_times_out_deletes_a_pod_that_appears_late(run: Run) -> None:
    """Its order has no answer yet, and no retry would find the pod: Airflow does not limit this search."""
    with Emulator(appear_seconds=15.0, delete_seconds=0) as emulator:
        emulator.faults.add(Drip(60.0), on="create", times=1)
        done = run("slow_order", emulator)
        assert orders(emulator) == len(emulator.requests.where(method="DELETE")) == 1
        assert not emulator.pods
    assert done.tasks["create"] == {"state": "failed", "tries": 1}
    assert "AirflowTaskTimeout" in done.log


@pytest.mark.parametrize("name", ["tried_again", "respelled"])
def test_create_tried_again_adopts_its_pod(run: Run, emulator: Emulator, name: str) -> None:
    """A try that fails when the pod is rented leaves it to the next one, whose name the API may change."""
    emulator.faults.add(Rename(lower=True), on="create")
    done = run(name, emulator)
    assert set(done.states().values()) == {"success"}
    assert done.tasks["create"]["tries"] == 2
    assert (orders(emulator), len(emulator.pods)) == (1, 0)


def test_a_pod_with_an_expiry_in_its_name_is_adopted(run: Run, emulator: Emulator) -> None:
    """`max_hours` adds a suffix of the try's own, which the next one does not know."""
    done = run("expiring", emulator)
    assert set(done.states().values()) == {"success"}
    assert done.tasks["create"]["tries"] == 2
    assert (orders(emulator), len(emulator.pods)) == (1, 0)
    name = done.xcoms["create.name"]
    assert name.startswith("a-long-prefix-of-more-than-2-")
    assert 7_000 < (expiry_of(name) or 0.0) - time.time() < 7_260


def test_a_failed_pod_is_not_adopted(run: Run) -> None:
    """A further try deletes what has failed meanwhile, and rents another."""
    with Emulator(boot_seconds=0, delete_seconds=0.5, failure_rate=1.0) as emulator:
        run("tried_again", emulator)
        assert (orders(emulator), len(emulator.pods)) == (2, 0)


@pytest.mark.parametrize("deferrable", ["True", "False"])
def test_a_time_out_fails_the_task(run: Run, deferrable: str) -> None:
    """It could be retried, and says how far the pod was; where it waits is Airflow's setting."""
    with Emulator(boot_seconds=3600, delete_seconds=0.5) as emulator:
        done = run("impatient", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE=deferrable)
        assert not emulator.pods
    assert done.tasks["wait"]["state"] == "failed"
    assert ("Pausing task as DEFERRED" in done.log) == (deferrable == "True")
    assert "AirflowFailException" not in done.log
    assert "1 of 1 pods are still pending" in done.log


@pytest.mark.each_version
@pytest.mark.parametrize("deferrable", ["True", "False"])
def test_a_sensor_that_fails_softly_is_skipped(run: Run, deferrable: str) -> None:
    """Its time-out is one of a sensor, as `soft_fail` wants it."""
    with Emulator(boot_seconds=3600, delete_seconds=0.5) as emulator:
        done = run("soft_sensor", emulator, AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE=deferrable)
        assert not emulator.pods
    assert done.states() == {"create": "success", "look": "skipped", "delete": "success"}
    assert "1 of 1 pods are still pending" in done.log


@pytest.mark.parametrize(("name", "says"), [("misspelt", "gpu_kount"), ("misspelt_gpu", "RTX3090")])
def test_a_mistake_is_refused_at_once(run: Run, emulator: Emulator, name: str, says: str) -> None:
    """Nothing is ordered, and no retry would help: a field that there is not, a GPU like another."""
    done = run(name, emulator)
    assert done.tasks["create"] == {"state": "failed", "tries": 1}
    assert says in done.log
    assert orders(emulator) == 0


def test_create_takes_a_wish_and_goes_on_to_the_next_offer(run: Run, emulator: Emulator) -> None:
    """The cheapest GPU that fits is rented; where it is sold out meanwhile, the next."""
    emulator.faults.add(Status(400, body={"detail": "That machine is sold out"}), on="create", times=1)
    done = run("wished", emulator)
    assert set(done.states().values()) == {"success"}
    assert "Trying the next offer" in done.log
    assert (orders(emulator), len(emulator.pods)) == (2, 0)


@pytest.mark.each_version
@pytest.mark.parametrize(("name", "group"), [("mapped", ""), ("grouped", "use_a_pod.")])
def test_mapped_tasks_have_pods_of_their_own(run: Run, emulator: Emulator, name: str, group: str) -> None:
    """Each finds its pod by the whole output of its create task; a name in the spec is a prefix."""
    done = run(name, emulator)
    assert set(done.states().values()) == {"success"}
    assert (orders(emulator), len(emulator.pods)) == (2, 0)
    names = sorted(done.xcoms[f"{group}create{index}.name"] for index in (0, 1))
    assert [name.split("-")[:-3] for name in names] == [["airflow", name], ["second"]]
    assert all(f"The pod is {name} (" in done.log for name in names)
    assert done.xcoms[f"{group}create0._link_PrimePodsLink"].startswith("https://")
