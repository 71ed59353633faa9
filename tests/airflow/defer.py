"""Makes tasks that wait in the triggerer, as if a worker had deferred each: `python -m tests.airflow.defer`.

It reads the ids of their pods, as JSON, and puts the DAGs in the database first. This takes seconds, where
workers would take minutes.
"""

import json
import sys
import time
from typing import Any

from airflow.cli.cli_parser import get_parser
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.trigger import Trigger
from airflow.sdk import timezone
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType

from primepods.airflow.triggers import PrimePodTrigger


def defer(session: Any, dag: Any, pod_id: str) -> None:
    """Make one that waits for a pod."""
    run = dag.create_dagrun(
        run_id=f"waits_for_{pod_id}",
        run_after=timezone.utcnow(),
        run_type=DagRunType.MANUAL,
        triggered_by=DagRunTriggeredByType.TEST,
        state=DagRunState.RUNNING,
        session=session,
    )
    trigger = Trigger.from_object(
        PrimePodTrigger(
            pod_id=pod_id,
            prime_conn_id="prime_default",
            end=time.time() + 600,
            interval=2.0,
            delete_on_kill=True,
        )
    )
    session.add(trigger)
    session.flush()
    task = run.get_task_instance("wait", session=session)
    task.state = TaskInstanceState.DEFERRED
    task.trigger_id = trigger.id
    task.next_method = "execute_complete"
    task.next_kwargs = {}


if __name__ == "__main__":
    command = get_parser().parse_args(["dags", "reserialize"])
    command.func(command)
    model: Any = SerializedDagModel
    dag = model.get_dag("wait_deferred")
    with create_session() as session:
        for pod_id in json.load(sys.stdin):
            defer(session, dag, pod_id)
