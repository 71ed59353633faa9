"""What Airflow clears along with a task, in each DAG of the tests and of the guide."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import ROOT

CODE = """
import inspect, json, sys
from airflow.sdk import DAG
from tests.airflow.run_dag import import_file
CREATE = "PrimeCreatePodOperator"
kept = {}
for file in sys.argv[1:]:
    found = list(vars(import_file(file)).values())
    made = [made() for made in found if inspect.isfunction(made) and hasattr(made, "__wrapped__")
            and made.__module__ == "pipelines"]
    for dag in [dag for dag in [*found, *made] if isinstance(dag, DAG)]:
        for task in dag.task_ids:
            subset = dag.partial_subset([task], include_upstream=False, include_downstream=True)
            cleared = set(subset.task_ids)
            rented = [dag.get_task(name) for name in cleared if dag.get_task(name).task_type == CREATE]
            users = set().union(*(create.get_flat_relative_ids() for create in rented))
            kept[f"{dag.dag_id}.{task}"] = sorted(users - cleared)
print("KEPT", json.dumps(kept))
"""
FOLDERS = [ROOT / "tests" / "airflow" / "dags", ROOT / "primepods" / "airflow" / "example_dags"]


@pytest.mark.timeout(120)
def test_what_uses_a_pod_runs_again_when_another_is_rented(airflow_home: dict[str, str]) -> None:
    """A task whose result is kept while create runs again would lead its users to the deleted pod."""
    files = [str(file) for folder in FOLDERS for file in sorted(Path(folder).glob("[!_]*.py"))]
    done = subprocess.run(
        [sys.executable, "-c", CODE, *files], env=airflow_home, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    kept = json.loads(done.stdout.partition("KEPT ")[2].splitlines()[0])
    assert {"train_on_a_pod.train", "sweep_pods.sweep", "deferred.use", "rent.delete"} <= set(kept)
    assert {task: users for task, users in kept.items() if users} == {}
