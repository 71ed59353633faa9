"""Delete the pods that killed workers and failed tasks have left, once an hour."""

from datetime import timedelta

from airflow.sdk import dag, task

from primepods.airflow.hooks import PrimePodsHook


@dag(schedule=timedelta(hours=1), max_active_runs=1, default_args={"retries": 2})
def sweep_pods() -> None:
    """Delete pods that nothing needs any more."""

    @task
    def sweep() -> list[str]:
        with PrimePodsHook().get_conn() as client:
            sweeps = [
                # Of dead processes of this machine; then those whose names say that max_hours have passed.
                client.pods.sweep(),
                client.pods.sweep(expired=True),
                # Without max_hours: all with a prefix that nothing else uses, older than any of your jobs.
                client.pods.sweep(prefix="train-", older_than=12 * 3600),
            ]
        if errors := {pod: str(error) for each in sweeps for pod, error in each.errors.items()}:
            msg = f"these pods may still be billed: {errors}"
            raise RuntimeError(msg)
        return [pod for each in sweeps for pod in each.deleted]

    sweep()


sweep_pods()
