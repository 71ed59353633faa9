"""What the tests call in Airflow: `python -m tests.airflow.inside CALLS`.

It reads lines of JSON from a file, each with the name of a function below, its argument and environment
variables; after what the call logs it prints a line that begins with RESULT.
"""

import functools
import importlib.util
import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from airflow import providers_manager, settings
from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService
from airflow.models.xcom import XComModel
from airflow.sdk import DAG
from airflow.sdk.execution_time import supervisor
from airflow.utils.session import create_session
from sqlalchemy import select

from primepods.airflow.hooks import PrimePodsHook

DAGS = Path(__file__).parent / "dags" / "pipelines.py"


def untyped(module: Any) -> Any:
    """Return a module whose functions have no types."""
    return module


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


def run(name: str) -> dict[str, Any]:
    """Run a DAG, with `dag.test()`; return how it went.

    Args:
        name: The DAG's name, or a file, a colon, and the name there of a DAG or of a function that makes one.
    """
    done = load(name).test()
    tasks = {
        f"{task.task_id}{shown(task)}": {"state": str(task.state), "tries": task.try_number}
        for task in done.get_task_instances()
    }
    with create_session() as session:
        rows = session.execute(select(XComModel).where(XComModel.run_id == done.run_id)).scalars()
        xcoms = {f"{row.task_id}{shown(row)}.{row.key}": XComModel.deserialize_value(row) for row in rows}
    return {"state": str(done.state), "tasks": tasks, "xcoms": xcoms}


def kept_when_cleared(files: list[str]) -> dict[str, list[str]]:
    """For each task of some files, the users of a pod that Airflow keeps when it rents another one."""
    kept = {}
    for file in files:
        found = list(vars(import_file(file)).values())
        made = [
            made()
            for made in found
            if inspect.isfunction(made) and hasattr(made, "__wrapped__") and made.__module__ == "pipelines"
        ]
        for dag in [dag for dag in [*found, *made] if isinstance(dag, DAG)]:
            for task in dag.task_ids:
                subset = dag.partial_subset([task], include_upstream=False, include_downstream=True)
                cleared = set(subset.task_ids)
                tasks = [dag.get_task(name) for name in cleared]
                rented = [task for task in tasks if task.task_type == "PrimeCreatePodOperator"]
                users = set().union(*(create.get_flat_relative_ids() for create in rented))
                kept[f"{dag.dag_id}.{task}"] = sorted(users - cleared)
    return kept


def provider(_: None) -> dict[str, Any]:
    """Return what Airflow has found of the provider."""
    [form] = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "prime"]
    manager = untyped(providers_manager).ProvidersManager()
    return {
        "hook": form.hook_class_name,
        "fields": {name: getattr(form.standard_fields, name).title for name in ("host", "password", "login")},
        "hidden": [name for name, field in form.standard_fields if field is not None and field.hidden],
        "links": manager.extra_links_class_names,
        "is_installed": "primepods" in manager.providers,
    }


def press_test_button(_: None) -> tuple[bool, str]:
    """Do what the button of a connection's form does."""
    return PrimePodsHook().test_connection()


if __name__ == "__main__":
    share_api()
    # The database is not that of the fork server.
    untyped(settings).configure_vars()
    untyped(settings).configure_orm()
    functions: list[Any] = [run, kept_when_cleared, provider, press_test_button]
    named = {function.__name__: function for function in functions}
    with Path(sys.argv[1]).open(encoding="utf-8") as calls:
        for line in calls:
            name, argument, variables = json.loads(line)
            with mock.patch.dict(os.environ, variables):
                print("\nRESULT", json.dumps(named[name](argument)), flush=True)
