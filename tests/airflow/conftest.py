"""An Airflow of the tests' own: processes that share what they import, which takes each seconds."""

import importlib
import importlib.util
import json
import os
import shutil
import time
import warnings
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import attrs
import pytest

from primepods.emulator import Emulator
from tests.support.forks import ForkServer

from .cluster import Cluster

ROOT = Path(__file__).parent.parent.parent
MODULES = (
    "airflow.cli.cli_parser",
    "airflow.api_fastapi.app",
    "airflow.api_fastapi.core_api.routes.public",
    "airflow.api_fastapi.core_api.routes.ui",
    "airflow.api_fastapi.execution_api.app",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "primepods.airflow.operators",
    "tests.airflow.patience",
)
"""What the processes of Airflow import."""


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow that has no database yet."""
    if importlib.util.find_spec("airflow") is None:
        pytest.skip("needs the extra `airflow`, which .ci/run installs by itself")
    home = tmp_path_factory.mktemp("airflow")
    return {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "cluster_dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture(scope="session")
def forks(airflow_home: dict[str, str]) -> Generator[ForkServer]:
    """Starts processes of the Airflow, whose database has the tests' DAGs."""
    home = Path(airflow_home["AIRFLOW_HOME"])
    with ForkServer(home, MODULES, airflow_home) as forks:
        log = home / "prepare.log"
        forks.run("tests.airflow.prepare", log=log).wait()
        assert (home / "empty.db").exists(), log.read_text()
        yield forks


@pytest.fixture(scope="session")
def import_airflow(airflow_home: dict[str, str]) -> Generator[Callable[[str], Any]]:
    """Imports modules in the tests' process, with an Airflow of the tests' own."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, value in airflow_home.items():
            if name.startswith("AIRFLOW"):
                patch.setenv(name, value)
        yield importlib.import_module


def connection(emulator: Emulator) -> dict[str, str]:
    """The variable that defines the connection `prime_default` to an emulator."""
    text = json.dumps({"conn_type": "prime", "host": emulator.url, "password": emulator.api_key})
    return {"AIRFLOW_CONN_PRIME_DEFAULT": text}


@pytest.fixture(scope="session")
def cluster_emulator() -> Generator[Emulator]:
    """Where all pods of the cluster are."""
    with Emulator(boot_seconds=0.5, delete_seconds=0.5, latency=0.01) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def cluster(
    airflow_home: dict[str, str], forks: ForkServer, cluster_emulator: Emulator
) -> Generator[Cluster]:
    """API server, scheduler and triggerer."""
    cluster = Cluster(Path(airflow_home["AIRFLOW_HOME"]), forks, connection(cluster_emulator))
    cluster.start()
    try:
        cluster.wait_until_up()
        yield cluster
    finally:
        cluster.stop()


@attrs.frozen
class Done:
    """A run of a DAG that has ended.

    Attributes:
        state: The run's.
        tasks: The state and the number of tries of each task.
        xcoms: All of them, by task and key.
        log: All that Airflow has printed.
    """

    state: str
    tasks: dict[str, dict[str, Any]]
    xcoms: dict[str, Any]
    log: str

    def states(self) -> dict[str, str]:
        """The state of each task."""
        return {name: task["state"] for name, task in self.tasks.items()}


Call = Callable[..., tuple[Any, str]]
Run = Callable[..., Done]


@pytest.fixture(scope="session")
def call(airflow_home: dict[str, str], forks: ForkServer) -> Generator[Call]:
    """Calls a function of `tests.airflow.inside`, in a process that all tests share; returns the log, too."""
    home = Path(airflow_home["AIRFLOW_HOME"])
    folder = home / "inside"
    folder.mkdir()
    # Of its own: the scheduler would run what it finds in the cluster's.
    shutil.copy(home / "empty.db", folder / "airflow.db")
    calls, log = folder / "calls", folder / "log"
    os.mkfifo(calls)
    database = {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder / 'airflow.db'}"}
    process = forks.run("tests.airflow.inside", str(calls), log=log, environment=database)

    def call(function: str, argument: Any, **variables: str) -> tuple[Any, str]:
        start = log.stat().st_size
        orders.write(json.dumps([function, argument, variables]) + "\n")
        orders.flush()
        with log.open(encoding="utf-8") as output:
            output.seek(start)
            text = ""
            while "\nRESULT " not in (text := text + output.read()) or not text.endswith("\n"):
                assert process.is_alive, text
                time.sleep(0.02)
        said, _, result = text.rpartition("\nRESULT ")
        return json.loads(result), said

    with calls.open("w") as orders:
        yield call
    process.wait()


@pytest.fixture(scope="session")
def run(call: Call) -> Run:
    """Runs a DAG against an emulator."""

    def run(name: str, emulator: Emulator, **variables: str) -> Done:
        defaults = {"AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "False"}
        result, log = call("run", name, **(defaults | connection(emulator) | variables))
        return Done(**result, log=log)

    return run


@pytest.fixture
def emulator() -> Generator[Emulator]:
    """Where the pods are."""
    with Emulator(boot_seconds=0.5, delete_seconds=0.5) as emulator:
        yield emulator


@pytest.fixture
def connected(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, with a connection to it in the tests' process."""
    for name, value in connection(emulator).items():
        monkeypatch.setenv(name, value)
    return emulator
