"""What Airflow clears along with a task, in each DAG of the tests and of the guide."""

import pytest

from .conftest import ROOT, Call

TESTS = ROOT / "tests" / "airflow"
FOLDERS = [TESTS / "dags", TESTS / "cluster_dags", ROOT / "primepods" / "airflow" / "example_dags"]


@pytest.mark.timeout(500)
def test_what_uses_a_pod_runs_again_when_another_is_rented(call: Call) -> None:
    """A task whose result is kept while create runs again would lead its users to the deleted pod."""
    kept, _ = call(
        "kept_when_cleared", [str(file) for folder in FOLDERS for file in sorted(folder.glob("[!_]*.py"))]
    )
    assert {"train_on_a_pod.train", "deferred.use", "rent.delete"} <= set(kept)
    assert {task: users for task, users in kept.items() if users} == {}
