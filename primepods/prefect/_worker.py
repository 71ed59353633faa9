"""The Prefect worker."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import anyio
from prefect.client.schemas.objects import TERMINAL_STATES, StateType
from prefect.exceptions import InfrastructureNotAvailable, InfrastructureNotFound, ObjectNotFound
from prefect.states import Cancelled
from prefect.workers.base import BaseWorker, BaseWorkerResult

from .. import Pod, PrimePodsError
from ._configuration import PrimePodJobConfiguration, PrimePodVariables, is_pod_of
from ._pod_run import PodRun, delete_by_prefix
from ._recovery import (
    DELETION_GRACE,
    HEARTBEAT,
    OFFSET,
    Recovery,
    collect_error,
    is_owned_by,
    next_state,
    read_flow_runs,
)

if TYPE_CHECKING:
    import logging
    from collections.abc import Awaitable, Callable

    from anyio.abc import TaskStatus
    from prefect.client.schemas.objects import FlowRun, State
    from prefect.types import KeyValueLabels as Labels

_CANCEL_POLL_INTERVAL: Final = 3.0
"""Max seconds between two polls for cancelled and finished flow runs."""
_WARNING_INTERVAL: Final = 60.0
"""Seconds between two warnings about Prefect's server."""
_CLAIM_SECONDS: Final = 2.0
"""Seconds in which another worker may take over the same flow run."""
_EXIT_TIMEOUT: Final = 10.0
"""Seconds to report the runs of a worker that ends."""
_CANCEL_GRACE: Final = 60.0
"""Seconds that Prefect on the pod has to end a cancelled flow, and that the command then has again to end."""


class PrimePodWorkerResult(BaseWorkerResult):
    """Exit code of a flow run's command, and the prefix of the pod's name."""


class PrimePodWorker(BaseWorker[PrimePodJobConfiguration, PrimePodVariables, PrimePodWorkerResult]):
    """Worker that rents a pod for every flow run, and deletes it when the run ends.

    Start the worker with ``prefect worker start --pool NAME --type prime-pod``. If a worker ends or is
    killed, another worker of the pool finds its pods by their names, and continues their flow runs or deletes
    them. The prefix of a pod's name contains the flow run's id, and differs between the attempts of the run.
    """

    type = "prime-pod"
    job_configuration = PrimePodJobConfiguration
    job_configuration_variables = PrimePodVariables

    _display_name = "Prime Intellect Pod"
    _description = "Execute each flow run on its own GPU pod of Prime Intellect, deleted when the run ends."
    # See PrimeCredentials for this address, and for the missing `_logo_url`.
    _documentation_url = "https://docs.primeintellect.ai/api-reference/managing-pods"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._process_id = uuid4().hex[:12]
        self._pod_runs: dict[str, PodRun] = {}
        self._is_monitoring = False
        self._heartbeat_count = 0
        self._recovery = Recovery(self, self._process_id)

    @property
    def log(self) -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
        """The worker's log."""
        return self._logger

    async def run(
        self,
        flow_run: FlowRun,
        configuration: PrimePodJobConfiguration,
        task_status: TaskStatus[Any] | None = None,
        *,
        pod: Pod | None = None,
    ) -> PrimePodWorkerResult:
        """Run a flow run on a new pod, and return once the pod is gone or its deletion has failed.

        Args:
            flow_run: The flow run.
            configuration: Its configuration.
            task_status: Prefect's.
            pod: The pod of an earlier worker, on which the command runs, instead of a new one.

        Raises:
            Exception: No command was started. If a pod may be billed, the error says so. An exception is also
                raised if Prefect's server cannot be reached after the run was stopped.
        """
        name = configuration.pod_name_prefix
        pod_run = PodRun(
            flow_run_id=flow_run.id,
            configuration=configuration,
            log=self.get_flow_run_logger(flow_run),
            pod=pod,
            has_started=pod is not None,
            offset=int(flow_run.labels.get(OFFSET) or 0) if pod else 0,
        )
        if task_status is not None:
            pod_run.report_started = partial(task_status.started, name)
        code, error = None, None
        try:
            await self._register(pod_run)
            if await self._should_run(pod_run):
                code = await pod_run.execute(partial(self._should_run, pod_run))
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(_EXIT_TIMEOUT, shield=True):
                await self._report_exit(pod_run)
            raise
        except Exception as exc:  # noqa: BLE001 - raised again, unless it was reported to Prefect
            code, error = await self._handle_error(flow_run, pod_run, exc), exc
        finally:
            self._pod_runs.pop(name, None)
            pod_run.ended.set()
        if code is None:
            await self._finish_cancellation(pod_run, error)
        if not pod_run.has_started:
            # Prefect logs an error for a run that is not reported as started.
            pod_run.report_started()
        # A stopped run has no exit code. Return 0: Prefect sets a run with any other code to Crashed.
        return PrimePodWorkerResult(identifier=name, status_code=code or 0)

    async def _register(self, pod_run: PodRun) -> None:
        """Tell the server which pods are the run's, so that another worker can find them; monitor the run."""
        name = pod_run.configuration.pod_name_prefix
        # The heartbeat first: without it, the run would look like that of another worker.
        await self._send_run_heartbeat(pod_run)
        await self.client.update_flow_run(pod_run.flow_run_id, infrastructure_pid=name)
        self._pod_runs[name] = pod_run
        if not self._is_monitoring and self._runs_task_group is not None:
            self._is_monitoring = True
            self._runs_task_group.start_soon(self._monitor_runs)

    async def _should_run(self, pod_run: PodRun) -> bool:
        """Return whether the flow run is pending, and this is its latest attempt.

        A run that this worker continues must still be its own after others had time to take it over.
        """
        if pod_run.pod is not None:
            await anyio.sleep(_CLAIM_SECONDS)
            return is_owned_by(await self.client.read_flow_run(pod_run.flow_run_id), self._process_id)
        flow_run = await self._read_flow_run(pod_run)
        if flow_run is None or flow_run.infrastructure_pid != pod_run.configuration.pod_name_prefix:
            return False
        return flow_run.state_type == StateType.PENDING

    async def _report_exit(self, pod_run: PodRun) -> None:
        """Pass a run on to the next worker, or set the state of a run whose pod was deleted."""
        try:
            if pod_run.is_left:
                pod_run.log.info("The worker ends. The next worker of the pool continues with the command")
                labels: Labels = {HEARTBEAT: "", OFFSET: pod_run.offset}
                await self.client.update_flow_run_labels(pod_run.flow_run_id, labels)
                return
            flow_run = await self.client.read_flow_run(pod_run.flow_run_id)
            is_latest = flow_run.infrastructure_pid == pod_run.configuration.pod_name_prefix
            if is_latest and flow_run.state is not None and not flow_run.state.is_final():
                state = next_state(flow_run, "Its worker was stopped.")
                await self.client.set_flow_run_state(flow_run.id, state, force=True)
        except Exception as exc:  # noqa: BLE001 - if the server is unreachable, another worker will do it
            self.log.warning("The end of a run could not be reported: %r", exc)

    async def _handle_error(self, flow_run: FlowRun, pod_run: PodRun, error: Exception) -> int | None:
        """Report an error of a run; return its exit code, or ``None`` for a run that is no longer wanted.

        Raises:
            Exception: The error, if the run was not started and may be wanted. Prefect then reports it.
        """
        if pod_run.has_started:
            # If the error were raised, Prefect would only log it, and assume that the run continues.
            pod_run.log.error("The pod's lease ended with: %s", error)
            await self._propose_crashed_state(flow_run, str(error))
            return 1
        should_run = True
        with suppress(Exception):  # the server is unreachable: report the first error
            should_run = not pod_run.is_stopped and await self._should_run(pod_run)
        if should_run:
            raise error
        text = "An error occurred after the flow run was stopped. If a pod was ordered, it may be billed: %s"
        pod_run.log.error(text, error)
        return None

    async def _finish_cancellation(self, pod_run: PodRun, error: Exception | None) -> None:
        """Set the flow run to Cancelled, if it is being cancelled."""
        flow_run = await self._read_flow_run(pod_run)
        if flow_run is not None and flow_run.state_type == StateType.CANCELLING:
            message = f"If a pod was ordered, it may be billed: {error}" if error else "No pod is left."
            state: State[Any] = Cancelled(message=message)
            await self.client.set_flow_run_state(flow_run.id, state, force=True)

    async def continue_run(self, flow_run: FlowRun, configuration: PrimePodJobConfiguration) -> bool:
        """Continue a running flow run of an ended worker; return ``False`` if it has no pod."""
        prefix = str(flow_run.infrastructure_pid)
        async with configuration.get_client() as client:
            pods, _ = await client.pods.list().find(
                lambda pod: is_pod_of(prefix, pod.name) and not pod.has_failed and not pod.has_ended
            )
        if not pods or self._runs_task_group is None:
            return False
        configuration.continue_with(prefix)
        if prefix not in self._pod_runs:
            self._runs_task_group.start_soon(self._continue, flow_run, configuration, pods[0])
        return True

    async def _continue(self, flow_run: FlowRun, configuration: PrimePodJobConfiguration, pod: Pod) -> None:
        if code := (await self.run(flow_run, configuration, pod=pod)).status_code:
            await self._propose_crashed_state(flow_run, f"The command ended with exit code {code}.")

    async def kill_infrastructure(
        self,
        infrastructure_pid: str,
        configuration: PrimePodJobConfiguration,
        grace_seconds: int = 30,
    ) -> None:
        """Delete the pod of a flow run, and confirm that it is gone.

        Args:
            infrastructure_pid: The flow run's infrastructure id, which is the prefix of the pod's name.
            configuration: Configuration with the credentials to use.
            grace_seconds: Not used, because deleting a pod ends all processes on it.

        Raises:
            InfrastructureNotFound: The complete list of pods has none whose name begins with the prefix.
            InfrastructureNotAvailable: A pod could not be deleted or confirmed gone, or none was found but a
                row of the list cannot be read. A pod may be billed.
        """
        del grace_seconds
        pod_run = self._pod_runs.get(infrastructure_pid)
        if pod_run is not None:
            pod_run.stop()
            await pod_run.ended.wait()
        try:
            async with configuration.get_client() as client:
                found = await delete_by_prefix(client, infrastructure_pid)
        except PrimePodsError as exc:
            text = f"A pod whose name begins with {infrastructure_pid} may be billed: {exc}"
            raise InfrastructureNotAvailable(text) from None
        if not found and pod_run is None:
            raise InfrastructureNotFound(f"There is no pod whose name begins with {infrastructure_pid}.")

    async def sync_with_backend(self) -> None:
        """Synchronize with the server, and start a cleanup after killed workers."""
        await super().sync_with_backend()
        if self._runs_task_group is not None:
            self._runs_task_group.start_soon(self._recovery.run)

    async def _monitor_runs(self) -> None:
        """While there are runs, send their heartbeats, and stop cancelled and finished runs."""
        next_heartbeat = time.monotonic() + self.heartbeat_interval_seconds
        next_warning = 0.0
        while self._pod_runs:
            steps: list[Callable[[], Awaitable[None]]] = [self._stop_cancelled_runs]
            if time.monotonic() >= next_heartbeat:
                next_heartbeat = time.monotonic() + self.heartbeat_interval_seconds
                steps += [partial(self._send_run_heartbeat, pod_run) for pod_run in self._pod_runs.values()]
            errors: set[str] = set()
            for step in steps:
                # One error must not stop the heartbeats of other runs: a flow run may have been deleted.
                with collect_error(errors):
                    await step()
            if errors and time.monotonic() >= next_warning:
                next_warning = time.monotonic() + _WARNING_INTERVAL
                self.log.warning(
                    "Cannot read flow runs or send heartbeats (%s). If this lasts, "
                    "other workers will delete the pods of these runs",
                    ", ".join(sorted(errors)),
                )
            await anyio.sleep(min(_CANCEL_POLL_INTERVAL, self.heartbeat_interval_seconds))
        self._is_monitoring = False

    async def _send_run_heartbeat(self, pod_run: PodRun) -> None:
        """Send a run's heartbeat: change its label on the server; see :mod:`._recovery`."""
        if pod_run.ended.is_set() or pod_run.is_left:
            return  # the label on the server may be that of the next attempt, or of another worker
        self._heartbeat_count += 1
        labels: Labels = {HEARTBEAT: f"{self._process_id}:{self._heartbeat_count}", OFFSET: pod_run.offset}
        await self.client.update_flow_run_labels(pod_run.flow_run_id, labels)

    async def _stop_cancelled_runs(self) -> None:
        """Stop cancelled, finished and deleted flow runs after their grace period; see :func:`must_stop`."""
        ids = {pod_run.flow_run_id for pod_run in self._pod_runs.values()}
        found = {flow_run.id: flow_run for flow_run in await read_flow_runs(self.client, ids=ids)}
        now = time.monotonic()
        for pod_run in list(self._pod_runs.values()):
            flow_run = found.get(pod_run.flow_run_id)
            if pod_run.is_stopped or pod_run.flow_run_id not in ids:
                continue
            if flow_run is not None and not is_owned_by(flow_run, self._process_id) and pod_run.has_started:
                pod_run.log.warning("Another worker has taken over the flow run")
                pod_run.leave()
                continue
            state_id = pod_run.flow_run_id if flow_run is None else flow_run.state_id
            if pod_run.state_id != state_id:
                pod_run.state_id, pod_run.state_since = state_id, now
            if must_stop(flow_run, pod_run, now - pod_run.state_since):
                if flow_run is None and await self._read_flow_run(pod_run) is not None:
                    continue
                state = "no longer on the server" if flow_run is None else flow_run.state_name
                pod_run.log.info("The flow run is %s: its pod is being deleted", state)
                pod_run.stop()

    async def _read_flow_run(self, pod_run: PodRun) -> FlowRun | None:
        """Return the flow run as the server has it; ``None`` if it was deleted."""
        with suppress(ObjectNotFound):
            return await self.client.read_flow_run(pod_run.flow_run_id)
        return None


def must_stop(flow_run: FlowRun | None, pod_run: PodRun, seconds: float) -> bool:
    """Return whether to delete the pod of a flow run that has been in its state for ``seconds``.

    ``None`` stands for a flow run that the server has lacked for so long.
    """
    if flow_run is None:
        return seconds >= DELETION_GRACE
    if flow_run.state_type != StateType.CANCELLING and flow_run.state_type not in TERMINAL_STATES:
        return False
    if not pod_run.has_started or flow_run.start_time is None:  # the flow has not begun
        return True
    if flow_run.state_type in {StateType.CANCELLING, StateType.CANCELLED}:
        return seconds >= _CANCEL_GRACE
    # Usually the flow has ended by itself, and its command may be saving results. Prefect does not show
    # whether somebody has set the state instead.
    return seconds >= DELETION_GRACE
