"""``wait`` and ``watch`` in a notebook, for both clients."""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextlib import closing
from types import TracebackType
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack, overload

from .._utils.arguments import check_ids, check_interval, check_seconds
from .._utils.pod_reference import PodReference
from .._utils.text import quote
from ..client import AsyncClient
from ..fleet import Fleet, follow
from ..models import Pod, PodRef
from ..results import PodStatuses
from ..sync import Client, in_calling_thread, run_in_client
from ..waiting.conditions import Until, ready
from ._display import Bundle, show
from ._page import bundle

T = TypeVar("T")
_log: Final = logging.getLogger("primepods")

Draw = Callable[[Bundle], Awaitable[object] | object]

_MIN_DRAW_INTERVAL: Final = 1.0
"""Seconds between two checks for changes."""
_MAX_DRAW_INTERVAL: Final = 10.0
"""Seconds after which an unchanged fleet is redrawn, since its cost grows."""


class WaitOptions(TypedDict, total=False):
    """Options of ``pods.wait``, except ``on_change``, which the view uses."""

    until: Until
    timeout: float
    interval: float
    appear_grace: float
    install_grace: float


@overload
def wait(
    client: AsyncClient, pods: Iterable[PodRef], **options: Unpack[WaitOptions]
) -> Coroutine[Any, Any, PodStatuses]: ...
@overload
def wait(client: Client, pods: Iterable[PodRef], **options: Unpack[WaitOptions]) -> PodStatuses: ...
def wait(
    client: AsyncClient | Client, pods: Iterable[PodRef], **options: Unpack[WaitOptions]
) -> Coroutine[Any, Any, PodStatuses] | PodStatuses:
    """Wait like ``client.pods.wait``, and show the pods' progress.

    Args:
        client: Either client; with an :class:`~primepods.AsyncClient`, await the call.
        pods: Pods, or ids. Names and GPUs are shown only for a :class:`~primepods.Pod`.
        **options: ``until``, ``timeout``, ``interval``, ``appear_grace`` and ``install_grace`` of
            ``pods.wait``.

    Returns:
        The result of ``pods.wait``.

    Raises:
        ModuleNotFoundError: The extra ``notebook`` is not installed.
        PrimePodsError: Any error of ``pods.wait``; the last state stays visible.
    """
    # `list` would split a single id into its letters; `check_ids` raises an error for it.
    refs = pods if isinstance(pods, str | bytes | PodReference) else list(pods)
    ids = check_ids(refs)
    fleet = Fleet(ids)
    fleet.expect(ref for ref in refs if isinstance(ref, Pod))
    until = options.get("until", ready)
    condition = getattr(until, "__name__", "")
    if not condition.isidentifier():
        # It is a lambda, for example.
        condition = "done"
    view = _View(fleet, f"Waiting for {_count_text(ids)} until {condition}")
    return _run(client, view, lambda client: client.pods.wait(ids, on_change=fleet.add, **options))


@overload
def watch(
    client: AsyncClient,
    pods: Iterable[PodRef] | None = None,
    *,
    wanted: Callable[[Pod], bool] | None = None,
    interval: float = 5.0,
    duration: float | None = None,
) -> Coroutine[Any, Any, Fleet]: ...
@overload
def watch(
    client: Client,
    pods: Iterable[PodRef] | None = None,
    *,
    wanted: Callable[[Pod], bool] | None = None,
    interval: float = 5.0,
    duration: float | None = None,
) -> Fleet: ...
def watch(
    client: AsyncClient | Client,
    pods: Iterable[PodRef] | None = None,
    *,
    wanted: Callable[[Pod], bool] | None = None,
    interval: float = 5.0,
    duration: float | None = None,
) -> Coroutine[Any, Any, Fleet] | Fleet:
    """Show pods live: the given pods until all are gone, or all pods of the account, including new ones.

    The watch of an account does not end by itself: interrupt the cell, cancel the task or set ``duration``.

    Args:
        client: Either client; with an :class:`~primepods.AsyncClient`, await the call.
        pods: Pods, or ids; ``None`` for the whole account.
        wanted: Predicate that selects pods of the account; not used with ``pods``. With the blocking client,
            it runs in the client's thread and must not call the client.
        interval: Seconds between two polls of a pod, at least 0.05.
        duration: Seconds after which the watch ends; ``None`` for no limit.

    Returns:
        The :class:`~primepods.fleet.Fleet`, in its last state.

    Raises:
        ModuleNotFoundError: The extra ``notebook`` is not installed.
        PrimePodsError: Any error of :func:`primepods.fleet.follow`; the last state stays visible.
    """
    check_interval(interval)
    if duration is not None:
        check_seconds("duration", duration)
    ids = None if pods is None else check_ids(pods)
    view = _View(Fleet(ids or ()), "Watching all pods" if ids is None else f"Watching {_count_text(ids)}")

    async def follow_fleet(client: AsyncClient) -> Fleet:
        timeout = asyncio.timeout(duration)
        try:
            async with timeout:
                await follow(client, view.fleet, ids, wanted=wanted, interval=interval)
        except TimeoutError:
            if not timeout.expired():
                raise
        return view.fleet

    return _run(client, view, follow_fleet)


def _count_text(ids: list[str]) -> str:
    return "1 pod" if len(ids) == 1 else f"{len(ids):,} pods"


def _run(
    client: AsyncClient | Client, view: _View, work: Callable[[AsyncClient], Coroutine[Any, Any, T]]
) -> Coroutine[Any, Any, T] | T:
    """Run work in the view, or return the coroutine that does."""
    if isinstance(client, Client):
        with view:
            return run_in_client(client, _redrawing, view, work, draw=in_calling_thread(view.draw))
    return _run_in_view(view, _redrawing(client, view, work, draw=view.draw))


async def _run_in_view(view: _View, work: Coroutine[Any, Any, T]) -> T:
    # Close `work`, since it is never awaited if the view cannot be shown.
    with closing(work), view:
        return await work


async def _redrawing(
    client: AsyncClient, view: _View, work: Callable[[AsyncClient], Coroutine[Any, Any, T]], *, draw: Draw
) -> T:
    """Redraw the view while the work runs; return the result of the work."""
    task = asyncio.create_task(_redraw(view, draw))
    try:
        return await work(client)
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _redraw(view: _View, draw: Draw) -> None:
    drawn_version = -1
    draw_at = 0.0
    has_failed = False
    while True:
        await asyncio.sleep(_MIN_DRAW_INTERVAL)
        now = time.monotonic()
        if view.fleet.version != drawn_version or now >= draw_at:
            drawn_version = view.fleet.version
            draw_at = now + _MAX_DRAW_INTERVAL
            try:
                drawing = draw(view.render())
                if inspect.isawaitable(drawing):
                    await drawing
            except Exception as exc:  # noqa: BLE001 - the notebook's display may raise anything
                if not has_failed:
                    _log.warning("The view cannot be redrawn: %s", quote(exc))
                has_failed = True


class _View:
    """The output of a cell.

    While the blocking client runs a call, the client's thread updates the fleet and calls :meth:`render`; the
    cell's thread calls only :meth:`draw`.
    """

    def __init__(self, fleet: Fleet, heading: str) -> None:
        self.fleet = fleet
        self._heading = heading
        self._started_at = time.monotonic()
        self._update: Callable[[Bundle], object] | None = None

    def render(self, outcome: str = "") -> Bundle:
        """Return the current page; ``outcome`` is text before the duration, such as "interrupted after ".

        While a thread updates the fleet, only that thread may call this.
        """
        minutes, seconds = divmod(int(time.monotonic() - self._started_at), 60)
        return bundle(self.fleet, f"{self._heading} · {outcome}{minutes}:{seconds:02}")

    def draw(self, page: Bundle) -> None:
        if self._update is not None:
            self._update(page)

    def __enter__(self) -> Self:
        self._update = show(self.render())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None:
            outcome = "ended after "
        elif issubclass(kind, Exception):
            outcome = f"{kind.__name__} after "
        else:
            outcome = "interrupted after "
        try:
            self.draw(self.render(outcome))
        except Exception as error:  # noqa: BLE001 - it must not replace the call's result or error
            _log.warning("The view cannot be redrawn: %s", quote(error))
