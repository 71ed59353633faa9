"""DAGs for a scheduler; what they wait for is in the configuration of their runs."""

import time
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from primepods import PodSpec, exit_on_sigterm
from primepods.airflow.hooks import PrimePodsHook
from primepods.airflow.operators import (
    PrimeCreatePodOperator,
    PrimeDeletePodOperator,
    PrimeRunPodOperator,
    PrimeWaitPodOperator,
)
from tests.airflow.options import LOCAL_SSH, SPEC

POD: Any = "{{ dag_run.conf['pod_id'] }}"
ONE_RETRY: dict[str, Any] = {"retries": 1, "retry_delay": timedelta(0)}

with DAG("rent", schedule=None) as rent:
    create = PrimeCreatePodOperator(task_id="create", spec=SPEC, appear_grace=2.0, **ONE_RETRY)
    delete = PrimeDeletePodOperator(task_id="delete", pod_id=create.output, interval=0.5)
    create >> delete.as_teardown(setups=create)

with DAG("train", schedule=None) as train_dag:

    @task
    def train(status: dict[str, Any]) -> str:
        """Stand for the job: it logs in to this pod."""
        return str(status["pod_id"])

    rented: Any = PrimeCreatePodOperator(task_id="create", spec=SPEC, appear_grace=0.0, max_hours=None)
    ready: Any = PrimeWaitPodOperator(task_id="wait", pod_id=rented.output, interval=0.5)
    gone = PrimeDeletePodOperator(task_id="delete", pod_id=rented.output, interval=0.5)
    train(ready.output) >> gone.as_teardown(setups=[rented, ready])

with DAG("lease", schedule=None) as lease_dag:

    @task
    def hold() -> None:
        """Lease a pod, until the task is ended."""
        spec: Any = PodSpec(**SPEC)  # type: ignore[arg-type]  # the values of SPEC have several types
        with exit_on_sigterm(), PrimePodsHook().get_conn() as client, client.pods.lease(spec, interval=0.5):
            time.sleep(300)

    hold()

with DAG("wait_deferred", schedule=None) as wait_deferred:
    PrimeWaitPodOperator(
        task_id="wait", pod_id=POD, interval=0.5, deferrable=True, delete_on_kill=True, **ONE_RETRY
    )

with DAG("wait_here", schedule=None) as wait_here:
    PrimeWaitPodOperator(
        task_id="wait", pod_id=POD, interval=0.5, deferrable=False, delete_on_kill=True, **ONE_RETRY
    )

for is_deferrable in (False, True):
    with DAG("run_deferred" if is_deferrable else "run_job", schedule=None):
        PrimeRunPodOperator(
            task_id="work",
            spec=SPEC,
            command="{{ dag_run.conf['command'] }}",
            ssh_command=LOCAL_SSH,
            interval=0.5,
            deferrable=is_deferrable,
            job_interval=0.5,
            **ONE_RETRY,
        )
