"""What the guide tells a newcomer to do."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.readme_blocks import find_blocks

from .cluster import Api, free_port, wait_for
from .conftest import ROOT

GUIDE = ROOT / "primepods" / "airflow" / "README.md"
EXAMPLES = ROOT / "primepods" / "airflow" / "example_dags"


def test_the_guide_shows_the_example() -> None:
    """Its pipeline is the one that is tested."""
    blocks = find_blocks(GUIDE.read_text(encoding="utf-8"))
    shown = [block.text for block in blocks if block.language == "python"]
    assert shown.count((EXAMPLES / "train.py").read_text(encoding="utf-8")) == 1


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_first_commands_run_the_pipeline(airflow_home: dict[str, str], tmp_path: Path) -> None:
    """All its tasks succeed, on an emulator."""
    [first, *_] = find_blocks(GUIDE.read_text(encoding="utf-8"))
    port = free_port()
    more = {
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PWD": str(ROOT),
        "TMPDIR": str(tmp_path),
    }
    lines = first.text.partition("\n\n")[2].replace("$PWD/airflow-home", str(tmp_path / "home"))
    command = ["bash", "-c", lines.replace("primepods emulator", "exec primepods emulator")]
    environment = airflow_home | more
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            api = Api(f"http://127.0.0.1:{port}")
            wait_for("the pipeline", lambda: "train_on_a_pod" in api.dags(), interval=3.0)
            path = "/api/v2/dags/train_on_a_pod/dagRuns"

            def has_succeeded() -> bool:
                return [run["state"] for run in api.call("GET", path)["dag_runs"]] == ["success"]

            wait_for("the end of its run", has_succeeded, interval=3.0)
        finally:
            # Airflow's own end on SIGINT takes more than 100 s here.
            os.killpg(process.pid, signal.SIGKILL)
