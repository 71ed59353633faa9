"""Once an hour, delete the pods that killed workers and failed tasks left behind."""

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
                # Pods of any machine whose names contain an expiry that has passed (from max_hours).
                client.pods.sweep(expired=True),
                # Pods with a prefix that only your jobs use, older than the longest job.
                client.pods.sweep(prefix="train-", older_than=12 * 3600),
            ]
        if errors := {pod: str(error) for outcome in sweeps for pod, error in outcome.errors.items()}:
            msg = f"Not deleted, perhaps still billed; run `primepods delete` with these ids: {errors}"
            raise RuntimeError(msg)
        return [pod for outcome in sweeps for pod in outcome.deleted]

    sweep()


sweep_pods()
