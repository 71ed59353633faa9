"""Trigger that waits for a pod in a triggerer."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Final, Literal
from weakref import WeakKeyDictionary

import attrs
from airflow.providers.common.compat.sdk import TaskInstanceState
from airflow.triggers.base import BaseTrigger, TriggerEvent

from .. import AsyncClient, ConnectionLostError, LoginError, NotFoundError, PodStatus, PrimePodsError
from ._events import PodEvent, failure, success
from ._poller_log import poller_warnings
from .hooks import PrimePodsHook, ask_airflow, state_of

Goal = Literal["ready", "gone"]

TRIGGERER_GRACE: Final = timedelta(seconds=60)
"""Time after ``execution_timeout`` for a trigger to report its result, before Airflow ends the wait."""
_MIN_EVENT_DELAY: Final = 1.0
"""Min seconds between a trigger's start and its event."""
_LATE_CHECK_TIMEOUT: Final = 15.0
"""Seconds for a last check of the pod if the deadline passed while no triggerer ran."""
_KILL_TIMEOUT: Final = 25.0
"""Seconds for each API call about the pod of a killed task."""
_STATE_TIMEOUT: Final = 120.0
"""Timeout in seconds of a request for a state, which may take half a minute in a busy triggerer."""
_MAX_TIMEOUTS: Final = 2
"""Timeouts in a row after which the other requests of a queue fail, too."""
_CALLS_ON_KILL: Final = hasattr(BaseTrigger, "on_kill")
"""Whether Airflow calls ``on_kill``. Before 3.3, it only cancels ``run``, as when a triggerer stops."""
_WAITING_STATES: Final = frozenset({TaskInstanceState.DEFERRED, TaskInstanceState.UP_FOR_RETRY})
"""States in which the pod is kept: another triggerer waits for it, or a retry will."""
_RESUMED_STATES: Final = frozenset(
    {TaskInstanceState.SCHEDULED, TaskInstanceState.QUEUED, TaskInstanceState.RUNNING}
)
"""States of a task whose trigger has ended, or that was cleared and goes on with its job."""


@attrs.define(eq=False)
class _Queue:
    """Queue of requests for task states. They run in turn; the timeout of a request starts at its turn."""

    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    timeouts: int = 0
    """Number of timeouts since the last response."""


_queues: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, _Queue]] = WeakKeyDictionary()
"""The queue of each loop."""


class PrimePodTrigger(BaseTrigger):
    """Trigger that waits until a pod is ready or gone.

    The payload of its event is a :class:`~primepods.airflow._events.PodEvent`. After a crash, another
    triggerer continues the wait, with the same deadline. In a triggerer, all triggers with equal connections
    share one poller.

    Args:
        pod_id: The pod's id.
        prime_conn_id: The connection's id.
        end: Deadline of the wait, in seconds since the epoch.
        until: ``"ready"`` or ``"gone"``.
        interval: Seconds between two polls.
        delete_on_kill: ``True`` to delete the pod when its task is marked failed or succeeded, or cleared;
            before Airflow 3.3 only when it is marked failed. In doubt, the pod is kept.
    """

    _arguments: Sequence[str] = ("pod_id", "prime_conn_id", "end", "until", "interval", "delete_on_kill")
    _kept_states = _WAITING_STATES

    def __init__(  # noqa: PLR0913 - all parameters of a wait
        self,
        *,
        pod_id: str,
        prime_conn_id: str,
        end: float,
        until: Goal = "ready",
        interval: float = 5.0,
        delete_on_kill: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]  # untyped in some Airflows
        self.pod_id = pod_id
        self.prime_conn_id = prime_conn_id
        self.end = end
        self.until: Goal = until
        self.interval = interval
        self.delete_on_kill = delete_on_kill

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class's path and its arguments, which do not contain the API key."""
        kind = type(self)
        arguments = {name: getattr(self, name) for name in self._arguments}
        return f"{kind.__module__}.{kind.__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield the result."""
        started_at = time.monotonic()
        try:
            event = await self._wait()
            # Airflow may lose an event sent before it has stored that the task is deferred.
            await asyncio.sleep(started_at + _MIN_EVENT_DELAY - time.monotonic())
        except asyncio.CancelledError:
            if self.delete_on_kill and not _CALLS_ON_KILL:
                await _run_to_completion(self._delete_if_killed())
            raise
        # Yield after the client is closed: `DAG.test` never resumes this generator.
        yield TriggerEvent(event)  # type: ignore[no-untyped-call,unused-ignore]  # as above

    async def on_kill(self) -> None:
        """Delete the pod if ``delete_on_kill`` is set and a user has marked or cleared the task.

        Airflow also calls this method after a stalled triggerer has lost the trigger to another triggerer.
        """
        if self.delete_on_kill:
            await _run_to_completion(self._delete_if_killed())

    async def _delete_if_killed(self) -> None:
        """Delete the pod if the task's state shows that a user has ended the task; in doubt, keep it."""
        task = self.task_instance
        pod_id = self.pod_id
        if task is None:
            self.log.warning("Not deleting pod %s: its task is unknown", pod_id)
            return
        try:
            state = await _request_state(task)
            if state in self._kept_states:
                self.log.info("Not deleting pod %s: no user has ended the task, which is %s", pod_id, state)
                return
            if state != TaskInstanceState.FAILED and not _CALLS_ON_KILL:
                # The wait may be over, or the task may have been cleared.
                return
            async with await PrimePodsHook(self.prime_conn_id).get_async_conn() as client:
                hurried = client.with_options(deadline=_KILL_TIMEOUT)
                # Either a user has cleared or marked the task, or its wait has ended in another triggerer.
                if state != TaskInstanceState.FAILED and await self._is_over(hurried):
                    self.log.warning(
                        "Not deleting pod %s, which may be in use: the task is %s, and the wait may be over. "
                        "The pod is billed until you delete it",
                        pod_id,
                        state or "cleared",
                    )
                    return
                self.log.info("The task was killed: deleting pod %s", pod_id)
                await hurried.pods.delete(pod_id, missing_ok=True)
        except Exception:
            self.log.exception("The task was cancelled, and pod %s may still run", pod_id)

    async def _is_over(self, client: AsyncClient) -> bool:
        """Return whether a wait for a ready pod may be over: its deadline has passed, or the pod is ready."""
        if time.time() >= self.end:
            return True
        try:
            return (await client.pods.status(self.pod_id)).is_ready
        except NotFoundError:
            return False

    async def _wait(self) -> PodEvent:
        left = self.end - time.time()
        timeout = left if left > 0 else _LATE_CHECK_TIMEOUT
        self.log.info("Waiting for pod %s to be %s, for %.0f s at most", self.pod_id, self.until, timeout)
        wait: Callable[..., Awaitable[PodStatus | None]]
        log_change = partial(self.log.info, "%s")
        try:
            with poller_warnings(self.log):
                async with await PrimePodsHook(self.prime_conn_id).get_async_conn() as client:
                    wait = client.pods.wait_gone if self.until == "gone" else client.pods.wait_ready
                    status = await wait(
                        self.pod_id, timeout=timeout, interval=self.interval, on_change=log_change
                    )
        except PrimePodsError as exc:
            return failure(exc)
        return success(self.pod_id, status)


class PrimeJobTrigger(PrimePodTrigger):
    """Trigger that follows the job of a :class:`PrimeRunPodOperator` with one connection a poll.

    At each poll, the new output goes to the task's log. The pod is deleted when the task is marked failed or
    succeeded; in doubt, it is kept.

    Args:
        job: The job's name.
        ssh_options: Options of ``ssh``.
        ssh_command: Command line to run instead of ``ssh``.
        login_timeout: Seconds for a login.
        offset: Offset of the output that the log has.
        wait: Arguments of :class:`PrimePodTrigger`.
    """

    _arguments = (
        *("pod_id", "prime_conn_id", "end", "interval"),
        *("job", "ssh_options", "ssh_command", "login_timeout", "offset"),
    )
    _kept_states = _WAITING_STATES | _RESUMED_STATES

    def __init__(
        self,
        *,
        job: str,
        ssh_options: Sequence[str],
        ssh_command: str,
        login_timeout: float,
        offset: int = 0,
        **wait: Any,
    ) -> None:
        super().__init__(delete_on_kill=True, **wait)
        self.job = job
        self.ssh_options = ssh_options
        self.ssh_command = ssh_command
        self.login_timeout = login_timeout
        self.offset = offset

    async def _is_over(self, client: AsyncClient) -> bool:
        """Return ``False``: the task was ended, and its job is not needed."""
        del client
        return False

    async def _wait(self) -> PodEvent:
        self.log.info("Following the job on pod %s, every %g s", self.pod_id, self.interval)
        try:
            async with await PrimePodsHook(self.prime_conn_id).get_async_conn() as client:
                remote = client.pods.remote(
                    self.pod_id,
                    ssh_options=self.ssh_options,
                    ssh_command=self.ssh_command,
                    login_timeout=self.login_timeout,
                )
                while time.time() < self.end:
                    try:
                        job = remote.job(self.job)
                        async with job.output(offset=self.offset, follow=False, reconnect=0.0) as output:
                            async for line in output:
                                self.log.info("%s", line.text)
                                self.offset = line.offset
                        if output.state is not None and not output.state.is_running:
                            return {"status": "success", "message": "The job has ended.", "pod": None}
                    except (ConnectionLostError, LoginError) as exc:
                        # The job may run all the same, unless the pod is gone.
                        self.log.warning("%s", exc)
                        await client.pods.status(self.pod_id)
                    await asyncio.sleep(max(0.0, min(self.interval, self.end - time.time())))
        except PrimePodsError as exc:
            return failure(exc)
        message = f"The job on pod {self.pod_id} has not ended in time: its pod will be deleted."
        return {"status": "timeout", "message": message, "pod": None}


async def _request_state(task: Any) -> str | None:
    """Return the state of a task; ``None`` if it has none, for example because it was cleared.

    Raises:
        TimeoutError: Airflow has not responded to this request, or to two requests before it.
    """
    loop = asyncio.get_running_loop()
    queue = _queues.setdefault(loop, _Queue())
    async with queue.lock:
        if queue.timeouts == _MAX_TIMEOUTS:
            raise TimeoutError("Airflow has not responded to the requests of two other triggers")
        try:
            async with asyncio.timeout(_STATE_TIMEOUT):
                state = await ask_airflow(state_of, task)
        except TimeoutError:
            queue.timeouts += 1
            if queue.timeouts == _MAX_TIMEOUTS:
                del _queues[loop]  # later requests begin anew
            raise
        except Exception:
            queue.timeouts = 0  # Airflow has responded
            raise
        queue.timeouts = 0
        return state


async def _run_to_completion(work: Coroutine[Any, Any, None]) -> None:
    """Run to completion despite cancellations, which Airflow repeats once a second."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()
