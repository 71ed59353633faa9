"""Rent the cheapest available H100, use it, and delete it in any case."""

from datetime import timedelta
from typing import Any

from airflow.sdk import dag, task

from primepods import PodSpec
from primepods.airflow.hooks import PrimePodsHook
from primepods.airflow.operators import PrimeCreatePodOperator, PrimeDeletePodOperator, PrimeWaitPodOperator


@dag(schedule="@once", default_args={"retries": 2, "retry_delay": timedelta(seconds=30)})
def train_on_a_pod() -> None:
    """Rent a pod, train on it, and delete it."""

    @task
    def choose() -> dict[str, Any]:
        with PrimePodsHook().get_conn() as client:
            offer = client.availability.cheapest(gpu_type="H100", max_price=5.0)
            return PodSpec.from_offer(offer, name="train").to_dict()

    @task
    def train(status: Any) -> None:
        print("here you would run:", status["ssh"]["command"], "python train.py")

    create: Any = PrimeCreatePodOperator(task_id="create", spec=choose())
    pod = create.output["id"]
    wait = PrimeWaitPodOperator(task_id="wait", pod_id=pod, deferrable=True)
    delete = PrimeDeletePodOperator(task_id="delete", pod_id=pod, deferrable=True)
    train(wait.output) >> delete.as_teardown(setups=[create, wait])


train_on_a_pod()
