"""The recipe for Dagster: runs in this process, in processes of their own, and launched by a daemon."""

import signal
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("dagster", reason="needs Dagster, which the step `recipes` of .ci/run installs")

from primepods.emulator import Reset

from .conftest import PATIENCE, Setting

dg: Any = sys.modules["dagster"]  # its types would take mypy a quarter of a minute

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(500)]

RUN = """
import dagster as dg
from dagster_recipe import defs
defs.get_job_def("train").execute_in_process(instance=dg.DagsterInstance.get())
"""
SCHEDULED = """
import dagster as dg
import dagster_recipe

@dg.sensor(job_name="train", default_status=dg.DefaultSensorStatus.RUNNING)
def once():
    yield dg.RunRequest("once", run_config={"execution": {"config": {"in_process": {}}}})

defs = dg.Definitions.merge(dagster_recipe.defs, dg.Definitions(sensors=[once]))
"""
SLOW = "import os, time\nopen('started', 'w')\nwhile not os.path.exists('../go'):\n    time.sleep(0.1)\n"


@pytest.fixture
def home(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe, and a Dagster that stores its runs in a folder and sends no usage data."""
    home = setting.folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry:\n  enabled: false\n")
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    monkeypatch.setenv("PYTHONWARNINGS", "ignore")
    setting.recipe("Dagster")
    return home


def slow_down(setting: Setting) -> None:
    """Have the script wait for the test."""
    script = setting.folder / "train.py"
    script.write_text(SLOW + script.read_text())


def run_here(setting: Setting) -> Any:
    """Run the recipe's job in this process."""
    job = setting.load("Dagster").defs.get_job_def("train")
    with dg.DagsterInstance.get() as instance:
        return job.execute_in_process(instance=instance)


def test_lost_answers(setting: Setting, home: Path) -> None:
    """What the script reports is the asset's; one pod was ordered, and it is gone."""
    setting.emulator.faults.add(Reset(acted=True), on={"create", "delete"}, times=2)
    result = run_here(setting)
    [made] = result.asset_materializations_for_node("model")
    assert made.metadata["loss"].value == 0.25
    assert setting.orders() == 1
    assert not setting.emulator.pods


def test_an_interrupted_run(setting: Setting, home: Path) -> None:
    """Its pod is gone when its process ends."""
    slow_down(setting)
    run = setting.start("python", "-c", RUN)
    setting.until(lambda: setting.homes_with("started"))
    run.send_signal(signal.SIGINT)
    assert run.wait(PATIENCE) != 0
    assert not setting.emulator.pods


def test_a_killed_run(setting: Setting, home: Path) -> None:
    """The next run deletes the pod that it has left."""
    train = (setting.folder / "train.py").read_text()
    slow_down(setting)
    run = setting.start("python", "-c", RUN)
    setting.until(lambda: setting.homes_with("started"))
    setting.kill(run)
    [left] = setting.emulator.pods
    (setting.folder / "train.py").write_text(train)
    assert run_here(setting).success
    assert left not in setting.emulator.pods
    assert not setting.emulator.pods


def test_a_restarted_daemon(setting: Setting, home: Path) -> None:
    """A run that the daemon has launched goes on without it, and succeeds."""
    slow_down(setting)
    (setting.folder / "scheduled.py").write_text(SCHEDULED)
    daemon = ["dagster-daemon", "run", "-f", "scheduled.py"]
    first = setting.start(*daemon)
    setting.until(lambda: setting.homes_with("started"))
    first.kill()
    first.wait()
    second = setting.start(*daemon)
    setting.until(lambda: setting.log().count("Instance is configured") == 2)
    [pod] = setting.homes_with("started")
    (pod.parent / "go").touch()
    with dg.DagsterInstance.get() as instance:
        setting.until(lambda: [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS])
    assert setting.orders() == 1
    assert not setting.emulator.pods
    second.terminate()
    second.wait(PATIENCE)
