"""The run operator in a real Airflow, on pods that are folders of this machine."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from primepods._utils.unique_names import expiry_of, unique_name
from primepods.emulator import Emulator
from primepods.emulator.faults import Edit, Status
from tests.readme_blocks import find_blocks

from .conftest import ROOT, Done, Run
from .options import LOCAL_SSH

pytestmark = pytest.mark.timeout(500)

DAGS = ROOT / "tests" / "airflow" / "dags" / "run_pipelines.py"
GUIDE = ROOT / "primepods" / "airflow" / "README.md"
RunJob = Callable[[str], Done]


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Variables that give a test pods and lease files of its own."""
    (tmp_path / "tmp").mkdir()
    return {
        "TEST_FOLDER": str(tmp_path),
        "TMPDIR": str(tmp_path / "tmp"),
        "PRIMEPODS_STATE_DIR": str(tmp_path / "state"),
    }


@pytest.fixture
def run_job(run: Run, emulator: Emulator, folders: dict[str, str]) -> RunJob:
    """Runs a DAG of the run operator."""
    return lambda name: run(f"{DAGS}:{name}", emulator, **folders)


def shown(part: str) -> str:
    """The block of the guide that has this part."""
    [block] = [block for block in find_blocks(GUIDE.read_text("utf-8")) if part in block.text]
    return block.text


def counts(emulator: Emulator) -> tuple[int, int]:
    """How many pods were ordered, and how many are left."""
    return len(emulator.requests.where(method="POST")), len(emulator.pods)


@pytest.mark.each_version
def test_a_command_runs_on_a_pod_of_its_own(run_job: RunJob, emulator: Emulator, tmp_path: Path) -> None:
    """Files arrive, output is in the log, the result in XComs; where one offer is sold out, on the next."""
    emulator.faults.add(Status(400, body={"detail": "That machine is sold out"}), on="create", times=1)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.txt").write_text("the data\n")
    (tmp_path / "data" / "large.bin").write_text("not for the pod")
    done = run_job("full")
    assert done.tasks["work"] == {"state": "success", "tries": 1}
    assert counts(emulator) == (2, 0)
    for line in ("all is well", "the data", "trying the next spec", "accepts the login", "is gone"):
        assert line in done.log
    assert (tmp_path / "results" / "result.txt").read_text() == "hello from run_full\n"
    assert not (tmp_path / "results" / "large.bin").exists()
    result = done.xcoms["work.return_value"]
    assert result == {
        key: done.xcoms[f"work.{key}"] for key in ("exit_code", "id", "name", "price_hr", "spent")
    }
    assert result["exit_code"] == 0
    assert 0 < result["spent"] < result["price_hr"]
    # The pod's name has the DAG, and its expiry.
    assert result["name"].startswith("airflow-run-full-")
    assert 7100 < (expiry_of(result["name"]) or 0) - time.time() < 7300


def test_a_failing_command_fails_the_task(run_job: RunJob, emulator: Emulator, tmp_path: Path) -> None:
    """With its exit code and its last lines; each try rents anew, and fetches what there is."""
    done = run_job("failing")
    assert done.tasks["work"] == {"state": "failed", "tries": 2}
    assert counts(emulator) == (2, 0)
    message = done.log[done.log.index("ended with exit code 3. Its last lines:") :]
    assert "working" in message
    assert "no space" in message
    assert done.xcoms["work.exit_code"] == 3
    assert (tmp_path / "result.txt").read_text() == "hello\n"
    assert "missing" in done.log


@pytest.mark.parametrize(
    ("name", "says"),
    [
        pytest.param("limited", "AirflowTaskTimeout", marks=pytest.mark.each_version),
        pytest.param("limited_deferred", "not ended in time", marks=pytest.mark.each_version),
        # Without retries, which would rent again for as long.
        ("dear", "max_hours"),
        ("dear_deferred", "not ended in time"),
        # Nobody knows how it has ended.
        ("lost", "JobError"),
    ],
)
def test_results_are_fetched_before_the_pod_goes(
    run_job: RunJob, emulator: Emulator, tmp_path: Path, name: str, says: str
) -> None:
    """After `execution_timeout`, before `max_hours`, and from a pod that has lost its job."""
    done = run_job(name)
    assert done.tasks["work"] == {"state": "failed", "tries": 1}
    assert says in done.log
    assert (tmp_path / "result.txt").read_text() == "hello\n"
    assert counts(emulator) == (1, 0)


@pytest.mark.parametrize(
    ("name", "variables", "says", "tries", "orders"),
    [
        # A command that succeeds without its result has not.
        ("unfetched", {}, "TransferError", 1, 1),
        # A retry may be allowed by the limit of all pods: others may have ended.
        ("failing", {"PRIMEPODS_MAX_HOURLY": "0.001"}, "BudgetExceededError", 2, 0),
        # `max_price` limits a spec, too.
        ("cheap", {}, "PriceTooHighError", 1, 1),
    ],
)
def test_what_cannot_succeed_leaves_no_pod(
    run: Run,
    emulator: Emulator,
    folders: dict[str, str],
    *,
    name: str,
    variables: dict[str, str],
    says: str,
    tries: int,
    orders: int,
) -> None:
    """The task fails, and its log says why."""
    done = run(f"{DAGS}:{name}", emulator, **folders, **variables)
    assert done.tasks["work"] == {"state": "failed", "tries": tries}
    assert says in done.log
    assert counts(emulator) == (orders, 0)


def test_a_price_limits_each_order(run_job: RunJob, emulator: Emulator) -> None:
    """A pod may cost more than its offer, up to `max_price`."""
    emulator.faults.add(Edit(put={"priceHr": 4.5}), on="create")
    done = run_job("rising")
    assert done.states() == {"work": "success"}
    assert done.xcoms["work.price_hr"] == 4.5
    assert counts(emulator) == (1, 0)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("no_text", "env has an invalid entry 'NUMBER'"),
        ("no_limit", "max_hours is not set"),
        ("no_mapping", "download must be a mapping, not list"),
        ("no_variable", "names of variables consist of letters"),
        ("no_patterns", "exclude must be"),
        ("no_target", "download has an invalid entry 'out'"),
        ("nothing_to_upload", "the path '/nowhere/data' in upload does not exist"),
    ],
)
def test_what_cannot_work_rents_nothing(run_job: RunJob, emulator: Emulator, name: str, problem: str) -> None:
    """What would fail on the pod is checked before."""
    done = run_job(name)
    assert done.tasks["work"] == {"state": "failed", "tries": 1}
    assert problem in done.log
    assert not emulator.requests[:]


def test_a_lease_in_a_task_tells_its_progress(run_job: RunJob, emulator: Emulator) -> None:
    """By `on_change` and by the library's own log records, both in the task's log."""
    done = run_job("leased")
    assert done.states() == {"lease": "success"}
    assert "leasing a pod: its name is" in done.log
    assert "ACTIVE" in done.log
    assert counts(emulator) == (1, 0)


def test_the_sweep_deletes_what_nothing_needs(
    run: Run, emulator: Emulator, folders: dict[str, str], tmp_path: Path
) -> None:
    """The DAG of the guide: pods that have expired, by their names, and no others that are young."""
    now = time.time()
    expired = emulator.add_pod(unique_name("airflow-x", expires_at=now - 3600))
    kept = {
        emulator.add_pod(unique_name("airflow-x", expires_at=now + 3600)),
        emulator.add_pod("train-1"),
        emulator.add_pod("somebody's"),
    }
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "sweep.py").write_text(shown("sweep_pods()"))
    done = run(f"{tmp_path / 'dags' / 'sweep.py'}:sweep_pods", emulator, **folders)
    assert done.states() == {"sweep": "success"}
    assert done.xcoms["sweep.return_value"] == [expired]
    assert set(emulator.pods) == kept


def test_the_guides_job_runs(run: Run, emulator: Emulator, folders: dict[str, str], tmp_path: Path) -> None:
    """The DAG of the guide, with the emulator's ssh in the place of ssh."""
    (tmp_path / "project").mkdir()
    program = "import os; os.mkdir('out'); open('out/model', 'w').write(os.environ['EPOCHS'])"
    (tmp_path / "project" / "train.py").write_text(program)
    text = shown("PrimeRunPodOperator(").replace("/srv", str(tmp_path)).replace("retries=2", "interval=0.1")
    (tmp_path / "dags").mkdir()
    (tmp_path / "dags" / "guide.py").write_text(text)
    folders |= {"PRIMEPODS_SSH_COMMAND": LOCAL_SSH}
    done = run(f"{tmp_path / 'dags' / 'guide.py'}:train_in_one_task", emulator, **folders)
    assert done.states() == {"work": "success"}, done.log
    assert (tmp_path / "results" / "model").read_text() == "10"
    assert counts(emulator) == (1, 0)
