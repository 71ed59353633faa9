"""The blocking client: every call of the asynchronous one, run to its end. Delegates and nothing else.

What a method does, takes, returns and raises is written once, in :mod:`primepods.client` and
:mod:`primepods.resources`; the documentation is copied from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from functools import partial
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from ._http.request import Params
from ._portal import Portal, Stream
from ._utils.secret import Secret
from .client import AsyncClient
from .config import DEFAULT_DEADLINE, DEFAULT_MAX_CONCURRENCY, DEFAULT_TIMEOUT
from .models import HistoryRecord, Page, Pod, PodChange, PodState, PodStatus
from .pagination import AsyncPager
from .resources.pods import AsyncPods, SortBy, SortOrder
from .results import Deletions, PodStatuses
from .retry import RetryPolicy
from .specs import PodSpec
from .waiting import AsyncWatch, Until, ready

T = TypeVar("T")
C = TypeVar("C")

OnChange = Callable[[PodChange], object]


def _here(pod_ids: Iterable[str]) -> Iterable[str]:
    """Run through an iterable in the caller's thread: it may be lazy, and call the client."""
    return pod_ids if isinstance(pod_ids, Sized) or not isinstance(pod_ids, Iterable) else list(pod_ids)


def _documented(source: type) -> Callable[[type[C]], type[C]]:
    """Give each method the documentation of its counterpart."""

    def copy(target: type[C]) -> type[C]:
        for name, member in vars(target).items():
            twin = getattr(source, name, None) or getattr(source, f"a{name}", None)
            if callable(member) and member.__doc__ is None and twin is not None:
                member.__doc__ = twin.__doc__
        return target

    return copy


@_documented(AsyncPager)
class Pager(Generic[T]):
    """A listing, read page by page as it is iterated: ``for item in pager``. Each iteration is a new listing.

    The blocking side of :class:`~primepods.AsyncPager`: the same items, each exactly once, read lazily and
    ahead. Leaving the loop early stops the reading; ``with pager:`` makes that prompt.
    """

    def __init__(self, portal: Portal, pager: AsyncPager[T]) -> None:
        self._pager = pager
        self._stream: Stream[Page[T]] = Stream(portal)

    def __iter__(self) -> Iterator[T]:
        closings = self._stream.closings
        for page in self.pages():
            for item in page:
                if self._stream.closings != closings:
                    return
                yield item

    def pages(self) -> Iterator[Page[T]]:
        return self._stream.iterate(self._pager.pages)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._pager).replace("Async", "", 1)


@_documented(AsyncWatch)
class Watch:
    """The changes of some pods, as they are seen: ``for change in client.pods.watch(ids)``.

    The blocking side of :class:`~primepods.AsyncWatch`. Leaving the loop early ends it; ``with watch:``
    makes that prompt.
    """

    def __init__(self, portal: Portal, watch: AsyncWatch) -> None:
        self._watch = watch
        self._stream: Stream[PodChange] = Stream(portal)

    def __iter__(self) -> Iterator[PodChange]:
        return self._stream.iterate(self._watch.__aiter__)

    def close(self) -> None:
        self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._watch).replace("Async", "", 1)


@_documented(AsyncPods)
class Pods:
    """``client.pods``: list, look at, wait for and delete pods; see :class:`~primepods.AsyncPods`."""

    def __init__(self, portal: Portal, pods: AsyncPods) -> None:
        self._portal = portal
        self._async = pods

    def page(self, *, offset: int = 0, limit: int = 100) -> Page[Pod]:
        return self._portal.call(self._async.page, offset=offset, limit=limit)

    def list(self, *, page_size: int = 100) -> Pager[Pod]:
        return Pager(self._portal, self._async.list(page_size=page_size))

    def get(self, pod_id: str) -> Pod:
        return self._portal.call(self._async.get, pod_id)

    def status(self, pod_id: str) -> PodStatus:
        return self._portal.call(self._async.status, pod_id)

    def statuses(self, pod_ids: Iterable[str]) -> PodStatuses:
        return self._portal.call(self._async.statuses, _here(pod_ids))

    def watch(self, pod_ids: Iterable[str], *, interval: float = 5.0, timeout: float | None = None) -> Watch:
        return Watch(self._portal, self._async.watch(pod_ids, interval=interval, timeout=timeout))

    def wait(  # noqa: PLR0913 - as AsyncPods.wait
        self,
        pod_ids: Iterable[str],
        *,
        until: Until = ready,
        timeout: float = 1800.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
        appear_grace: float = 60.0,
        install_grace: float = 120.0,
    ) -> PodStatuses:
        call = partial(
            self._async.wait,
            _here(pod_ids),
            until=until,
            timeout=timeout,
            interval=interval,
            appear_grace=appear_grace,
            install_grace=install_grace,
        )
        return self._portal.call_back(call, on_change)

    def wait_ready(  # noqa: PLR0913 - as AsyncPods.wait_ready
        self,
        pod_id: str,
        *,
        timeout: float = 1800.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
        appear_grace: float = 60.0,
        install_grace: float = 120.0,
    ) -> PodStatus:
        call = partial(
            self._async.wait_ready,
            pod_id,
            timeout=timeout,
            interval=interval,
            appear_grace=appear_grace,
            install_grace=install_grace,
        )
        return self._portal.call_back(call, on_change)

    def wait_gone(
        self,
        pod_id: str,
        *,
        timeout: float = 600.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
    ) -> None:
        call = partial(self._async.wait_gone, pod_id, timeout=timeout, interval=interval)
        self._portal.call_back(call, on_change)

    def delete(self, pod_id: str, *, missing_ok: bool = False) -> PodState:
        return self._portal.call(self._async.delete, pod_id, missing_ok=missing_ok)

    def delete_many(self, pod_ids: Iterable[str], *, missing_ok: bool = False) -> Deletions:
        return self._portal.call(self._async.delete_many, _here(pod_ids), missing_ok=missing_ok)

    def history_page(
        self,
        *,
        offset: int = 0,
        limit: int = 100,
        sort_by: SortBy = "terminatedAt",
        sort_order: SortOrder = "desc",
    ) -> Page[HistoryRecord]:
        return self._portal.call(
            self._async.history_page, offset=offset, limit=limit, sort_by=sort_by, sort_order=sort_order
        )

    def history(
        self, *, page_size: int = 100, sort_by: SortBy = "terminatedAt", sort_order: SortOrder = "desc"
    ) -> Pager[HistoryRecord]:
        pager = self._async.history(page_size=page_size, sort_by=sort_by, sort_order=sort_order)
        return Pager(self._portal, pager)

    def logs(self, pod_id: str, *, tail: int | None = 100) -> str:
        return self._portal.call(self._async.logs, pod_id, tail=tail)

    def create(self, spec: PodSpec) -> Pod:
        return self._portal.call(self._async.create, spec)


@_documented(AsyncClient)
class Client:
    """A client of the Prime Intellect API for scripts, notebooks and threads: ``with primepods.Client() as
    client``.

    Does all that :class:`~primepods.AsyncClient` does, with the same names, in calls that block. Threads may
    share one; their calls run in parallel. The work is done by an event loop in a thread of its own, which
    starts at the first call and ends with ``close``, with ``with``, or with the interpreter. ``on_change``
    callbacks run in the calling thread; ``until`` runs in the client's and must not call it. Ctrl-C cancels
    the call and leaves the client usable. After a fork the child gets a loop and connections of its own.

    Args:
        api_key: The API key. Environment: ``PRIME_API_KEY``.
        base_url: Address of the API. Environment: ``PRIME_API_BASE_URL`` or ``PRIME_BASE_URL``.
        team_id: The team to act for. Environment: ``PRIME_TEAM_ID``.
        timeout: Seconds for one attempt; connecting has 10 s of its own.
        deadline: Seconds for one call with all its retries; for an iterator, for each page.
        max_concurrency: Requests in flight from this client, whatever the number of threads.
        retry: When and how often to try again.
        user_agent: Put before ours in the ``User-Agent`` header.

    Raises:
        ConfigError: No key, or a key, URL, file or variable that cannot be used.
        ValueError: A number out of range.
        TypeError: An argument of the wrong type.
    """

    pods: Pods

    def __init__(  # noqa: PLR0913 - one parameter a setting
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        team_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        user_agent: str | None = None,
    ) -> None:
        # As in AsyncClient.
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        client = AsyncClient(
            api_key,
            base_url=base_url,
            team_id=team_id,
            timeout=timeout,
            deadline=deadline,
            max_concurrency=max_concurrency,
            retry=retry,
            user_agent=user_agent,
        )
        self._assemble(client, Portal(client.aclose), owner=True)

    def _assemble(self, client: AsyncClient, portal: Portal, *, owner: bool) -> None:
        self._async = client
        self._portal = portal
        self._owner = owner
        self.pods = Pods(portal, client.pods)

    def with_options(
        self, *, timeout: float | None = None, deadline: float | None = None, retry: RetryPolicy | None = None
    ) -> Self:
        view = object.__new__(type(self))
        changed = self._async.with_options(timeout=timeout, deadline=deadline, retry=retry)
        view._assemble(changed, self._portal, owner=False)
        return view

    def request(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> Any:
        return self._portal.call(self._async.request, method, path, params=params, json=json)

    def close(self) -> None:
        if self._owner:
            self._portal.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if not hasattr(self, "_async"):
            return "<Client, not built>"
        text = repr(self._async).replace("Async", "", 1)
        # A client that was closed without having been used has had no loop to close the other one in.
        return text.replace(">", " closed>") if self._portal.closed and " closed" not in text else text

    def __reduce__(self) -> tuple[Any, ...]:
        return self._async.__reduce__()
