"""Operators alone, in this process, against an emulator."""

import contextlib
import io
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import Context
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from primepods import AsyncClient, Client, PrimePodsError
from primepods._utils.unique_names import unique_name
from primepods.emulator import Emulator
from primepods.emulator.faults import Status

from .options import LOCAL_SSH, SPEC

pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(60)]

CONTEXT = {"ti": SimpleNamespace(dag_id="dag", task_id="work", run_id="run", map_index=-1, try_number=2)}


@pytest.fixture
def operators(import_airflow: Callable[[str], Any]) -> Any:
    """The module of the operators."""
    return import_airflow("primepods.airflow.operators")


class Interrupted(io.StringIO):
    """A log whose first line about a pod is interrupted by a signal, while its lock is held."""

    on_signal: Callable[[], None] = staticmethod(lambda: None)

    def write(self, text: str, /) -> int:
        """Write a line."""
        if "outside of the Task Runner" not in text:  # Airflow's, about tests
            on_signal, self.on_signal = self.on_signal, lambda: None
            on_signal()
        return super().write(text)


@pytest.fixture
def interrupted(operators: Any) -> Iterator[Interrupted]:
    """What the operators log is written to one, by the library that Airflow uses."""
    import structlog

    before, log = structlog.get_config(), Interrupted()
    structlog.configure(
        logger_factory=structlog.WriteLoggerFactory(log),
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        processors=[structlog.stdlib.PositionalArgumentsFormatter(), structlog.processors.LogfmtRenderer()],
        cache_logger_on_first_use=False,
    )
    yield log
    structlog.configure(**before)


@pytest.mark.parametrize("name", ["create", "wait"])
def test_a_task_that_is_killed_while_it_logs_deletes_its_pod(
    operators: Any, connected: Emulator, interrupted: Interrupted, name: str
) -> None:
    """The lock of its log is held: nothing waits for it."""
    if name == "create":
        operator = operators.PrimeCreatePodOperator(task_id="work", spec=SPEC)
        connected.add_pod(operator._pod_name(CONTEXT))
    else:
        operator = operators.PrimeWaitPodOperator(
            task_id="work", pod_id=connected.add_pod(boot_seconds=3600), interval=0.1, delete_on_kill=True
        )
    interrupted.on_signal = operator.on_kill

    def execute() -> None:
        with contextlib.suppress(Exception):  # the pod is gone
            operator.execute(CONTEXT)

    task = threading.Thread(target=execute, daemon=True)
    task.start()
    task.join(30)
    assert not task.is_alive()
    assert not [pod for pod in connected.pods.values() if pod.status != "DELETING"]


@pytest.mark.parametrize("operation", ["delete", "list"])
def test_a_killed_task_goes_on_after_an_error(operators: Any, connected: Emulator, operation: str) -> None:
    """A search or a deletion that is refused once leaves no pod of the task."""
    from primepods.airflow._renting import delete_by_name

    for name in ("mine-1", "mine-2", "mine-3"):
        connected.add_pod(name)
    connected.faults.add(Status(403), on=operation, times=1)
    with Client(connected.api_key, base_url=connected.url) as client:
        delete_by_name(client, "mine", 30.0)
        assert not [pod for pod in connected.pods.values() if pod.status != "DELETING"]
        connected.add_pod("mine")
        connected.faults.add(Status(403), on="delete")
        with pytest.raises(PrimePodsError, match="403"):
            delete_by_name(client, "mine", 0.5)


def test_a_deferred_job_has_the_hours_of_its_pod(operators: Any) -> None:
    """They count from its order, and the last five minutes are for the results."""
    operator = operators.PrimeRunPodOperator(task_id="work", gpu_type="H100", command="true", max_hours=2)
    pod = SimpleNamespace(id="a1", name="airflow-dag", seconds_left=3600.0)
    assert operator._make_trigger(pod).end == pytest.approx(time.time() + 3300, abs=60)


@pytest.mark.parametrize("status", ["success", "timeout", None])
def test_a_deferred_job_is_fetched(
    operators: Any, connected: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: str | None
) -> None:
    """Also if its trigger has failed, or `max_hours` are nearly over: then its pod is deleted."""
    import airflow.providers.common.compat.sdk as errors

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    operator = operators.PrimeRunPodOperator(
        task_id="work",
        spec=SPEC,
        command="true",
        max_hours=1,
        download={"result.txt": f"{tmp_path}/result.txt"},
        ssh_command=LOCAL_SSH,
        interval=0.1,
    )
    task = SimpleNamespace(**vars(CONTEXT["ti"]), max_tries=1, xcom_push=lambda **_: None)
    ordered_at = datetime.now(UTC) - timedelta(minutes=56)
    name = unique_name(operator._pod_name({"ti": task}), expires_at=ordered_at.timestamp() + 3600)
    pod_id = connected.add_pod(name, boot_seconds=0, pod_fields={"createdAt": ordered_at.isoformat()})
    with Client(connected.api_key, base_url=connected.url) as client:
        job = client.pods.remote(pod_id, ssh_command=LOCAL_SSH).start("echo hello > result.txt", name=name)
        job.wait()
    method = "execute_complete" if status else "__fail__"
    event = {"status": status, "message": "", "pod": None}
    arguments: dict[str, Any] = {"event": event} if status else {"error": "no triggerer"}
    with contextlib.nullcontext() if status == "success" else pytest.raises(errors.AirflowException):
        operator.resume_execution(method, arguments, {"ti": task})
    assert (tmp_path / "result.txt").read_text() == "hello\n"
    assert not connected.pods


@pytest.mark.parametrize("reported", [None, "{'cloud_id': 'a'}"])
def test_a_spec_that_is_no_mapping_is_refused(operators: Any, connected: Emulator, reported: object) -> None:
    """The result of a task, or a rendered template: the error says what to do, and nothing is sent."""
    import airflow.providers.common.compat.sdk as errors

    operator = operators.PrimeCreatePodOperator(task_id="work", spec=SPEC)
    operator.spec = reported
    with pytest.raises(errors.AirflowFailException, match=r"spec must be a mapping.*render_template_as"):
        operator.execute(CONTEXT)
    assert not connected.requests[:]


@pytest.mark.parametrize("more", [{"gpu_count": 8}, {"exclude_providers": ["dc_roan"]}])
def test_what_a_spec_would_override_is_refused(operators: Any, more: dict[str, Any]) -> None:
    """The task would rent what it does not want."""
    with pytest.raises(ValueError, match="have no effect with spec"):
        operators.PrimeCreatePodOperator(task_id="work", spec=SPEC, **more)


async def test_only_the_poller_writes_to_the_logs_of_waiting_tasks(
    operators: Any, connected: Emulator
) -> None:
    """Other warnings of the package are not about these tasks."""
    from primepods.airflow._poller_log import poller_warnings

    lines: list[str] = []
    connected.faults.add(Status(503), on="status", times=1)
    with poller_warnings(SimpleNamespace(warning=lines.append)):
        Context().run(logging.getLogger("primepods").warning, "of others")
        async with AsyncClient(connected.api_key, base_url=connected.url) as client:
            await client.pods.wait_ready(connected.add_pod(), interval=0.1)
    [line] = lines
    assert "Still waiting, but" in line
