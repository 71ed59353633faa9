"""Runs test DAGs in this process, with `dag.test()`: `python -m tests.airflow.run_dag`.

It reads lines of JSON, a DAG's name (or a file, a colon, and the name there of a DAG or of a function that
makes one) and environment variables, and after each DAG's log prints a line that begins with RESULT: the
run's state, the state and tries of each task, and all XComs.
"""

import functools
import importlib.util
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow.models.xcom import XComModel
from airflow.sdk.execution_time import supervisor
from airflow.utils.session import create_session
from sqlalchemy import select

DAGS = Path(__file__).parent / "dags" / "pipelines.py"


def share_api() -> None:
    """Have all tasks share one API, as in newer Airflow versions: the older ones build it for each task."""
    sdk: Any = supervisor
    if not hasattr(sdk.in_process_api_server, "cache_info"):
        sdk.in_process_api_server = functools.cache(sdk.in_process_api_server)


def use_folder(folder: Path) -> None:
    """Have Airflow find DAGs in a folder: it runs no others."""
    bundle = {
        "name": "tested",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(folder)},
    }
    os.environ["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"] = json.dumps([bundle])


def import_file(file: str | Path) -> Any:
    """Load a file of DAGs as a module."""
    found = importlib.util.spec_from_file_location("pipelines", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def load(name: str) -> Any:
    """Return a DAG; its module is loaded anew, since it may read variables."""
    file, _, name = name.rpartition(":")
    use_folder(Path(file).parent if file else DAGS.parent)
    dag = getattr(import_file(file or DAGS), name)
    return dag() if inspect.isfunction(dag) else dag


def shown(row: Any) -> str:
    """The index of a mapped task."""
    return "" if row.map_index < 0 else str(row.map_index)


def run(dag: Any) -> dict[str, Any]:
    """Run a DAG; return how it went."""
    done = dag.test()
    tasks = {
        f"{task.task_id}{shown(task)}": {
            "state": str(task.state),
            "tries": task.try_number,
        }
        for task in done.get_task_instances()
    }
    with create_session() as session:
        rows = session.execute(select(XComModel).where(XComModel.run_id == done.run_id)).scalars()
        xcoms = {f"{row.task_id}{shown(row)}.{row.key}": XComModel.deserialize_value(row) for row in rows}
    return {"state": str(done.state), "tasks": tasks, "xcoms": xcoms}


if __name__ == "__main__":
    share_api()
    print("READY", flush=True)  # noqa: T201 - what the tests read
    for line in sys.stdin:
        name, variables = json.loads(line)
        os.environ.update(variables)
        print("RESULT", json.dumps(run(load(name))), flush=True)  # noqa: T201 - as above
