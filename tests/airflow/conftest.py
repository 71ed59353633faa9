"""An Airflow of the tests' own, in processes of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import attrs
import pytest

from primepods.emulator import Emulator

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="session")
def airflow_home(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of an Airflow with an empty database."""
    pytest.importorskip("airflow.sdk", reason="needs the extra `airflow`, which .ci/run installs by itself")
    home = tmp_path_factory.mktemp("airflow")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")} | {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parent / "dags"),
        "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG": "False",
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONWARNINGS": "ignore",
    }
    migrate = [sys.executable, "-m", "airflow", "db", "migrate"]
    done = subprocess.run(migrate, env=environment, cwd=home, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shutil.copy(home / "airflow.db", home / "empty.db")
    return environment


def own_home(airflow_home: dict[str, str], folder: Path) -> dict[str, str]:
    """The environment of another Airflow with an empty database, in a folder."""
    shutil.copy(Path(airflow_home["AIRFLOW_HOME"]) / "empty.db", folder / "airflow.db")
    return airflow_home | {"AIRFLOW_HOME": str(folder)}


def connection(emulator: Emulator) -> dict[str, str]:
    """The variable that defines the connection `prime_default` to an emulator."""
    text = json.dumps({"conn_type": "prime", "host": emulator.url, "password": emulator.api_key})
    return {"AIRFLOW_CONN_PRIME_DEFAULT": text}


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


Run = Callable[..., Done]


@pytest.fixture(scope="session")
def run(airflow_home: dict[str, str]) -> Generator[Run]:
    """Runs a DAG against an emulator, in a process that all tests share: starting one takes longer."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.airflow.run_dag"],
        env=airflow_home,
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def read_until(sign: str) -> tuple[str, str]:
            """Return what is printed until a line that begins so, and the rest of that line."""
            lines: list[str] = []
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(sign):
                    return "".join(lines), line.removeprefix(sign)
                lines.append(line)
            pytest.fail("the process ended:\n" + "".join(lines))

        def run(name: str, emulator: Emulator, **variables: str) -> Done:
            assert process.stdin is not None
            defaults = {"AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE": "False"}
            process.stdin.write(json.dumps([name, defaults | connection(emulator) | variables]) + "\n")
            process.stdin.flush()
            log, result = read_until("RESULT ")
            return Done(**json.loads(result), log=log)

        read_until("READY")
        yield run
        process.stdin.close()


@pytest.fixture
def emulator() -> Generator[Emulator]:
    """Where the pods are."""
    with Emulator(boot_seconds=0.5, delete_seconds=0.5) as emulator:
        yield emulator
