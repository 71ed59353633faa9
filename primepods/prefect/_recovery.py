"""Cleanup after killed workers: delete their pods; reschedule or crash their flow runs.

While a worker has a flow run, the run's infrastructure id on the server consists of the pod's name, the
worker's process and an increasing counter. Another worker that sees no change for ten heartbeats deletes the
pod by its name, which is unique to each attempt.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import StateType
from prefect.exceptions import InfrastructureNotFound
from prefect.states import Cancelled, Crashed, Scheduled

from .. import Pod
from ._configuration import PrimePodJobConfiguration, flow_run_id_of, is_pod_of
from ._pod_run import delete_by_name

if TYPE_CHECKING:
    from prefect.client.schemas.objects import FlowRun, State

    from ._worker import PrimePodWorker

_PATIENCE: Final = 10
"""Heartbeats without a sign of life after which a worker counts as dead."""
_PAGE: Final = 200
_LEFT_BEHIND: Final = timedelta(minutes=5)
"""Time for a live worker to delete a pod after its flow run has ended."""


def pod_of(infrastructure_pid: str | None) -> str:
    """Return the pod's name from an infrastructure id."""
    return (infrastructure_pid or "").partition(" ")[0]


class Recovery:
    """Cleanup job of a worker.

    Args:
        worker: The worker.
        process_id: Unique id of its process.
    """

    def __init__(self, worker: PrimePodWorker, process_id: str) -> None:
        self._worker = worker
        self._process_id = process_id
        self._is_running = False
        self._looks = 0
        self._said: set[str] = set()
        """Errors of the last run, which are not logged again."""
        self._seen: dict[UUID, tuple[str, float]] = {}
        """For each active flow run of other workers: its infrastructure id, and when that was first seen."""

    async def run(self) -> None:
        """Check once and clean up; failures are logged, and retried at the next heartbeat."""
        if self._is_running:
            return
        self._is_running = True
        failed: set[str] = set()
        try:
            for flow_run in await self._abandoned():
                failed |= await _failure(self._end(flow_run))
            if self._looks % _PATIENCE == 0:
                failed |= await _failure(self._delete_left_pods())
            self._looks += 1
        except Exception as exc:  # noqa: BLE001 - the worker must continue after any error
            failed.add(repr(exc))
            # While the server is unreachable, no worker can give a sign of life.
            self._seen.clear()
        finally:
            self._is_running = False
        for trouble in failed - self._said:
            self._worker.log.warning("Cannot delete what killed workers may have left: %s", trouble)
        self._said = failed

    async def _abandoned(self) -> list[FlowRun]:
        """Return the active flow runs whose worker gives no sign of life."""
        now, patience = time.monotonic(), _PATIENCE * self._worker.heartbeat_interval_seconds
        states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        state = FlowRunFilterState(type=FlowRunFilterStateType(any_=states))
        under_way = [run for run in await self._flow_runs(FlowRunFilter(state=state)) if self._is_other(run)]
        seen: dict[UUID, tuple[str, float]] = {}
        for run in under_way:
            pid = str(run.infrastructure_pid)
            before = self._seen.get(run.id)
            seen[run.id] = before if before is not None and before[0] == pid else (pid, now)
        self._seen = seen
        return [run for run in under_way if now - seen[run.id][1] >= patience]

    def _is_other(self, flow_run: FlowRun) -> bool:
        """Return whether a flow run belongs, or belonged, to another worker of this type."""
        name, _, owner = (flow_run.infrastructure_pid or "").partition(" ")
        is_pod = flow_run_id_of(name) == flow_run.id
        return is_pod and not owner.startswith(f"{self._process_id}:")

    async def _end(self, flow_run: FlowRun) -> None:
        """Delete the pod of a flow run whose worker is dead, and set the run's next state."""
        worker, pid = self._worker, str(flow_run.infrastructure_pid)
        configuration = await worker.job_configuration.resolve_for_flow_run(
            flow_run.model_copy(deep=True),
            client=worker.client,
            work_pool=copy.deepcopy(worker.work_pool),
            worker_name=worker.name,
        )
        with suppress(InfrastructureNotFound):
            await worker.kill_infrastructure(pid, configuration)
        now = await worker.client.read_flow_run(flow_run.id)
        if now.infrastructure_pid == pid and now.state_type == flow_run.state_type:
            state = _next_state(now)
            await worker.client.set_flow_run_state(flow_run.id, state, force=True)
            worker.log.warning("Flow run %s is %s: %s", flow_run.id, state.name, state.message)

    async def _delete_left_pods(self) -> None:
        """Delete pods of flow runs that are over or have another pod.

        Not at each heartbeat, since it reads the whole list.
        """
        worker = self._worker
        configuration: PrimePodJobConfiguration = await worker.job_configuration.from_template_and_values(
            base_job_template=copy.deepcopy(worker.work_pool.base_job_template),
            values={},
            client=worker.client,
        )
        async with configuration.get_client() as client:
            listed, unreadable = await client.pods.list().find(lambda pod: bool(flow_run_id_of(pod.name)))
            if unreadable is not None:
                worker.log.warning("Looking for pods that were left behind: %s", unreadable)
            named = [(pod, flow_run_id_of(pod.name)) for pod in listed]
            pods = [(pod, flow_run_id) for pod, flow_run_id in named if flow_run_id is not None]
            if not pods:
                return
            # Only this pool's: other pools and servers have their own workers.
            ids = FlowRunFilterId(any_=list({flow_run_id for _, flow_run_id in pods}))
            flow_runs = {run.id: run for run in await self._flow_runs(FlowRunFilter(id=ids))}
            for pod, flow_run_id in pods:
                flow_run = flow_runs.get(flow_run_id)
                if flow_run is not None and _is_left(pod, flow_run):
                    await delete_by_name(client, str(pod.name))
                    worker.log.warning("Pod %s (%s) was left behind, and is deleted", pod.id, pod.name)

    async def _flow_runs(self, wanted: FlowRunFilter) -> list[FlowRun]:
        """Return all flow runs of the work pool that match a filter."""
        found: dict[UUID, FlowRun] = {}
        pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[self._worker.work_pool.name]))
        offset = 0
        while True:
            page = await self._worker.client.read_flow_runs(
                flow_run_filter=wanted, work_pool_filter=pool, limit=_PAGE, offset=offset
            )
            found.update((flow_run.id, flow_run) for flow_run in page)
            offset += len(page)
            if len(page) < _PAGE:
                return list(found.values())


async def _failure(work: Awaitable[None]) -> set[str]:
    """Await one cleanup step; return its failure, so that the other steps still run."""
    try:
        await work
    except Exception as exc:  # noqa: BLE001 - returned to the caller
        return {repr(exc)}
    return set()


def _is_left(pod: Pod, flow_run: FlowRun) -> bool:
    """Return whether a pod is left over: its flow run no longer needs it, and no worker will delete it."""
    current = pod_of(flow_run.infrastructure_pid)
    if flow_run_id_of(current) == flow_run.id and not is_pod_of(current, pod):
        return True
    state = flow_run.state
    return state is not None and state.is_final() and datetime.now(UTC) - state.timestamp >= _LEFT_BEHIND


def _next_state(flow_run: FlowRun) -> State[Any]:
    if flow_run.state_type == StateType.CANCELLING:
        return Cancelled(message="Its worker has ended, and its pod is deleted.")
    if flow_run.state_type == StateType.PENDING and flow_run.deployment_id is not None:
        return Scheduled(message="Its worker ended before it began, and its pod is deleted: it is run again.")
    return Crashed(message="Its worker has ended, and its pod is deleted.")
