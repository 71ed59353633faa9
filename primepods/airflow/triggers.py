"""The trigger that waits for a pod in a triggerer: one of thousands that share one poller."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Final, Literal

from airflow.providers.common.compat.sdk import TaskInstanceState
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import BaseTrigger, TriggerEvent

from .. import PodChange, PrimePodsError
from ._events import PodEvent, failure, success
from ._poller_log import poller_warnings
from .hooks import PrimePodsHook, ask_airflow

Goal = Literal["ready", "gone"]

_EARLIEST_EVENT: Final = 1.0
"""Seconds after its start before which a trigger does not fire."""
_LAST_LOOK: Final = 15.0
"""Seconds for a wait whose end was while no triggerer ran: what has become of the pod is still seen."""
_KILL_TIMEOUT: Final = 25.0
"""Seconds to delete the pod of a task that was killed; Airflow leaves 30."""
_STATE_TIMEOUT: Final = 10.0
"""Seconds to ask whether a task was killed."""


class PrimePodTrigger(BaseTrigger):
    """Waits until a pod is ready, or gone. Yields one :class:`~primepods.airflow._events.PodEvent`.

    What is serialized says all: after a crash another triggerer goes on, with the same end. All triggers of a
    triggerer with equal connections share one poller.

    Args:
        pod_id: The pod.
        prime_conn_id: The connection.
        end: When the wait times out, in seconds since the epoch.
        until: What to wait for.
        interval: Seconds between two looks.
        delete_on_kill: Whether the pod is deleted when its task is marked failed or succeeded, or cleared.
    """

    def __init__(  # noqa: PLR0913 - what a wait is made of
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
        """Return the class's path and what another process needs to go on; the key is not in it."""
        names = ("pod_id", "prime_conn_id", "end", "until", "interval", "delete_on_kill")
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and yield how it ended."""
        started_at = time.monotonic()
        try:
            event = await self._wait()
            # Airflow may lose an event that comes before it has written down that the task is deferred.
            await asyncio.sleep(started_at + _EARLIEST_EVENT - time.monotonic())
        except asyncio.CancelledError:
            # Newer Airflows call `on_kill` themselves.
            if self.delete_on_kill and not hasattr(BaseTrigger, "on_kill"):
                await _to_its_end(self._delete_if_failed())
            raise
        # No client is open any more: whoever takes the one event never comes back to close it.
        yield TriggerEvent(event)  # type: ignore[no-untyped-call,unused-ignore]  # as above

    async def on_kill(self) -> None:
        """Delete the pod, if that was asked for: a user has marked the task, or cleared it."""
        if self.delete_on_kill:
            await _to_its_end(self._delete())

    async def _delete(self) -> None:
        self.log.info("The task was killed: deleting pod %s", self.pod_id)
        async with await PrimePodsHook(self.prime_conn_id).get_async_conn() as client:
            await client.with_options(deadline=_KILL_TIMEOUT).pods.delete(self.pod_id, missing_ok=True)

    async def _delete_if_failed(self) -> None:
        """Delete the pod if the task was marked failed, and this is not the end of its triggerer.

        Other states prove nothing: after a success elsewhere the pod is in use.
        """
        task = self.task_instance
        if task is None:
            return
        try:
            async with asyncio.timeout(_STATE_TIMEOUT):
                states = await ask_airflow(
                    RuntimeTaskInstance.get_task_states,
                    dag_id=task.dag_id,
                    task_ids=[task.task_id],
                    run_ids=[task.run_id],
                    map_index=task.map_index,
                )
            if TaskInstanceState.FAILED in states.get(task.run_id, {}).values():
                await self._delete()
        except Exception:
            self.log.exception("The task was cancelled, and pod %s may go on", self.pod_id)

    async def _wait(self) -> PodEvent:
        left = self.end - time.time()
        timeout = left if left > 0 else _LAST_LOOK
        self.log.info("Waiting for pod %s to be %s, for %.0f s at most", self.pod_id, self.until, timeout)
        pod_id, interval = self.pod_id, self.interval
        try:
            with poller_warnings(self.log):
                async with await PrimePodsHook(self.prime_conn_id).get_async_conn() as client:
                    if self.until == "gone":
                        await client.pods.wait_gone(
                            pod_id, timeout=timeout, interval=interval, on_change=self._tell
                        )
                        return success(pod_id, None)
                    status = await client.pods.wait_ready(
                        pod_id, timeout=timeout, interval=interval, on_change=self._tell
                    )
                    return success(pod_id, status)
        except PrimePodsError as exc:
            return failure(exc)

    def _tell(self, change: PodChange) -> None:
        self.log.info("%s", change.after or f"{change.pod_id} is gone")


async def _to_its_end(work: Coroutine[Any, Any, None]) -> None:
    """Await something, however often that is cancelled: Airflow does so once a second."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()
