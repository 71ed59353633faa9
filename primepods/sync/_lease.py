"""Blocking leases, which run asynchronous ones in the client's event loop."""

from __future__ import annotations

import asyncio
import atexit
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar, cast

from .._utils.arguments import check_callable
from ..errors import PrimePodsError
from ..leasing.lease import AsyncLease, AsyncLeasedPod, LeasedPodView, add_notes, check_ready, exit_error
from ..leasing.supervisor import LeaseSupervisor
from ..models import PodChange
from ..remote import AsyncRemote
from ._call import in_calling_thread
from ._delegate import like
from ._loop import LOOPS
from ._portal import Portal
from ._remote import Remote

P = ParamSpec("P")
R = TypeVar("R")
OnChange = Callable[[PodChange], object]

# Max passes of the loop in `_release`; a release needs far fewer.
_MAX_PASSES: Final = 100
# The portals of leases that may have something left to do.
_portals: Final[dict[LeaseSupervisor, Portal]] = {}


class LeasedPod(LeasedPodView, Remote):
    """The pod of a lease: ready in the ``with`` block, and deleted at its end unless it is kept.

    It has the methods of a :class:`Remote`, such as ``run`` and ``upload``. When a budget ends the lease,
    they raise :class:`~primepods.BudgetExceededError`.

    Attributes:
        pod: The pod, as it was ordered.
        status: The pod's status when it was ready.
        name: The pod's name, with a unique suffix.
        ssh: The SSH target of the first node that has one.
    """

    def __init__(self, supervisor: LeaseSupervisor, portal: Portal) -> None:
        LeasedPodView.__init__(self, supervisor)
        self._pod = AsyncLeasedPod(supervisor)
        Remote.__init__(self, portal, self._pod)
        # The tasks of calls on the pod, and whether they go on during the wind-down.
        self._in_progress: dict[asyncio.Task[Any], bool] = {}
        # Whether a call has raised the error of the budget.
        self._is_told = False

    @like(AsyncLeasedPod.keep)
    def keep(self) -> None:
        async def keep() -> None:
            self._supervisor.keep()

        self._portal.call(keep)

    @like(AsyncLeasedPod.final_cost)
    def final_cost(self, *, timeout: float = 900.0, interval: float = 15.0) -> float:
        return self._portal.call(self._pod.final_cost, timeout=timeout, interval=interval)

    def _end_calls(self) -> None:
        """End the calls on the pod, in the loop; at the wind-down, not those that fetch results."""
        for task, is_download in self._in_progress.items():
            if self._supervisor.is_ending or not is_download:
                self._is_told = True
                task.cancel()

    def _call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        supervisor, is_download = self._supervisor, function is AsyncRemote.download

        async def within_budget(*args: P.args, **kwargs: P.kwargs) -> R:
            if (error := supervisor.block_error) is not None and not self.is_kept:
                # If no call was in progress when the wind-down began, the next one ends the block.
                is_next = not self._is_told and not is_download
                self._is_told |= is_next
                if is_next or supervisor.is_ending:
                    raise error
            # A call is always a task.
            task = cast("asyncio.Task[Any]", asyncio.current_task())

            def stop(_: object) -> None:
                if supervisor.block_error is not None and not self.is_kept:
                    task.cancel()

            self._in_progress[task] = is_download
            # The lease of a pool's pod does not call `_end_calls`.
            supervisor.task.add_done_callback(stop)
            try:
                return await function(*args, **kwargs)
            except (asyncio.CancelledError, PrimePodsError) as exc:
                is_gone = supervisor.is_ending and not self.is_kept
                is_cut = is_gone or isinstance(exc, asyncio.CancelledError)
                if supervisor.block_error is None or not is_cut:
                    raise
                # A lost connection is a consequence of the budget: the pod is being deleted.
                raise supervisor.block_error from (exc if isinstance(exc, PrimePodsError) else None)
            finally:
                supervisor.task.remove_done_callback(stop)
                del self._in_progress[task]

        return self._portal.call(within_budget, *args, **kwargs)


class Lease:
    """A context manager that rents a pod and deletes it; made by ``pods.lease``, and used once.

    The ``with`` block gets a :class:`LeasedPod` that is ready. At the end of the block, the pod is deleted
    and confirmed terminated, unless it is kept. If the release fails, the block raises a
    :class:`~primepods.NotReleasedError`, or the exception that ended the block gets a note.
    """

    def __init__(self, portal: Portal, lease: AsyncLease, on_change: OnChange | None) -> None:
        if on_change is not None:
            check_callable("on_change", on_change)
        self._portal = portal
        self._lease = lease
        self._on_change = on_change

    def __enter__(self) -> LeasedPod:
        supervisor = self._lease.supervisor
        # Check this outside of `try`: the error handling would end the block that already uses the lease.
        supervisor.check_unused()
        try:
            _portals[supervisor] = self._portal
            self._portal.call(supervisor.begin, on_change=in_calling_thread(self._on_change))
            check_ready(supervisor)
            pod = LeasedPod(supervisor, self._portal)
            supervisor.end_block = pod._end_calls  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - of this module
        except BaseException as exc:
            # Prevent the order, if the loop's thread has not sent it yet.
            supervisor.is_ending = True
            _release({supervisor: self._portal})
            add_notes(exc, supervisor)
            _portals.pop(supervisor, None)
            raise
        else:
            return pod

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        supervisor = self._lease.supervisor
        interrupted: BaseException | None = None
        try:
            if not supervisor.has_begun_in_this_process:
                # A forked child leaves the pod to its parent.
                return
            if LOOPS.runs_here():
                # The block is in a generator that is garbage-collected in a loop's thread: do not wait there.
                # Only the end of the client, or of the process, waits for the release.
                def end() -> None:
                    supervisor.task.add_done_callback(lambda _: _portals.pop(supervisor, None))
                    supervisor.end()

                if supervisor.is_open:
                    self._portal.loop().call_soon(end)
                return
            interrupted = _release({supervisor: self._portal})
        except PrimePodsError:
            raise
        except BaseException as again:  # noqa: BLE001 - Ctrl-C outside the `try` of `_release`
            interrupted = _release({supervisor: self._portal}, is_hurried=True) or again
        _portals.pop(supervisor, None)
        error = interrupted or (None if exc else exit_error(supervisor))
        add_notes(error or exc, supervisor)
        if error is not None:
            raise error from None


def release_leases(portal: Portal | None = None) -> None:
    """Release the open leases of one client, or of all clients, even if their blocks still run."""
    # A copy, since other threads may lease pods meanwhile.
    leases = {lease: owner for lease, owner in list(_portals.items()) if portal is None or owner is portal}
    interrupted = _release(leases)
    if interrupted is not None:
        raise interrupted


# This runs before the exit handler of `_loop`, which was registered earlier and ends the loops.
atexit.register(release_leases)


def _release(leases: Mapping[LeaseSupervisor, Portal], *, is_hurried: bool = False) -> BaseException | None:
    """Release leases together; return the interruption that hurried the releases, if any.

    Raises:
        PrimePodsError: The loop of a client has ended, and with it the releases of its leases.
    """
    interrupted: BaseException | None = None
    failed: dict[Portal, PrimePodsError] = {}
    waits, hurries = False, is_hurried
    for _ in range(_MAX_PASSES):
        try:
            left = {lease: owner for lease, owner in leases.items() if lease.is_open and owner not in failed}
            if not left:
                break
            for portal in dict.fromkeys(left.values()):
                supervisors = [lease for lease, owner in left.items() if owner is portal]
                try:
                    portal.call(_end_all, supervisors, waits=waits, is_hurried=hurries)
                except PrimePodsError as exc:
                    failed[portal] = exc
            # Wait only after the releases of all clients have started.
            waits, hurries = True, False
        except BaseException as exc:  # noqa: BLE001 - Ctrl-C, or the exception of a signal handler
            interrupted, waits, hurries = exc, False, True
    if interrupted is None and failed:
        raise next(iter(failed.values()))
    return interrupted


async def _end_all(supervisors: Sequence[LeaseSupervisor], *, waits: bool, is_hurried: bool) -> None:
    for supervisor in supervisors:
        if is_hurried:
            supervisor.interrupt()
        else:
            supervisor.end()
    if waits:
        await asyncio.wait({supervisor.task for supervisor in supervisors})
