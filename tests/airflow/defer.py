"""Makes tasks that wait in the triggerer: `python -m tests.airflow.defer FILE`, with the ids of their pods.

This takes seconds, where workers would take minutes.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

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
        # Not the scheduler's: it would look at each of them, and run what is not deferred any more.
        state=DagRunState.SUCCESS,
        session=session,
    )
    trigger = Trigger.from_object(
        PrimePodTrigger(pod_id=pod_id, prime_conn_id="prime_default", end=time.time() + 600, interval=2.0)
    )
    session.add(trigger)
    session.flush()
    task = run.get_task_instance("wait", session=session)
    task.state = TaskInstanceState.DEFERRED
    task.trigger_id = trigger.id
    task.next_method = "execute_complete"
    task.next_kwargs = {}


if __name__ == "__main__":
    model: Any = SerializedDagModel
    dag = model.get_dag("wait_deferred")
    for pod_id in json.loads(Path(sys.argv[1]).read_text()):
        # One transaction each: a triggerer ends if SQLite is locked for too long.
        with create_session() as session:
            defer(session, dag, pod_id)
