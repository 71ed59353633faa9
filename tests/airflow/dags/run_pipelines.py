"""DAGs with the run operator, and with leases inside of tasks; on pods that are folders of this machine."""

import os
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from primepods import PodSpec
from primepods.airflow.hooks import PrimePodsHook
from primepods.airflow.operators import PrimeRunPodOperator
from tests.airflow.options import INTERVAL, LOCAL_SSH, RETRIES, SPEC

FOLDER = os.environ.get("TEST_FOLDER", "/nowhere")
"""The test's own."""
FOREVER: dict[str, Any] = {
    "command": "echo hello > result.txt; exec sleep 300",
    "download": {"result.txt": f"{FOLDER}/result.txt"},
    "job_interval": 0.5,
}
"""A command that only a limit ends, and what it has made until then."""


def job(dag_id: str, **options: Any) -> DAG:
    """One task on one pod."""
    with DAG(dag_id, schedule=None) as dag:
        defaults = RETRIES | {"spec": SPEC, "ssh_command": LOCAL_SSH, "interval": INTERVAL}
        PrimeRunPodOperator(task_id="work", **(defaults | options))
    return dag


full = job(
    "run_full",
    spec=None,
    gpu_type="rtx 3090",
    exclude_providers=["lambdalabs"],
    max_hours="{{ 1 + 1 }}",
    command="echo all is well; cat data.txt >&2; echo $GREETING > result.txt",
    env={"GREETING": "hello from {{ dag.dag_id }}"},
    cwd="work",
    upload={f"{FOLDER}/data": "work"},
    exclude=["*.bin"],
    download={"work": f"{FOLDER}/results/"},
)
failing = job(
    "run_failing",
    command="echo hello > result.txt; echo working; echo no space >&2; exit 3",
    download={"result.txt": f"{FOLDER}/result.txt", "missing": f"{FOLDER}/missing"},
    retries=1,
)
lost = job(
    "run_lost",
    command="echo hello > result.txt; rm -r .primepods/jobs",
    download={"result.txt": f"{FOLDER}/result.txt"},
    retries=0,
)
unfetched = job("run_unfetched", command="true", download={"missing": f"{FOLDER}/missing"}, retries=0)
limited = job("run_limited", **FOREVER, execution_timeout=timedelta(seconds=15), retries=0)
limited_deferred = job(
    "run_limited_deferred", **FOREVER, execution_timeout=timedelta(seconds=10), retries=0, deferrable=True
)
dear = job("run_dear", **FOREVER, max_hours=30 / 3600)
dear_deferred = job("run_dear_deferred", **FOREVER, max_hours=60 / 3600, deferrable=True)
cheap = job("run_cheap", command="true", max_price=0.001, retries=0)
rising = job(
    "run_rising",
    spec=None,
    gpu_type="rtx 3090",
    exclude_providers=["lambdalabs"],
    max_price=5.0,
    command="true",
    retries=0,
)
no_text = job("run_no_text", command="true", env={"NUMBER": None})
no_limit = job("run_no_limit", command="true", max_hours=None)
no_mapping = job("run_no_mapping", command="true", download=["out"])
no_target = job("run_no_target", command="true", download={"out": ""})
no_variable = job("run_no_variable", command="true", env={"A B": "1"})
no_patterns = job("run_no_patterns", command="true", exclude="*.bin")
nothing_to_upload = job("run_nothing_to_upload", command="true", upload={"/nowhere/data": "data"}, retries=0)

with DAG("leased", schedule=None) as leased:

    @task
    def lease() -> str:
        """Rent a pod for a block."""
        with (
            PrimePodsHook().get_conn() as client,
            client.pods.lease(PodSpec(**SPEC), interval=INTERVAL, on_change=print) as pod,  # type: ignore[arg-type]  # the values of SPEC have several types
        ):
            return pod.name

    lease()
