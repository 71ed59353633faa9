"""The blocking pool: its pods are in the client's loop, its work runs in threads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from .._utils.arguments import check_callable
from .._utils.iterators import ClosableIterator
from ..errors import PrimePodsError
from ..leasing.pool import AsyncPool, PoolResult
from ..leasing.supervisor import LeaseSupervisor
from ._delegate import like
from ._iterators import Streams
from ._lease import LeasedPod
from ._portal import Portal

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_MAX_PASSES: Final = 100
"""Max passes of the loop that ends a pool; it needs far fewer."""
_END: Final = object()


class _PooledPod(LeasedPod):
    """The pod of one piece of work, whose calls end when the pool takes the pod back."""

    def __init__(self, supervisor: LeaseSupervisor, portal: Portal) -> None:
        super().__init__(supervisor, portal)
        self._is_taken_back = False

    def _call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        async def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                self._check_taken_back()
                return await function(*args, **kwargs)
            except asyncio.CancelledError:
                self._check_taken_back()
                raise

        return super()._call(call, *args, **kwargs)

    def _check_taken_back(self) -> None:
        if self._is_taken_back:
            raise PrimePodsError(f"The pool has taken back pod {self.id}: it is lost, or the pool ends.")

    def take_back(self) -> None:
        """End all calls; call it in the loop."""
        self._is_taken_back = True
        for task in self._in_progress:
            task.cancel()


class Pool:
    """A pool of leased pods; made by ``pods.pool``, and used once.

    Pods are rented when there is work for them, at most ``size`` at a time. At the end of the ``with`` block
    all calls on pods end, and all pods are deleted and confirmed gone, as at the end of a lease.
    """

    def __init__(self, portal: Portal, pool: AsyncPool, setup: Callable[[LeasedPod], object] | None) -> None:
        self._portal = portal
        self._supervisor = pool.supervisor
        if setup is not None:
            check_callable("setup", setup)
            self._supervisor.setup = partial(_call_on_pod, portal, setup)
        self._streams = Streams(portal)

    @property
    def pods(self) -> int:
        """Number of pods that are rented, or being rented."""
        return self._supervisor.pods

    def spent(self) -> float:
        """Return the cost of all pods so far, at the highest prices seen."""
        return self._supervisor.spent()

    def __enter__(self) -> Self:
        self._supervisor.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        interrupted: BaseException | None = None
        for _ in range(_MAX_PASSES):
            try:
                self._portal.call(self._supervisor.end)
                break
            except PrimePodsError:
                raise
            except BaseException as again:  # noqa: BLE001 - Ctrl-C, or the exception of a signal handler
                interrupted = again
        self._supervisor.report(interrupted or exc)
        if interrupted is not None:
            raise interrupted

    def map(
        self, work: Callable[[LeasedPod, T], R], items: Iterable[T], *, retries: int | None = None
    ) -> ClosableIterator[PoolResult[T, R]]:
        """Do the same work for each item, each on a pod, and yield the results as they come.

        Args:
            work: Function of a pod and an item, which runs in a thread, one for each pod. A failure of it is
                its item's result.
            items: The items, read in a thread and only as far as there is room: at most ``2 * size`` are
                begun or wait for their reader. May be endless.
            retries: How often an item is tried again on another pod if its pod is lost; by default that of
                the pool.

        Returns:
            An iterator of :class:`PoolResult`. It raises an error if no pod can be rented and none is left,
            if a limit of the pool is reached, if ``setup`` fails on every pod, and if reading ``items`` does.
        """
        on_pod = partial(_call_on_pod, self._portal, work)
        return self._streams.iterate(self._supervisor.map(on_pod, _iterate(items), retries))

    @contextmanager
    @like(AsyncPool.pod)
    def pod(self) -> Generator[LeasedPod]:
        lent = self._supervisor.lend()
        supervisor = self._portal.call(lent.__aenter__)
        try:
            yield LeasedPod(supervisor, self._portal)
        finally:
            self._portal.call(lent.__aexit__, None, None, None)


async def _call_on_pod(
    portal: Portal, work: Callable[..., R], supervisor: LeaseSupervisor, *args: object
) -> R:
    """Call a function with a blocking pod in a thread, and return its result.

    If this is cancelled, the pod's calls end; the thread is not waited for.
    """
    pod = _PooledPod(supervisor, portal)
    try:
        result: R = await _in_thread(work, pod, *args)
    finally:
        pod.take_back()
    return result


async def _iterate(items: Iterable[T]) -> AsyncIterator[T]:
    iterator = iter(items)
    while (item := await _in_thread(next, iterator, _END)) is not _END:
        yield item


async def _in_thread(function: Callable[..., Any], *args: Any) -> Any:
    """Run a function in a thread of its own, which the end of the process does not wait for."""

    def outcome() -> tuple[Any, BaseException | None]:
        try:
            return function(*args), None
        except BaseException as exc:  # noqa: BLE001 - raised by the caller
            return None, exc

    value, error = await asyncio.get_running_loop().run_in_executor(None, outcome)
    if error is None:
        return value
    if isinstance(error, Exception):
        raise error
    # `sys.exit()` or KeyboardInterrupt of a thread would end the client's loop, and with it other leases.
    raise RuntimeError(f"{error!r} was raised in a thread of the pool") from error
