"""Simloom's loop with shorter steps, of which a world has thousands."""

import asyncio
import heapq
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, ClassVar

from simloom._context import current_host
from simloom._loop import SimLoop, describe_callback


def _on_machine(context: Context | None) -> Context | None:
    """Have what starts in an empty context, as the client's poller, run on the machine that starts it."""
    if context is not None and context.get(current_host) is None:
        machine = current_host.get()
        if machine is not None:
            context.run(current_host.set, machine)
    return context


class Loop(SimLoop):  # type: ignore[misc]  # untyped, since it is not read
    """A loop that looks whether a callback may still run when it has chosen it, not all of them each time."""

    keeps_log: ClassVar[bool] = False
    """Whether each step is logged, for a comparison of two runs."""
    haste: float = 0.0
    """Seconds by which time runs ahead of each timer: above 0, deadlines pass soon."""

    def _run_once(self) -> None:
        timers = self._scheduled
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not self._ready:
            if not timers:
                self._report_deadlock()
            self._now = max(self.time(), timers[0][0] + self.haste)
        while timers and timers[0][0] <= self._now:
            self._ready.append(heapq.heappop(timers)[2])
        index = self._scheduler.pick(self._ready)
        handle = self._ready[index]
        if handle._cancelled or ((self._crashed_ids or self._crashed_hosts) and self._handle_is_dead(handle)):
            self._compact_ready()
            return
        del self._ready[index]
        if self.keeps_log:
            self._log.emit("step", t=self._now, choice=index, ran=describe_callback(handle._callback))
        self._step_seq += 1
        self._detect_livelock()
        handle._run()

    def add_signal_handler(self, sig: int, callback: Callable[..., object], *args: Any) -> None:
        """Refuse: `Machine.interrupt` plays the signals."""
        raise NotImplementedError

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note an unhandled error, unless the world has ended: then tasks of dead machines are destroyed."""
        if not self.is_closed():
            super().call_exception_handler(context)

    def forget_dead(self) -> None:
        """Drop the callbacks of machines that have stopped; called before one starts again."""
        self._compact_ready()

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Have a callback run at one of the next steps."""
        handle = asyncio.Handle(callback, args, self, _on_machine(context))
        self._ready.append(handle)
        return handle

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have a callback run at a time."""
        handle = asyncio.TimerHandle(when, callback, args, self, _on_machine(context))
        self._timer_seq += 1
        heapq.heappush(self._scheduled, (when, self._timer_seq, handle))
        return handle

    def create_task(
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """Start a task, on the machine whose step runs."""
        self._task_creation_seq += 1
        name = name or f"task-{self._task_creation_seq}"
        task = asyncio.Task(coro, loop=self, name=name, context=_on_machine(context))
        self._task_order[task] = self._task_creation_seq
        host = current_host.get()
        if host is not None:
            host._register(task)
        return task
