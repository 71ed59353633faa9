"""The blocking client: every call of the asynchronous one, run to its end. Delegates and nothing else.

What stands here about a method is the short form of what :mod:`primepods.client` and
:mod:`primepods.resources` say.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from ._blocking import Portal, Streams
from ._blocking_lease import Lease, release_leases
from ._http.request import Params
from ._utils.secret import Secret
from ._utils.text import quote
from .client import AsyncClient
from .config import DEFAULT_DEADLINE, DEFAULT_MAX_CONCURRENCY, DEFAULT_TIMEOUT
from .keys import SSHKey
from .leasing import LeaseOptions, Sweep
from .models import HistoryRecord, Page, Pod, PodChange, PodRef, PodState, PodStatus
from .offers import DiskOffer, Offer
from .pagination import AsyncPager
from .resources.availability import AsyncAvailability
from .resources.pods import AsyncPods, SortBy, SortOrder
from .resources.ssh_keys import AsyncSSHKeys
from .results import Deletions, PodStatuses
from .retry import RetryPolicy
from .specs import PodSpec
from .waiting import AsyncWatch, Until, ready

if TYPE_CHECKING:
    import aiohttp

P = ParamSpec("P")
T = TypeVar("T")

OnChange = Callable[[PodChange], object]


def _run_through(items: Iterable[T]) -> Iterable[T]:
    """Return the items as a list, made in the caller's thread: an iterable may be lazy, and call the client.

    What is of the wrong type is left to the call, which says so.
    """
    value: Any = items
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        return list(items)
    return items


class Pager(Generic[T]):
    """A list, read page by page as it is iterated. Each iteration reads it anew.

    ``for item in pager`` yields each item once; ``pager.pages()`` yields the same items as :class:`Page`
    objects. As with :class:`~primepods.AsyncPager`, an iteration that ends normally is complete; one that was
    interrupted goes on where it was, and one that has failed raises the same error again. Leaving the loop
    early leaks nothing; ``with pager:`` makes it prompt.
    """

    def __init__(self, portal: Portal, pager: AsyncPager[T]) -> None:
        self._pager = pager
        self._streams = Streams(portal)

    def __iter__(self) -> Iterator[T]:
        return self._streams.iterate(self._pager.pages(), in_batches=True)

    def pages(self) -> Iterator[Page[T]]:
        """Return an iterator over the same items page by page; the pages' sizes vary."""
        return self._streams.iterate(self._pager.pages())

    def close(self) -> None:
        """End all iterations of this pager and free their requests.

        Those that had not come to their end raise :class:`~primepods.ClientClosedError` from then on, also
        where another thread is waiting for their next item.
        """
        self._streams.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._pager).replace("Async", "", 1)


class Watch:
    """The changes of some pods, as they are seen: ``for change in client.pods.watch(ids)``.

    Yields a :class:`PodChange` for each pod's first state, then for each change; a consumer that is slow gets
    each pod's newest state. Ends when all pods are gone. Each iteration is a new watch; one that was
    interrupted goes on where it was. Leaving it early leaks nothing, ``with`` makes it prompt.
    """

    def __init__(self, portal: Portal, watch: AsyncWatch) -> None:
        self._watch = watch
        self._streams = Streams(portal)

    def __iter__(self) -> Iterator[PodChange]:
        return self._streams.iterate(aiter(self._watch))

    def close(self) -> None:
        """End all iterations of this watch.

        Those whose pods are not all gone raise :class:`~primepods.ClientClosedError` from then on, also where
        another thread is waiting for their next change.
        """
        self._streams.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._watch).replace("Async", "", 1)


class Pods:
    """``client.pods``: rent, list, look at and delete pods.

    Every method raises what its counterpart in :class:`~primepods.AsyncPods` raises.
    """

    def __init__(self, portal: Portal, pods: AsyncPods) -> None:
        self._portal = portal
        self._async = pods

    def page(self, *, offset: int = 0, limit: int = 100) -> Page[Pod]:
        """Return one page of the pods that are not terminated: ``GET /api/v1/pods/``.

        Args:
            offset: How many pods to skip.
            limit: How many to return at most, from 1 to 1,000.
        """
        return self._portal.call(self._async.page, offset=offset, limit=limit)

    def list(self, *, page_size: int = 100) -> Pager[Pod]:
        """Iterate all pods that are not terminated, each exactly once: ``for pod in pods.list()``.

        Args:
            page_size: Pods per request, from 1 to 1,000.
        """
        return Pager(self._portal, self._async.list(page_size=page_size))

    def get(self, pod_id: PodRef) -> Pod:
        """Return one pod: ``GET /api/v1/pods/{id}``.

        Args:
            pod_id: The pod's id, or the pod.

        Raises:
            NotFoundError: No such pod; a terminated one is in :meth:`history`.
        """
        return self._portal.call(self._async.get, pod_id)

    def status(self, pod_id: PodRef) -> PodStatus:
        """Return the status of one pod: ``GET /api/v1/pods/status``.

        Args:
            pod_id: The pod's id, or the pod.

        Raises:
            NotFoundError: The API has no row for it: it is terminated, or not visible yet.
        """
        return self._portal.call(self._async.status, pod_id)

    def statuses(self, pod_ids: Iterable[PodRef]) -> PodStatuses:
        """Return the status of any number of pods: ``GET /api/v1/pods/status``, 100 ids a request.

        Args:
            pod_ids: Ids, or pods; duplicates are asked for once.

        Returns:
            A mapping from id to status in the order asked, with ``.missing`` (ids without a row, which does
            not prove that they are gone) and ``.errors`` (ids that the API refuses, that make its answers
            fail, or whose row cannot be read: an error each, which proves nothing about the pod).
        """
        return self._portal.call(self._async.statuses, _run_through(pod_ids))

    def watch(
        self, pod_ids: Iterable[PodRef], *, interval: float = 5.0, timeout: float | None = None
    ) -> Watch:
        """Iterate the changes of some pods: ``for change in pods.watch(ids)``.

        Yields each pod's state first, then its changes; ``after`` is ``None`` when the pod is gone.

        Args:
            pod_ids: Ids, or pods; duplicates are watched once.
            interval: Seconds between two looks at a pod, from 0.05.
            timeout: Seconds after which iterating raises; ``None`` for never.

        Raises:
            WaitTimeoutError: While iterating: the time ran out before all pods were gone.
        """
        return Watch(self._portal, self._async.watch(pod_ids, interval=interval, timeout=timeout))

    def wait(  # noqa: PLR0913 - as AsyncPods.wait
        self,
        pod_ids: Iterable[PodRef],
        *,
        until: Until = ready,
        timeout: float = 1800.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
        appear_grace: float = 60.0,
        install_grace: float = 120.0,
    ) -> PodStatuses:
        """Wait until ``until`` has held once for every pod; by default, until all are ready.

        Waiting needs nothing but the ids: after a crash, wait again. Whatever a wait ends with, it
        deletes nothing: its pods go on, and are billed.

        Args:
            pod_ids: Ids, or pods; duplicates are waited for once.
            until: ``primepods.ready``, ``settled``, ``failed``, ``gone``, or a plain function of a status
                that returns a ``bool``; ``None`` stands for a pod that is gone. It runs in the client's own
                thread and must not call the client.
            timeout: Seconds for the whole wait.
            interval: Seconds between two looks at a pod, from 0.05.
            on_change: Called in the calling thread with each :class:`~primepods.PodChange`; what it raises
                ends this wait.
            appear_grace: Seconds for a pod that the API does not know (yet) to appear.
            install_grace: Seconds for a failed installation to recover, as it often does by itself.

        Returns:
            Each pod's status when it was done; pods that are gone are in ``.missing``.

        Raises:
            PodFailedError: A pod has failed, was stopped, or is on its way out or gone, while ``until`` does
                not hold (not with ``until=gone``).
            WaitTimeoutError: The time ran out; names the pods still pending, and what kept failing.
            NotFoundError: A pod never appeared (with ``until=gone`` that is success).
        """
        return self._portal.call(
            self._async.wait,
            _run_through(pod_ids),
            until=until,
            timeout=timeout,
            interval=interval,
            on_change=on_change,
            appear_grace=appear_grace,
            install_grace=install_grace,
        )

    def wait_ready(  # noqa: PLR0913 - as AsyncPods.wait_ready
        self,
        pod_id: PodRef,
        *,
        timeout: float = 1800.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
        appear_grace: float = 60.0,
        install_grace: float = 120.0,
    ) -> PodStatus:
        """Wait until one pod is ready, and return its status; see :meth:`wait`.

        Args:
            pod_id: The pod's id, or the pod.
            timeout: Seconds for the whole wait.
            interval: Seconds between two looks, from 0.05.
            on_change: Called in the calling thread with each :class:`~primepods.PodChange`.
            appear_grace: Seconds for a pod that the API does not know (yet) to appear.
            install_grace: Seconds for a failed installation to recover.

        Raises:
            PodFailedError: The pod has failed, was stopped, or is on its way out or gone. Until it is
                deleted it may be billed.
            WaitTimeoutError: The time ran out: the pod goes on, and is billed.
            NotFoundError: The pod never appeared.
        """
        return self._portal.call(
            self._async.wait_ready,
            pod_id,
            timeout=timeout,
            interval=interval,
            on_change=on_change,
            appear_grace=appear_grace,
            install_grace=install_grace,
        )

    def wait_gone(
        self,
        pod_id: PodRef,
        *,
        timeout: float = 600.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
    ) -> None:
        """Wait until the API has no such pod any more; a pod that was never there is gone. See :meth:`wait`.

        Args:
            pod_id: The pod's id, or the pod.
            timeout: Seconds for the whole wait.
            interval: Seconds between two looks, from 0.05.
            on_change: Called in the calling thread with each :class:`~primepods.PodChange`.

        Raises:
            WaitTimeoutError: The time ran out: the pod is still there, and billed.
        """
        self._portal.call(
            self._async.wait_gone, pod_id, timeout=timeout, interval=interval, on_change=on_change
        )

    def create(self, spec: PodSpec) -> Pod:
        """Rent a pod: ``POST /api/v1/pods/``. It is billed from now on, until it is deleted.

        Returns at once, long before the pod is ready: see :meth:`wait_ready`. The order is never sent twice
        where the API may have received it. After a :class:`~primepods.CreateUncertainError`, or when the call
        is interrupted, a pod may be there that nobody else will delete: the error and the log name it.

        Args:
            spec: What to rent: ``PodSpec.from_offer(offer)``, or written by hand.

        Raises:
            CreateUncertainError: The pod may have been made, and has not appeared yet.
            SoldOutError: The machine is not to be had any more.
            PriceTooHighError: It costs more than ``spec.max_price``.
            PaymentRequiredError: The wallet has not enough funds.
            PermissionDeniedError: The key lacks the permission Instances: Read and Write.
        """
        return self._portal.call(self._async.create, spec)

    def lease(  # noqa: PLR0913 - all but the first have defaults
        self,
        spec: PodSpec,
        *,
        ready_timeout: float = 1800.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
        max_hours: float | None = None,
        max_spend: float | None = None,
        release_timeout: float = 600.0,
    ) -> Lease:
        """Rent a pod for a block: ``with pods.lease(spec) as pod``. It is deleted on every way out.

        The pod is created, waited for, and handed over ready. At the end of the block, after an exception, a
        time-out, a failed boot or Ctrl-C it is deleted and seen gone; ``close`` and the interpreter's exit do
        so for leases that are open. A Ctrl-C meanwhile waits until the deletion is accepted, and then at most
        10 s; a second one gives up. From before the order until the pod is gone there is a file in
        ``PRIMEPODS_STATE_DIR`` (default ``~/.primepods/leases``), by which :meth:`sweep` finds what a killed
        process has left. SIGTERM ends Python without leaving any block: have a handler call ``sys.exit``.

        Args:
            spec: What to rent.
            ready_timeout: Seconds for the pod to become ready.
            interval: Seconds between two looks at the pod, from 0.05.
            on_change: Called in this thread with each :class:`~primepods.PodChange` until it is ready.
            max_hours: Hours after the order at which the pod is deleted, and then
                :class:`~primepods.BudgetExceededError` raised in the block, as soon as a call that blocks its
                thread, such as ``time.sleep``, has ended.
            max_spend: The same by what it costs, at the price of the order.
            release_timeout: Seconds for the pod to be seen gone.

        Raises:
            ConfigError: The folder cannot be written. Nothing is rented.
            CreateUncertainError: The pod may have been made, and has not appeared yet. Its file stays.
            PodFailedError: It has failed to boot. It is deleted.
            WaitTimeoutError: It did not become ready in time. It is deleted.
            BudgetExceededError: ``max_hours`` or ``max_spend`` is reached. It is deleted.
            NotReleasedError: It could not be seen gone, and may be billed. While another exception is under
                way, that has a note instead.
        """
        options = LeaseOptions(
            ready_timeout=ready_timeout,
            interval=interval,
            max_hours=max_hours,
            max_spend=max_spend,
            release_timeout=release_timeout,
        )
        return Lease(self._portal, self._async.leases, spec, options, on_change)

    def sweep(
        self, *, prefix: str | None = None, older_than: float | None = None, dry_run: bool = False
    ) -> Sweep:
        """Delete what dead processes have left: pods with a lease file whose process lives no more.

        Never a pod whose process lives, nor one of another API or key. What processes of other hosts with the
        same home have left is taken only with ``older_than``.

        Args:
            prefix: Only pods whose names begin so; then also those without a file, whoever made them, which
                needs ``older_than``.
            older_than: Only pods ordered at least so many seconds ago.
            dry_run: Find, and delete nothing.

        Returns:
            ``.found``, ``.deleted`` (seen gone) and ``.errors`` (by pod id; they may still be billed).

        Raises:
            ValueError: ``prefix`` without ``older_than``, or empty.
        """
        return self._portal.call(self._async.sweep, prefix=prefix, older_than=older_than, dry_run=dry_run)

    def delete(self, pod_id: PodRef, *, missing_ok: bool = False) -> PodState:
        """Terminate one pod: ``DELETE /api/v1/pods/{id}``. Deleting goes on after the answer.

        Until the pod is gone, which can take minutes, it may be billed: see :meth:`wait_gone`.

        Only proof is a success; see :meth:`AsyncPods.delete <primepods.AsyncPods.delete>`.

        Args:
            pod_id: The pod's id, or the pod.
            missing_ok: Whether a pod that the API does not have counts as deleted.

        Returns:
            DELETING or TERMINATED: what the API shows; TERMINATED for a pod that it does not have, with
            ``missing_ok`` or after an attempt of this call that may have deleted it.

        Raises:
            NotFoundError: No such pod, without ``missing_ok``.
            ProtocolError: The API goes on showing the pod. It may still be billed.
        """
        return self._portal.call(self._async.delete, pod_id, missing_ok=missing_ok)

    def delete_many(self, pod_ids: Iterable[PodRef], *, missing_ok: bool = False) -> Deletions:
        """Terminate many pods concurrently, whatever becomes of each.

        Args:
            pod_ids: Ids, or pods; duplicates are deleted once.
            missing_ok: Whether pods that the API does not have count as deleted.

        Returns:
            A mapping from id to the state that the API answered, with ``.errors`` for the pods that were not
            deleted and ``.raise_for_errors()``.
        """
        return self._portal.call(self._async.delete_many, _run_through(pod_ids), missing_ok=missing_ok)

    def history_page(
        self,
        *,
        offset: int = 0,
        limit: int = 100,
        sort_by: SortBy = "terminatedAt",
        sort_order: SortOrder = "desc",
    ) -> Page[HistoryRecord]:
        """Return one page of what was rented: ``GET /api/v1/pods/history``.

        Args:
            offset: How many records to skip.
            limit: How many to return at most, from 1 to 1,000.
            sort_by: ``"terminatedAt"`` or ``"createdAt"``.
            sort_order: ``"desc"`` or ``"asc"``.
        """
        return self._portal.call(
            self._async.history_page, offset=offset, limit=limit, sort_by=sort_by, sort_order=sort_order
        )

    def history(
        self, *, page_size: int = 100, sort_by: SortBy = "terminatedAt", sort_order: SortOrder = "desc"
    ) -> Pager[HistoryRecord]:
        """Iterate the whole history, each record exactly once, as :meth:`list` does for pods.

        Args:
            page_size: Records per request, from 1 to 1,000.
            sort_by: ``"terminatedAt"`` or ``"createdAt"``.
            sort_order: ``"desc"`` or ``"asc"``.
        """
        pager = self._async.history(page_size=page_size, sort_by=sort_by, sort_order=sort_order)
        return Pager(self._portal, pager)

    def logs(self, pod_id: PodRef, *, tail: int | None = 100) -> str:
        """Return the end of a pod's log: ``GET /api/v1/pods/{id}/log``.

        Args:
            pod_id: The pod's id, or the pod.
            tail: How many entries, from 1; ``None`` leaves it to the API.

        Returns:
            Text, whatever JSON the API wraps it in. It is the pod's own output: it may hold anything.

        Raises:
            NotFoundError: No such pod.
        """
        return self._portal.call(self._async.logs, pod_id, tail=tail)


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
        base_url: Address of the API; a trailing ``/api/v1`` is dropped. Environment: ``PRIME_API_BASE_URL``
            or ``PRIME_BASE_URL``. Plain ``http`` is accepted for loopback only.
        team_id: The team to act for. Environment: ``PRIME_TEAM_ID``.
        context: A context that the official command has saved; its key, address and team are used instead of
            the environment's. Environment: ``PRIME_CONTEXT``, which leaves the other variables in force.
        timeout: Seconds for one attempt; connecting has 10 s of its own.
        deadline: Seconds for one call with all its retries; for an iterator, for each page.
        max_concurrency: Requests in flight from this client, whatever the number of threads.
        retry: When and how often to try again.
        user_agent: Put before ours in the ``User-Agent`` header.
        session: A function that makes an ``aiohttp.ClientSession``: called in the client's event loop at
            first use (once more by the poller of waits), closed with the client. Connector, proxy, CA and
            tracing are then yours.

    Raises:
        ConfigError: No key, or a key, URL, file or variable that cannot be used.
        ValueError: A number out of range.
        TypeError: An argument of the wrong type.
    """

    pods: Pods
    availability: Availability
    ssh_keys: SSHKeys

    def __init__(  # noqa: PLR0913 - one parameter a setting
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        team_id: str | None = None,
        context: str | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        deadline: float = DEFAULT_DEADLINE,
        max_concurrency: int = DEFAULT_MAX_CONCURRENCY,
        retry: RetryPolicy = RetryPolicy(),  # noqa: B008 - frozen
        user_agent: str | None = None,
        session: Callable[[], aiohttp.ClientSession] | None = None,
    ) -> None:
        # As in AsyncClient.
        api_key = Secret(api_key) if isinstance(api_key, str) else api_key
        if session is not None and not callable(session):
            raise TypeError(
                "session of the blocking client must be a function that makes an aiohttp.ClientSession in "
                f"its event loop, such as `lambda: aiohttp.ClientSession(...)`; got {quote(session)}"
            )
        client = AsyncClient(
            api_key,
            base_url=base_url,
            team_id=team_id,
            context=context,
            timeout=timeout,
            deadline=deadline,
            max_concurrency=max_concurrency,
            retry=retry,
            user_agent=user_agent,
            session=session,
        )
        self._assemble(client, Portal(client.aclose), owner=True)

    def _assemble(self, client: AsyncClient, portal: Portal, *, owner: bool) -> None:
        self._async = client
        self._portal = portal
        self._owner = owner
        self.pods = Pods(portal, client.pods)
        self.availability = Availability(portal, client.availability)
        self.ssh_keys = SSHKeys(portal, client.ssh_keys)

    def with_options(
        self, *, timeout: float | None = None, deadline: float | None = None, retry: RetryPolicy | None = None
    ) -> Self:
        """Return a view on the same connections with other timeouts or retries.

        What is ``None`` stays as it is. Closing a view closes nothing; closing the client ends its views.

        Args:
            timeout: Seconds for one attempt.
            deadline: Seconds for one call with all its retries.
            retry: When and how often to try again.
        """
        view = object.__new__(type(self))
        changed = self._async.with_options(timeout=timeout, deadline=deadline, retry=retry)
        view._assemble(changed, self._portal, owner=False)
        return view

    def request(self, method: str, path: str, *, params: Params | None = None, json: Any = None) -> Any:
        """Call any endpoint of the API, with this client's key, retries and errors.

        A POST, PUT or PATCH whose answer was lost may have been carried out, and is not repeated: to rent a
        pod use ``pods.create``, which finds out.

        Args:
            method: ``GET``, ``POST``, ``PUT``, ``PATCH``, ``DELETE``, ``HEAD`` or ``OPTIONS``.
            path: From the host on, such as ``/api/v1/ssh_keys/``.
            params: Query parameters; lists are repeated, ``None`` is left out.
            json: Body.

        Returns:
            The decoded JSON of the answer, or ``None`` for an empty one.

        Raises:
            NotFoundError: Also for a DELETE whose answer was lost and whose repetition finds nothing: its
                ``maybe_acted`` says so.
        """
        return self._portal.call(self._async.request, method, path, params=params, json=json)

    def close(self) -> None:
        """Release open leases, then close the connections and end the client's thread.

        Further calls raise :class:`~primepods.ClientClosedError`.
        """
        if self._owner:
            release_leases(self._portal)
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


class Availability:
    """``client.availability``: the offers of GPUs, clusters and disks. Asking costs nothing.

    Every method raises what its counterpart in :class:`~primepods.AsyncAvailability` raises.
    """

    def __init__(self, portal: Portal, availability: AsyncAvailability) -> None:
        self._portal = portal
        self._async = availability

    def gpus(  # noqa: PLR0913 - as AsyncAvailability.gpus
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = 100,
    ) -> Pager[Offer]:
        """Iterate the offers of single machines: ``GET /api/v1/availability/gpus``.

        Args:
            gpu_type: Such as ``H100_80GB``; ``CPU_NODE`` for machines without GPUs.
            gpu_count: GPUs of the machine.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            page_size: Offers per request, from 1 to 100.
        """
        pager = self._async.gpus(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions,
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            page_size=page_size,
        )
        return Pager(self._portal, pager)

    def multi_node(  # noqa: PLR0913 - as AsyncAvailability.multi_node
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = 100,
    ) -> Pager[Offer]:
        """Iterate the offers of clusters: ``GET /api/v1/availability/multi-node``.

        Args:
            gpu_type: Such as ``H100_80GB``.
            gpu_count: GPUs of all nodes.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            page_size: Offers per request, from 1 to 100.
        """
        pager = self._async.multi_node(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions,
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            page_size=page_size,
        )
        return Pager(self._portal, pager)

    def disks(
        self,
        *,
        regions: Iterable[str] | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = 100,
    ) -> Pager[DiskOffer]:
        """Iterate the offers of disks: ``GET /api/v1/availability/disks``.

        Args:
            regions: Such as ``["united_states", "eu_north"]``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            page_size: Offers per request, from 1 to 100.
        """
        pager = self._async.disks(
            regions=regions, data_center_id=data_center_id, cloud_id=cloud_id, page_size=page_size
        )
        return Pager(self._portal, pager)

    def cheapest(  # noqa: PLR0913 - as AsyncAvailability.cheapest
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = 100,
        spot: bool = False,
        max_price: float | None = None,
    ) -> Offer | None:
        """Return the cheapest offer of a machine or cluster that is to be had now; ``None`` if there is none.

        Left out are offers without a price, those that are charged for in advance, and, unless they are asked
        for, machines without GPUs and spot machines.

        Args:
            gpu_type: Such as ``H100_80GB``; ``CPU_NODE`` for machines without GPUs.
            gpu_count: GPUs in all.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            page_size: Offers per request, from 1 to 100.
            spot: Whether spot machines count, too, which the provider may take away at any time.
            max_price: The highest price per hour.
        """
        return self._portal.call(
            self._async.cheapest,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=None if regions is None else _run_through(regions),
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            page_size=page_size,
            spot=spot,
            max_price=max_price,
        )


class SSHKeys:
    """``client.ssh_keys``: the account's public SSH keys. They cost nothing.

    Every method raises what its counterpart in :class:`~primepods.AsyncSSHKeys` raises.
    """

    def __init__(self, portal: Portal, ssh_keys: AsyncSSHKeys) -> None:
        self._portal = portal
        self._async = ssh_keys

    def list(self, *, page_size: int = 100) -> Pager[SSHKey]:
        """Iterate all keys, each exactly once: ``GET /api/v1/ssh_keys/``.

        Args:
            page_size: Keys per request, from 1 to 1,000.
        """
        return Pager(self._portal, self._async.list(page_size=page_size))

    def add(self, name: str, public_key: str) -> SSHKey:
        """Add a public key: ``POST /api/v1/ssh_keys/``. One that is there already is returned as it is.

        Args:
            name: What to call it.
            public_key: One line as in ``id_ed25519.pub``. Keys are equal if they differ only in the comment.

        Raises:
            ValueError: That is no public key, or a private one, which is never sent.
        """
        return self._portal.call(self._async.add, name, public_key)

    def delete(self, key_id: str) -> None:
        """Delete a key: ``DELETE /api/v1/ssh_keys/{id}``.

        Args:
            key_id: The key's id.

        Raises:
            NotFoundError: No such key.
        """
        self._portal.call(self._async.delete, key_id)

    def set_primary(self, key_id: str) -> None:
        """Make a key the account's primary one: ``PATCH /api/v1/ssh_keys/{id}``.

        Args:
            key_id: The key's id.

        Raises:
            NotFoundError: No such key.
        """
        self._portal.call(self._async.set_primary, key_id)


def run_in_client(
    client: Client,
    function: Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]],
    *args: P.args,
    **kwargs: P.kwargs,
) -> T:
    """Return what a coroutine function makes of the asynchronous client within ``client``, in its event loop.

    For those of this package who have more than a line to do there. What is given as ``on_change`` is called
    in this thread.
    """
    # Not a method: the class has what AsyncClient has, and no more.
    portal, wrapped = client._portal, client._async  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - see above
    return portal.call(function, wrapped, *args, **kwargs)
