"""DAGs that the tests run, each against an emulator of its own."""

from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSkipException
from airflow.sdk import DAG, task, task_group

from primepods.airflow.operators import PrimeCreatePodOperator, PrimeDeletePodOperator, PrimeWaitPodOperator
from primepods.airflow.sensors import PrimePodSensor
from tests.airflow.options import INTERVAL, RETRIES, SPEC


@task
def use(status: dict[str, Any]) -> str:
    """Stand for the job: it needs to know how to log in."""
    return str(status["ssh"]["command"])


@task
def fail(status: dict[str, Any]) -> None:
    """Stand for a job that fails."""
    msg = f"the job on {status['pod_id']} failed"
    raise RuntimeError(msg)


@task
def skip() -> None:
    """Stand for a branch that is not taken."""
    raise AirflowSkipException


def break_down_once(context: Any, _result: Any) -> None:
    """Fail the first try when its pod is rented."""
    if context["ti"].try_number == 1:
        msg = "the worker broke down"
        raise RuntimeError(msg)


def pipeline(dag_id: str, *, create: Any = None, **waiting: Any) -> DAG:
    """Create, wait, delete."""
    with DAG(dag_id, schedule=None) as dag:
        order = RETRIES | {"spec": SPEC, "appear_grace": 2.0} | (create or {})
        rent = PrimeCreatePodOperator(task_id="create", **order)
        pod: Any = rent.output  # Airflow's annotations say nothing of its keys
        wait = PrimeWaitPodOperator(
            task_id="wait", pod_id=pod["id"], interval=INTERVAL, **(RETRIES | waiting)
        )
        delete = PrimeDeletePodOperator(task_id="delete", pod_id=pod["id"], interval=INTERVAL).as_teardown(
            setups=[rent, wait]
        )
        rent >> wait >> delete
    return dag


def full_pipeline(dag_id: str, job: Any = use, *, deferrable: bool | None) -> DAG:
    """Create, wait, sensor, job, delete."""
    with DAG(dag_id, schedule=None) as dag:
        rent = PrimeCreatePodOperator(task_id="create", spec=SPEC, **RETRIES)
        pod: Any = rent.output  # as above
        wait = PrimeWaitPodOperator(
            task_id="wait", pod_id=pod["id"], interval=INTERVAL, deferrable=deferrable
        )
        look = PrimePodSensor(
            task_id="look", pod_id=rent.output, poke_interval=INTERVAL, deferrable=deferrable
        )
        delete = PrimeDeletePodOperator(
            task_id="delete", pod_id=pod["id"], interval=INTERVAL, deferrable=deferrable
        ).as_teardown(setups=[rent, wait, look])
        [wait, look] >> job(wait.output) >> delete
    return dag


deferred = full_pipeline("deferred", deferrable=True)
blocking = full_pipeline("blocking", deferrable=False)
failing_job = full_pipeline("failing_job", fail, deferrable=None)
short = pipeline("short")
tried_again = pipeline("tried_again", create={"post_execute": break_down_once})
respelled = pipeline("respelled", create={"post_execute": break_down_once, "spec": SPEC | {"name": "Train"}})
impatient = pipeline("impatient", timeout=0.5, retries=0)
limited = pipeline("limited", execution_timeout=timedelta(seconds=1.5), delete_on_kill=True)
wished = pipeline(
    "wished", create={"spec": None, "gpu_type": "rtx 3090", "exclude_providers": ["lambdalabs"]}
)
expiring = pipeline(
    "expiring",
    create={"spec": SPEC | {"name": "a-long-prefix-of-more-than-28-letters"}}
    | {"max_hours": "{{ 2 }}", "post_execute": break_down_once},
)
slow_order = pipeline(
    "slow_order", create={"execution_timeout": timedelta(seconds=8), "retries": 0, "appear_grace": 20.0}
)
misspelt_gpu = pipeline("misspelt_gpu", create={"spec": None, "gpu_type": "RTX3O90"})
misspelt = pipeline("misspelt", create={"spec": SPEC | {"gpu_kount": 1}})

with DAG("soft_sensor", schedule=None) as soft_sensor:
    slow: Any = PrimeCreatePodOperator(task_id="create", spec=SPEC)
    look = PrimePodSensor(
        task_id="look", pod_id=slow.output["id"], poke_interval=INTERVAL, timeout=0.5, soft_fail=True
    )
    look >> PrimeDeletePodOperator(task_id="delete", pod_id=slow.output["id"], interval=INTERVAL).as_teardown(
        setups=slow
    )

with DAG("no_id", schedule=None) as no_id:
    for kind in (PrimeWaitPodOperator, PrimePodSensor, PrimeDeletePodOperator):
        kind(task_id=kind.__name__, pod_id="{{ ti.xcom_pull(task_ids='nothing') }}", **RETRIES)

with DAG("unknown_id", schedule=None) as unknown_id:
    for name, missing_ok in {"strict": False, "lenient": True}.items():
        PrimeDeletePodOperator(task_id=name, pod_id="ab" * 16, missing_ok=missing_ok)

with DAG("ended", schedule=None) as ended:
    rent: Any = PrimeCreatePodOperator(task_id="create", spec=SPEC)
    first, second = (
        PrimeDeletePodOperator(task_id=name, pod_id=rent.output["id"], interval=INTERVAL)
        for name in ("delete", "delete_again")
    )
    wait = PrimeWaitPodOperator(task_id="wait", pod_id=rent.output["id"], **RETRIES)
    look = PrimePodSensor(task_id="look", pod_id=rent.output["id"], soft_fail=True)
    first >> second >> [wait, look]

with DAG("unrun", schedule=None) as unrun:
    never: Any = PrimeCreatePodOperator(task_id="create", spec=SPEC)
    skip() >> never
    PrimeDeletePodOperator(task_id="delete", pod_id=never.output["id"]).as_teardown(setups=never)

with DAG("grouped", schedule=None) as grouped:

    @task_group
    def use_a_pod(spec: dict[str, Any]) -> None:
        """Rent a pod, wait for it, and give it back."""
        create: Any = PrimeCreatePodOperator(task_id="create", spec=spec)
        templates: Any = {"interval": "{{ 0.1 }}", "timeout": "{{ 60 }}"}
        wait = PrimeWaitPodOperator(task_id="wait", pod_id=create.output, **templates)
        delete = PrimeDeletePodOperator(task_id="delete", pod_id=create.output, interval=INTERVAL)
        create >> wait >> delete.as_teardown(setups=[create, wait])

    use_a_pod.expand(spec=[SPEC, SPEC | {"name": "second"}])

with DAG("mapped", schedule=None) as mapped:
    rented = PrimeCreatePodOperator.partial(task_id="create").expand(spec=[SPEC, SPEC | {"name": "second"}])
    waited = PrimeWaitPodOperator.partial(task_id="wait", interval=INTERVAL).expand(pod_id=rented.output)
    gone = PrimeDeletePodOperator.partial(task_id="delete", interval=INTERVAL).expand(pod_id=rented.output)
    waited >> gone
