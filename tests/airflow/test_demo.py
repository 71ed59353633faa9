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


@pytest.mark.parametrize("name", ["train", "sweep"])
def test_the_guide_shows_the_examples(name: str) -> None:
    """Its pipeline is the one that the demo runs, and its sweep the one that is tested."""
    blocks = find_blocks(GUIDE.read_text(encoding="utf-8"))
    shown = [block.text for block in blocks if block.language == "python"]
    assert shown.count((EXAMPLES / f"{name}.py").read_text(encoding="utf-8")) == 1


def test_the_guide_ends_with_the_demo() -> None:
    """Its command installs, and runs what is tested below."""
    [first, *_] = find_blocks(GUIDE.read_text(encoding="utf-8"))
    assert first.command.rstrip().endswith("python -m primepods.airflow.demo")


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_the_demo_runs_its_pipeline(airflow_home: dict[str, str], tmp_path: Path) -> None:
    """All its tasks succeed, and nothing is left when it is interrupted."""
    port = free_port()
    command = [sys.executable, "-m", "primepods.airflow.demo", "--port", str(port)]
    environment = airflow_home | {"TMPDIR": str(tmp_path)}
    with (
        (tmp_path / "log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True) as process,
    ):
        try:
            api = Api(f"http://127.0.0.1:{port}")
            examples = {"train_on_a_pod", "sweep_pods"}
            wait_for("the pipeline and the sweep", lambda: examples <= api.dags(), interval=3.0)
            path = "/api/v2/dags/train_on_a_pod/dagRuns"

            def has_succeeded() -> bool:
                return [run["state"] for run in api.call("GET", path)["dag_runs"]] == ["success"]

            wait_for("the end of its run", has_succeeded, interval=3.0)
        finally:
            process.send_signal(signal.SIGINT)
            try:
                code = process.wait(100)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
    assert code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
