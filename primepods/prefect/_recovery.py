"""Recovery after workers that have ended: continue their flow runs, or delete their pods.

The infrastructure id of a flow run is the prefix of its pod's name, which is unique to an attempt of the run.
Its heartbeat is a label, ``PROCESS:COUNT``: the id of the worker's process, and a counter. If another worker
sees no change for ten heartbeat intervals, or the worker has emptied the label at its end, it continues a
running flow run whose pod exists. Otherwise it deletes the pod by the prefix, and sets the run's state.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Collection, Generator
from contextlib import contextmanager, suppress
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

from .. import AsyncClient, Pod
from ._configuration import PrimePodJobConfiguration, flow_run_id_of, is_pod_of
from ._pod_run import delete_by_prefix

if TYPE_CHECKING:
    from prefect.client.orchestration import PrefectClient
    from prefect.client.schemas.objects import FlowRun, State

    from ._worker import PrimePodWorker

_MAX_MISSED_HEARTBEATS: Final = 10
"""Missed heartbeats of a run after which its worker counts as dead."""
_CLEANUPS_PER_POD_LIST: Final = 10
"""Number of cleanups per reading of the whole list of pods."""
_MAX_FLOW_RUNS: Final = 10_000
DELETION_GRACE: Final = 300.0
"""Seconds after the end of a flow run for its command to end and its worker to delete the pod."""


HEARTBEAT: Final = "primepods.heartbeat"
OFFSET: Final = "primepods.offset"
"""Labels of a flow run: its heartbeat, and the offset of the output that its log has."""


def is_owned_by(flow_run: FlowRun, process_id: str) -> bool:
    """Return whether the last heartbeat of a flow run is that of a worker's process."""
    return str(flow_run.labels.get(HEARTBEAT)).startswith(f"{process_id}:")


class Recovery:
    """A worker's recovery of the flow runs of other workers that have ended.

    Args:
        worker: The worker that cleans up.
        process_id: Unique id of its process.
        monotonic: The clock, in seconds.
    """

    def __init__(
        self, worker: PrimePodWorker, process_id: str, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._worker = worker
        self._process_id = process_id
        self._monotonic = monotonic
        self._is_running = False
        self._cleanup_count = 0
        self._logged_errors: set[str] = set()
        """Errors of the last cleanup, which are not logged again."""
        self._last_changes: dict[UUID, tuple[str, float]] = {}
        """Heartbeats of other workers' active flow runs, and when a change was last seen."""
        self._final_states: dict[UUID | None, float] = {}
        """Ids of the final states of flow runs that still have a pod, and when each was first seen."""

    async def run(self) -> None:
        """Clean up once. Failures are only logged, because the worker will clean up again."""
        if self._is_running:
            return
        self._is_running = True
        errors: set[str] = set()
        try:
            for flow_run in await self._find_abandoned_runs():
                with collect_error(errors):
                    await self._clean_up(flow_run)
            if self._cleanup_count % _CLEANUPS_PER_POD_LIST == 0:
                with collect_error(errors):
                    await self._delete_pods_left_behind(errors)
            self._cleanup_count += 1
        except Exception as exc:  # noqa: BLE001 - the worker must continue after any error
            errors.add(repr(exc))
            # The server may be unreachable, so that no worker can send a heartbeat: start counting anew.
            self._last_changes.clear()
        finally:
            self._is_running = False
        for error in errors - self._logged_errors:
            self._worker.log.warning("Cleanup after killed workers failed: %s", error)
        self._logged_errors = errors

    async def _find_abandoned_runs(self) -> list[FlowRun]:
        """Return the active flow runs whose worker has ended or counts as dead; record the heartbeats."""
        now = self._monotonic()
        max_silence = _MAX_MISSED_HEARTBEATS * self._worker.heartbeat_interval_seconds
        states = [StateType.PENDING, StateType.RUNNING, StateType.CANCELLING]
        active = await read_flow_runs(
            self._worker.client, states=states, work_pool=self._worker.work_pool.name
        )
        # Another worker of this type has them, or has had them.
        runs = [run for run in active if _is_of_this_type(run) and not is_owned_by(run, self._process_id)]
        last_changes: dict[UUID, tuple[str, float]] = {}
        for run in runs:
            heartbeat = str(run.labels.get(HEARTBEAT))
            last, changed_at = self._last_changes.get(run.id, (heartbeat, now))
            last_changes[run.id] = (heartbeat, changed_at if heartbeat == last else now)
        self._last_changes = last_changes
        return [
            run
            for run in runs
            if now - last_changes[run.id][1] >= max_silence or run.labels.get(HEARTBEAT) == ""
        ]

    async def _clean_up(self, flow_run: FlowRun) -> None:
        """Continue a dead worker's flow run, or delete its pod and set the run's next state."""
        worker, pid = self._worker, str(flow_run.infrastructure_pid)
        # Pass copies, as Prefect removes `env` from the flow run's job variables.
        configuration = await worker.job_configuration.resolve_for_flow_run(
            flow_run.model_copy(deep=True),
            client=worker.client,
            work_pool=copy.deepcopy(worker.work_pool),
            worker_name=worker.name,
        )
        if flow_run.state_type == StateType.RUNNING and await worker.continue_run(flow_run, configuration):
            return
        with suppress(InfrastructureNotFound):
            await worker.kill_infrastructure(pid, configuration)
        current = await worker.client.read_flow_run(flow_run.id)
        is_same_attempt = current.infrastructure_pid == pid and current.labels == flow_run.labels
        if is_same_attempt and current.state_type == flow_run.state_type:
            state = next_state(current, "Its worker sent no heartbeats.")
            await worker.client.set_flow_run_state(flow_run.id, state, force=True)
            worker.log.warning("Flow run %s is %s: %s", flow_run.id, state.name, state.message)

    async def _delete_pods_left_behind(self, errors: set[str]) -> None:
        """Delete the pods that flow runs of this pool left behind; see :func:`_is_left_behind`.

        The errors of single deletions are added to ``errors``, so that they do not stop the others.
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
                worker.log.warning("Search for pods that were left behind is incomplete: %s", unreadable)
            pods = [(pod, flow_run_id) for pod in listed if (flow_run_id := flow_run_id_of(pod.name))]
            if not pods:
                return
            # Read only flow runs of this pool: other pools and servers have other workers.
            ids = {flow_run_id for _, flow_run_id in pods}
            found = await read_flow_runs(worker.client, ids=ids, work_pool=worker.work_pool.name)
            flow_runs = {flow_run.id: flow_run for flow_run in found}
            # Count from the first look, as the clocks of this machine and of the server may differ.
            now = self._monotonic()
            final = [run.state_id for run in found if run.state is not None and run.state.is_final()]
            self._final_states = {state: self._final_states.get(state, now) for state in final}
            deletions = [
                self._delete_pod(client, pod, errors)
                for pod, flow_run_id in pods
                if (flow_run := flow_runs.get(flow_run_id)) is not None
                and _is_left_behind(pod, flow_run, now - self._final_states.get(flow_run.state_id, now))
            ]
            # Together: a pod that stays in deletion for ten minutes must not delay the others.
            await asyncio.gather(*deletions)

    async def _delete_pod(self, client: AsyncClient, pod: Pod, errors: set[str]) -> None:
        with collect_error(errors):
            await delete_by_prefix(client, str(pod.name))
            self._worker.log.warning("Pod %s (%s) was left behind, and is deleted", pod.id, pod.name)


async def read_flow_runs(
    client: PrefectClient,
    *,
    ids: Collection[UUID] | None = None,
    states: Collection[StateType] | None = None,
    work_pool: str | None = None,
) -> list[FlowRun]:
    """Return all flow runs with these ids, in these states and of this work pool; ``None`` matches all.

    Raises:
        RuntimeError: There are more than 10,000.
    """
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=None if states is None else list(states)))
    pool = None if work_pool is None else WorkPoolFilter(name=WorkPoolFilterName(any_=[work_pool]))
    found: dict[UUID, FlowRun] = {}
    while len(found) <= _MAX_FLOW_RUNS:
        # The server limits the size of a page. Exclude the runs that were read: with an offset, a run that
        # leaves the states between two requests would hide another run.
        unread = FlowRunFilterId(any_=None if ids is None else list(ids), not_any_=list(found))
        page = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(id=unread, state=state), work_pool_filter=pool
        )
        new = {flow_run.id: flow_run for flow_run in page if flow_run.id not in found}
        found |= new
        if not new or (ids is not None and len(found) == len(set(ids))):
            return list(found.values())
    raise RuntimeError(f"More than {_MAX_FLOW_RUNS:,} flow runs match the filter, so not all can be read")


@contextmanager
def collect_error(errors: set[str]) -> Generator[None]:
    """Add the error of one step to ``errors`` instead of raising it, so that the other steps run."""
    try:
        yield
    except Exception as exc:  # noqa: BLE001 - its collector logs it
        errors.add(repr(exc))


def _is_of_this_type(flow_run: FlowRun) -> bool:
    """Return whether a worker of this type has set the flow run's infrastructure id."""
    return flow_run_id_of(flow_run.infrastructure_pid) == flow_run.id


def _is_left_behind(pod: Pod, flow_run: FlowRun, final_seconds: float) -> bool:
    """Return whether a pod belongs to an earlier attempt of its flow run, or the run ended five minutes ago.

    ``final_seconds`` is the time for which the run is known to have ended; 0 for an active run.
    """
    if _is_of_this_type(flow_run) and not is_pod_of(str(flow_run.infrastructure_pid), pod.name):
        return True
    return final_seconds >= DELETION_GRACE


def next_state(flow_run: FlowRun, reason: str) -> State[Any]:
    """Return the state of an active flow run whose pod was deleted."""
    if flow_run.state_type == StateType.CANCELLING:
        return Cancelled(message=f"{reason} No pod is left.")
    if flow_run.state_type == StateType.PENDING and flow_run.deployment_id is not None:
        return Scheduled(message=f"{reason} No pod is left, and the run is scheduled again.")
    return Crashed(message=f"{reason} No pod is left.")
