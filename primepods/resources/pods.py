"""Pods: the API's calls for them, and the waits, leases and sweeps that use these calls.

API reference: https://docs.primeintellect.ai/api-reference/managing-pods
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Literal, Unpack, get_args

import attrs

from .._decoding.pods import decode_log, decode_pod
from .._http.executor import RequestExecutor
from .._http.request import PODS, Request, item_path, item_request
from .._http.response import missing_row_error
from .._operations import as_operation
from .._status_reader import StatusReader
from .._utils.arguments import (
    check_amount,
    check_callable,
    check_count,
    check_flag,
    check_ids,
    check_interval,
    check_pod_id,
    check_seconds,
    check_string,
    id_of,
)
from .._utils.text import quote
from .._utils.unique_names import is_unique
from ..config import resolve_watchdog_key
from ..errors import LoginError, PrimePodsError
from ..models import HistoryRecord, Node, Page, Pod, PodRef, PodState, PodStatus
from ..pagination import AsyncPager
from ..results import Deletions, PodStatuses
from ..waiting.conditions import Until, gone, ready
from ..waiting.connection import PollerConnection
from ._deletion import Deleter
from ._filters import pod_filter, record_filter
from ._paging import PAGE_SIZE, list_pager, listed_pods, read_page

if TYPE_CHECKING:
    from ..leasing.lease import AsyncLease, AsyncLeasedPod
    from ..leasing.open_leases import OpenLeases
    from ..leasing.pods_api import ListedPod, TeamClient
    from ..leasing.pool import AsyncPool, LeaseArguments, PoolProgress
    from ..leasing.sweep_results import Sweep
    from ..remote import AsyncRemote, Watchdog
    from ..specs import PodSpec
    from ..waiting.wait import OnChange
    from ..waiting.watch import AsyncWatch
    from ._creation import PodCreator

SortBy = Literal["terminatedAt", "createdAt"]
SortOrder = Literal["asc", "desc"]

_PATH: Final = f"{PODS}/"
_HISTORY_PATH: Final = f"{PODS}/history"


class AsyncPods:
    """``client.pods``: rent, list, inspect and delete pods.

    Any request may also raise :class:`~primepods.AuthenticationError`,
    :class:`~primepods.PermissionDeniedError`, :class:`~primepods.RateLimitError`,
    :class:`~primepods.ServerError` and other subclasses of :class:`~primepods.APIError`;
    :class:`~primepods.TransportError` and :class:`~primepods.RequestTimeoutError` if there is no complete
    response; :class:`~primepods.ProtocolError` for an invalid response; and
    :class:`~primepods.ClientClosedError`. Invalid arguments raise ``ValueError`` or ``TypeError``.
    """

    def __init__(self, executor: RequestExecutor, poller: PollerConnection, open_leases: OpenLeases) -> None:
        self._executor = executor
        self._poller = poller
        self._statuses = StatusReader(executor)
        self._deleter = Deleter(executor, self._statuses)
        self._open_leases = open_leases

    def _creator_for(self, spec: PodSpec) -> PodCreator:
        """Return the creator of pods for the spec's team, or else for the client's."""
        from ._creation import PodCreator, check_spec

        return PodCreator(*self._for_team(check_spec(spec).team_id))

    def _for_team(self, team_id: str | None, min_deadline: float = 0.0) -> tuple[RequestExecutor, AsyncPods]:
        """Return the executor and the pods of a team.

        Args:
            team_id: The team; ``None`` for the client's.
            min_deadline: Min deadline of calls of the returned pods, in seconds. With a shorter one, many
                deletions under a rate limit could time out before they are confirmed.
        """
        settings = self._executor.settings
        if team_id is not None:
            settings = attrs.evolve(settings, team_id=team_id)
        executor = self._executor.with_settings(settings)
        poller = PollerConnection(settings, executor.transport.given_session, self._poller)
        patient = attrs.evolve(settings, deadline=max(settings.deadline, min_deadline))
        return executor, AsyncPods(executor.with_settings(patient), poller, self._open_leases)

    def _team_client(self, team_id: str | None, min_deadline: float = 0.0) -> TeamClient:
        """Return the client of leases and sweeps of a team; by default, of the client's team."""
        from ..leasing.pods_api import TeamClient
        from ._creation import PodCreator
        from .account import check_watchdog_key
        from .disks import describe_disks

        executor, pods = self._for_team(team_id, min_deadline)
        creator = PodCreator(executor, pods)
        return TeamClient(
            pods=pods,
            listed=partial(listed_pods, executor),
            allow=creator.limit.allow,
            check_watchdog_key=partial(check_watchdog_key, executor),
            order=creator.order,
            settings=executor.settings,
            server_clock=self._executor.transport.server_clock,
            shared_list=self._open_leases.shared_list,
            describe_disks=partial(describe_disks, executor),
        )

    def _listed(self) -> AsyncPager[ListedPod]:
        """Iterate over all pods. If only id and name of a row are readable, it is a ``BareRow``."""
        return listed_pods(self._executor)

    def remote(
        self,
        pod_id: PodRef,
        *,
        node: int = 0,
        login_timeout: float = 300.0,
        ssh_options: Sequence[str] = (),
        ssh_command: str = "ssh",
    ) -> AsyncRemote:
        """Return a client for commands and file copies on a pod, through the system's ``ssh``.

        It sends nothing until its first call. Your ssh configuration, keys and agent apply; a host key is
        trusted at the first login, stored under the pod's id, and must not change after that.

        Args:
            pod_id: The pod's id, or the pod.
            node: Number of the node of a multi-node pod; 0 is the first that has an address.
            login_timeout: Seconds to retry the login: a pod that is ready may refuse logins at first.
            ssh_options: Options of ``ssh``, such as ``["-i", "key.pem"]``; they override most defaults.
            ssh_command: Command and arguments to run as ``ssh``; ``"ssh"`` stands for
                ``PRIMEPODS_SSH_COMMAND``, if it is set.
        """
        from ..remote import AsyncRemote, SSHOptions

        options = SSHOptions(login_timeout=login_timeout, ssh_options=ssh_options, ssh_command=ssh_command)
        pod_id = check_pod_id(pod_id)
        check_count("node", node, minimum=0)
        # 0 is also the default, which means the first node that has an address.
        return AsyncRemote(pod_id, partial(self._find_nodes, pod_id), options, node or None)

    async def _find_nodes(self, pod_id: str) -> tuple[Node, ...]:
        """Return the nodes of a pod.

        Raises:
            LoginError: The pod has no address (yet).
        """
        # The response of `status` may lack the address.
        pod = await self.get(pod_id)
        if pod.ssh is None:
            raise LoginError(
                f"The pod has no address to log in to: {pod}. Wait until the pod is ready, with "
                "pods.wait_ready or `primepods wait`.",
                pod_id=pod_id,
                said="",
            )
        return pod.nodes

    @as_operation("pods.page")
    async def page(self, *, offset: int = 0, limit: int = 100) -> Page[Pod]:
        """Return one page of the pods that are not terminated: ``GET /api/v1/pods/``.

        Args:
            offset: Number of pods to skip.
            limit: Maximum number to return, from 1 to 1,000.
        """
        return await read_page(self._executor, _PATH, Pod, offset, limit)

    def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | Iterable[str] | None = None,
        gpu_type: str | Iterable[str] | None = None,
        page_size: int = PAGE_SIZE,
    ) -> AsyncPager[Pod]:
        """Iterate over all pods that are not terminated, each exactly once.

        Sends nothing until iterated; for its guarantees while pods come and go see
        :class:`~primepods.AsyncPager`. The API does not filter pods: the client reads all pages, and filters
        them as they arrive.

        Args:
            status: One or more states, such as ``"ACTIVE"``, in upper or lower case.
            name: One or more names; ``*`` and ``?`` are wildcards.
            gpu_type: One or more GPUs, as in ``availability.find``.
            page_size: Pods per request, from 1 to 1,000.
        """
        keep = pod_filter(status=status, name=name, gpu_type=gpu_type)
        return list_pager(self._executor, _PATH, Pod, page_size, name="pods.list", keep=keep)

    @as_operation("pods.get")
    async def get(self, pod_id: PodRef) -> Pod:
        """Return one pod: ``GET /api/v1/pods/{id}``.

        Args:
            pod_id: The pod's id, or the pod.

        Raises:
            NotFoundError: No such pod; a terminated one is in :meth:`history`.
        """
        pod_id = id_of(pod_id)
        return await self._executor.call(item_request("GET", pod_id), partial(decode_pod, pod_id=pod_id))

    @as_operation("pods.status")
    async def status(self, pod_id: PodRef) -> PodStatus:
        """Return the status of one pod: ``GET /api/v1/pods/status``.

        Calls made in the same iteration of the client's event loop share requests.

        Args:
            pod_id: The pod's id, or the pod.

        Raises:
            NotFoundError: The API returned no row: the pod is terminated, not visible yet, or never existed.
        """
        pod_id = check_pod_id(pod_id)
        row = await self._statuses.read_one(pod_id)
        if row is None:
            raise missing_row_error(pod_id)
        return row

    @as_operation("pods.statuses")
    async def statuses(self, pod_ids: Iterable[PodRef]) -> PodStatuses:
        """Return the statuses of any number of pods: ``GET /api/v1/pods/status``, up to 100 ids per request.

        The requests run concurrently, within the client's ``max_concurrency``.

        Args:
            pod_ids: Ids, or pods; duplicates are requested once.

        Returns:
            A mapping from id to status, in the requested order. ``.missing`` has the ids without a row; the
            pods may exist. ``.errors`` has errors by id: the id may make requests fail, its row is
            unreadable, or its request was not sent. They prove nothing about the pods.
        """
        ids = check_ids(pod_ids)
        response = await self._statuses.read(ids)
        rows, errors = response.rows, response.errors
        return PodStatuses(
            {pod_id: rows[pod_id] for pod_id in ids if pod_id in rows},
            missing=tuple(pod_id for pod_id in ids if pod_id not in rows and pod_id not in errors),
            errors={pod_id: errors[pod_id] for pod_id in ids if pod_id in errors},
        )

    def watch(
        self, pod_ids: Iterable[PodRef], *, interval: float = 5.0, timeout: float | None = None
    ) -> AsyncWatch:
        """Iterate over the changes of pods as they happen.

        Yields a :class:`~primepods.PodChange` with each pod's state, then one for each change that polling
        shows; a slow consumer gets only the newest state. ``after`` is ``None`` when the pod is gone, or has
        not appeared for a minute. Ends when this holds for all pods. In one event loop, watches and waits
        with equal settings share one poller.

        Args:
            pod_ids: Ids, or pods; duplicates are watched once.
            interval: Seconds between two polls of a pod, at least 0.05.
            timeout: Seconds after which the iteration raises; ``None`` for never.

        Raises:
            WaitTimeoutError: The time ran out before all pods were gone (raised while iterating).
        """
        from ..waiting.watch import AsyncWatch

        check_interval(interval)
        if timeout is not None:
            check_seconds("timeout", timeout)
        return AsyncWatch(self._poller, check_ids(pod_ids), interval=interval, timeout=timeout)

    @as_operation("pods.wait")
    async def wait(
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

        In one event loop, waits with equal settings share one poller, so that hundreds of waits for one pod
        each cost about as much as one wait for hundreds. Waiting needs only the ids: after a crash, wait
        again. A wait deletes no pod, however it ends, so the pods may still be billed.

        Transient errors do not end a wait; they are logged (WARNING, about once a minute). If the API
        refuses a request, for example because of the key, the request is repeated after two seconds; a second
        refusal ends the wait. After a 429, polling pauses for the time that the API asks for, at most five
        minutes, and for a random time after that.

        Args:
            pod_ids: Ids, or pods; duplicates are waited for once.
            until: ``primepods.ready``, ``settled``, ``failed``, ``gone``, or a plain function that takes a
                status (``None`` if the pod is gone) and returns a ``bool``. It runs in the client's event
                loop (with ``Client``, in another thread), so it must not call the client.
            timeout: Seconds for the whole wait.
            interval: Seconds between two polls of a pod, at least 0.05.
            on_change: Callback for each :class:`~primepods.PodChange`, plain or async; with ``Client``,
                plain, and called in the calling thread. An exception that it raises ends this wait.
            appear_grace: Seconds before a pod that the API has never shown counts as gone.
            install_grace: Seconds for a failed installation to recover, because the platform may retry it.

        Returns:
            Each pod's status when ``until`` held; pods that are gone are in ``.missing``.

        Raises:
            PodFailedError: ``until`` does not hold for a pod that has failed, was stopped, is being deleted,
                or is gone. Never raised with ``until=gone``.
            WaitTimeoutError: The time ran out; the message names the pending pods and the errors.
            NotFoundError: A pod never appeared, and ``until`` does not hold for ``None``.
        """
        from ..waiting.wait import Wait

        check_interval(interval)
        check_seconds("timeout", timeout)
        check_seconds("appear_grace", appear_grace, minimum=0.0)
        check_seconds("install_grace", install_grace, minimum=0.0)
        if on_change is not None:
            check_callable("on_change", on_change)
        wait = Wait(
            connection=self._poller,
            pod_ids=check_ids(pod_ids),
            until=until,
            timeout=timeout,
            interval=interval,
            on_change=on_change,
            appear_grace=appear_grace,
            install_grace=install_grace,
        )
        return await wait.run()

    async def wait_ready(
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
            interval: Seconds between two polls, at least 0.05.
            on_change: Callback for each :class:`~primepods.PodChange`; see :meth:`wait`.
            appear_grace: Seconds before a pod that the API has never shown counts as gone.
            install_grace: Seconds for a failed installation to recover.

        Raises:
            PodFailedError: The pod has failed, was stopped, is being deleted, or is gone. It may be billed
                until it is deleted.
            WaitTimeoutError: The time ran out: the pod may be running, and billed.
            NotFoundError: The pod never appeared.
        """
        pod_id = check_pod_id(pod_id)
        statuses = await self.wait(
            [pod_id],
            timeout=timeout,
            interval=interval,
            on_change=on_change,
            appear_grace=appear_grace,
            install_grace=install_grace,
        )
        return statuses[pod_id]

    async def wait_gone(
        self,
        pod_id: PodRef,
        *,
        timeout: float = 600.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
    ) -> None:
        """Wait until the pod no longer exists; a pod that never existed counts as gone. See :meth:`wait`.

        Args:
            pod_id: The pod's id, or the pod.
            timeout: Seconds for the whole wait.
            interval: Seconds between two polls, at least 0.05.
            on_change: Callback for each :class:`~primepods.PodChange`; see :meth:`wait`.

        Raises:
            WaitTimeoutError: The time ran out: the pod may still exist, and be billed.
        """
        pod_id = check_pod_id(pod_id)
        await self.wait([pod_id], until=gone, timeout=timeout, interval=interval, on_change=on_change)

    @as_operation("pods.create")
    async def create(self, spec: PodSpec, *, max_hours: float | None = None) -> Pod:
        """Rent a pod: ``POST /api/v1/pods/``. It is billed until it is deleted.

        Does not wait until the pod is ready: see :meth:`wait_ready`. The order is sent again only
        if the API received nothing, or after a 429. If no response proves the outcome, the client
        searches for the pod by name, for up to 20 seconds. Without ``spec.name``, the name is unique. Other
        pods may have a name that you choose, so the client lists all pods before the order, and its search
        accepts only a single new pod of that name that is in no lease file.

        After a :class:`~primepods.CreateUncertainError`, or an interruption of the call, a pod may exist that
        you have to delete. The log has the pod's name in both cases. The error has the name, too, and in
        ``.candidates`` the ids of pods that may be the ordered one. Any other error of this package means
        that no pod was created.

        Args:
            spec: The pod to rent: ``PodSpec.from_offer(offer)``, or written by hand.
            max_hours: Hours after which nothing needs the pod. The pod's name gets a unique suffix with that
                time. The pod is not deleted automatically, but ``sweep(expired=True)`` can delete it.

        Raises:
            CreateUncertainError: It is unknown whether the pod was created, or a gateway repeated the order.
            BudgetExceededError: The pod could exceed ``PRIMEPODS_MAX_HOURLY``. Nothing is ordered.
            SoldOutError: The machine is no longer available.
            PriceTooHighError: The pod costs more than ``spec.max_price``.
            PaymentRequiredError: The wallet does not have enough funds.
            PermissionDeniedError: The key may lack the permission Instances (Read and Write).
            ProtocolError: ``max_hours`` is given, and the server's time cannot be confirmed, for example
                because this machine's clock is over four hours wrong. Nothing is ordered.
        """
        return await self._creator_for(spec).create(spec, max_hours)

    @as_operation("pods.ensure")
    async def ensure(self, spec: PodSpec, *, max_hours: float | None = None) -> Pod:
        """Return the pod with the spec's name; if there is none, rent it.

        Use it for orders that may be repeated, for example when a job is retried. Only the name identifies
        the pod: choose one that nobody else uses. A pod that was stopped, has failed or is being deleted does
        not count. If several pods have exactly this name, the oldest is returned. Concurrent calls can each
        rent a pod, in one process or in several.

        Args:
            spec: The pod to rent; it must have a name.
            max_hours: Hours after which nothing needs a pod that this call rents; see :meth:`create`. Until
                then, later calls find the pod although its name has a suffix.

        Raises:
            ValueError: The spec has no name.
            ProtocolError: A listed pod may be the wanted one: its row is unreadable, or the server may have
                changed its name. Or ``max_hours`` is given, and the server's time cannot be confirmed.
                Nothing is rented.
            CreateUncertainError: The pod may have been created: call ``ensure`` again. For other errors see
                :meth:`create`.
        """
        return await self._creator_for(spec).ensure(spec, max_hours)

    def lease(
        self,
        spec: PodSpec | Pod | Iterable[PodSpec],
        *,
        login: bool = False,
        login_timeout: float = 300.0,
        check: str | Sequence[str] | None = None,
        check_timeout: float = 120.0,
        ssh_options: Sequence[str] = (),
        ssh_command: str = "ssh",
        ready_timeout: float = 1800.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
        max_hours: float | None = None,
        max_spend: float | None = None,
        wind_down: float = 60.0,
        release_timeout: float = 600.0,
        watchdog: Watchdog | None = None,
    ) -> AsyncLease:
        """Return a context manager that rents a pod for its block, and then deletes the pod.

        The block begins when the pod is ready. At the end of the block, after an exception, a cancellation, a
        timeout, a failed boot or Ctrl-C, the pod is deleted and confirmed terminated, unless ``keep`` was
        called. Closing the client, or with ``Client`` the interpreter's exit, ends open leases in this way.
        If Ctrl-C or a cancellation interrupts the release of a pod, the release waits until the deletion is
        accepted, and then at most 10 s; a second interruption ends it. A random suffix of the pod's name
        identifies the pod. From before the order until the pod is terminated there is a file in
        ``PRIMEPODS_STATE_DIR`` (default ``~/.primepods/leases``), with which :meth:`sweep` finds the pods of
        a killed process. SIGTERM ends blocks only under :func:`primepods.exit_on_sigterm`.

        Args:
            spec: The pod to rent, or several specs in order of preference. The next spec is tried when a
                machine is sold out or costs more than ``max_price`` or ``PRIMEPODS_MAX_HOURLY`` allows, when
                a pod fails to become ready, refuses logins or fails its check, or when an order got no
                conclusive response.
                The pod of the failed spec is deleted first, or when it appears; the last error has the
                earlier ones as notes. Two pods that accept none of your keys end the lease. Or a pod of an
                earlier lease that was kept, or whose process has ended, on any machine: it is adopted.
            login: Whether a ready pod must also have accepted an ``ssh`` login.
            login_timeout: Seconds to retry the login; see :meth:`remote`.
            check: Command that must succeed on each node of a ready pod, such as
                :data:`primepods.GPU_CHECK`; implies ``login``. If it fails, so does the pod, and the last
                line of its standard error is the reason. It may run again after a lost connection. Its
                variable ``PRIMEPODS_GPU_COUNT`` is the node's number of ordered GPUs.
            check_timeout: Seconds for ``check``.
            ssh_options: Options of ``ssh``; see :meth:`remote`.
            ssh_command: Command and arguments to run as ``ssh``.
            ready_timeout: Seconds for a pod to become ready. An order that the rate limit refuses is repeated
                for the same time.
            interval: Seconds between two polls of the pod, at least 0.05.
            on_change: Callback for each :class:`~primepods.PodChange` until the pod is ready; see
                :meth:`wait`.
            max_hours: Hours from the first order until the deletion of the pod begins, at the latest,
                including this machine's sleep. The block is ended ``wind_down`` seconds before, and raises
                :class:`~primepods.BudgetExceededError`.
            max_spend: Max cost of all pods of the lease, computed with the highest prices seen. Reaching it
                has the same effects.
            wind_down: Seconds for the block to save its work before a limit, at most a tenth of the limit.
                When they begin, the task of the block is cancelled. With ``Client``, calls on the pod
                except downloads end and raise the error; if there is none, the next call does. What
                ``except`` and ``finally`` then do with the pod works until the limit; later calls raise an
                error. With 0, the block is ended when the pod is deleted.
            release_timeout: Seconds to confirm that the pod is terminated.
            watchdog: Process on the pod that deletes it while no machine of yours is awake; needs ``login``
                and a limit. If the pod goes so before the lease ends, the block ends as at a limit, with a
                :class:`~primepods.PodFailedError`. ``keep`` ends the watchdog.

        Raises:
            ConfigError: The folder of lease files cannot be written, or the watchdog has no usable key.
                Nothing is rented, or the pod is deleted.
            CreateUncertainError: It is unknown whether the pod was created. The lease file stays.
            PodFailedError: The pod has failed to boot, or its check has failed. It is deleted.
            WaitTimeoutError: The pod did not become ready in time. It is deleted.
            LoginError: ``ssh`` could not log in to the pod in time. It is deleted.
            BudgetExceededError: ``max_hours``, ``max_spend`` or ``PRIMEPODS_MAX_HOURLY`` is reached. The pod
                is deleted, or not ordered.
            ProtocolError: ``max_hours`` is given, and the server's time is unknown (nothing is rented); or
                the response to the order had the id of another pod.
            NotReleasedError: The pod may be running, and billed. If the block has raised an exception, that
                exception gets a note instead.
        """
        from ..leasing.lease import AsyncLease
        from ..leasing.pods_api import LeaseOptions
        from ..leasing.supervisor import LeaseSupervisor, resumed_spec
        from ..remote import SSHOptions, Watchdog, check_work
        from ._creation import check_specs

        check_flag("login", login)
        if check is not None:
            try:
                check_work(check)
            except (TypeError, ValueError) as exc:
                raise type(exc)(f"check must be a command: {exc}") from None
        check_seconds("check_timeout", check_timeout)
        check_seconds("ready_timeout", ready_timeout)
        check_seconds("release_timeout", release_timeout)
        check_interval(interval)
        for name, limit in (("max_hours", max_hours), ("max_spend", max_spend)):
            if limit is not None:
                check_amount(name, limit, "number of hours" if name == "max_hours" else "amount of money")
        if on_change is not None:
            check_callable("on_change", on_change)
        if watchdog is not None:
            if not isinstance(watchdog, Watchdog):
                raise TypeError(f"watchdog must be a Watchdog, got {quote(watchdog)}")
            if not (login or check is not None):
                raise ValueError(f"watchdog must have login=True beside it, got {quote(watchdog)}")
            if max_hours is None and max_spend is None:
                raise ValueError("watchdog needs a limit: max_hours or max_spend")
            key = resolve_watchdog_key(watchdog.api_key, self._executor.settings.api_key)
            watchdog = attrs.evolve(watchdog, api_key=key)
        options = LeaseOptions(
            ready_timeout=ready_timeout,
            interval=interval,
            max_hours=max_hours,
            max_spend=max_spend,
            wind_down=check_seconds("wind_down", wind_down, minimum=0),
            release_timeout=release_timeout,
            login=login or check is not None,
            check=check,
            check_timeout=check_timeout,
            watchdog=watchdog,
            ssh=SSHOptions(login_timeout=login_timeout, ssh_options=ssh_options, ssh_command=ssh_command),
        )
        adopted = spec if isinstance(spec, Pod) else None
        if adopted is not None and not is_unique(adopted.name or ""):
            raise ValueError(f"the name {adopted.name!r} of pod {adopted.id} is not that of a leased pod")
        specs = [resumed_spec(spec)] if isinstance(spec, Pod) else check_specs(spec)
        orders = [(self._team_client(order.team_id, release_timeout), order) for order in specs]
        supervisor = LeaseSupervisor(orders, options, self._open_leases.add)
        if adopted is not None:
            supervisor.adopt(adopted)
        return AsyncLease(supervisor, on_change)

    def pool(
        self,
        spec: PodSpec | Iterable[PodSpec],
        *,
        size: int = 4,
        setup: Callable[[AsyncLeasedPod], Awaitable[object]] | None = None,
        retries: int = 1,
        on_progress: Callable[[PoolProgress], object] | None = None,
        **options: Unpack[LeaseArguments],
    ) -> AsyncPool:
        """Return a context manager for many pieces of work on a few pods, which are rented by need.

        ``pool.map(work, items)`` yields a :class:`~primepods.PoolResult` for each item, as they come. A pod
        is used again for the next item, and replaced when it is lost; then its item is tried again on another
        one. At the end of the block all pods are deleted and confirmed gone, as those of :meth:`lease`.

        Args:
            spec: The pod to rent, or several specs in order of preference, as for :meth:`lease`.
            size: Max number of pods at a time.
            setup: Function of a new pod, called before its first item, for uploads and installations; with
                ``AsyncClient`` an async function. Its failure ends the work, or only the use of the pod
                once it has succeeded on another.
            retries: How often an item is tried again if its pod is lost.
            on_progress: Callback for each :class:`~primepods.PoolProgress`, a plain function that
                runs in the client's event loop, so it must be quick. Only its first exception is logged, and
                the work goes on.
            options: The arguments of :meth:`lease`. ``max_hours`` and ``max_spend`` limit all pods of the
                pool together.

        Raises:
            NotReleasedError: At the end of the block, a pod may be running, and billed. Several are a
                :class:`~primepods.PrimePodsErrorGroup`. If the block has raised an exception, that exception
                gets notes instead.
        """
        from ..leasing.lease import AsyncLeasedPod
        from ..leasing.loss import LOSS_CHECK_FACTOR
        from ..leasing.pool import AsyncPool, PoolSupervisor
        from ._creation import check_specs

        check_count("size", size, minimum=1, maximum=None)
        check_count("retries", retries, minimum=0, maximum=None)
        specs = check_specs(spec)
        first = self.lease(specs, **options)  # raises if an argument is invalid
        interval = first.supervisor.options.interval * LOSS_CHECK_FACTOR
        supervisor = PoolSupervisor(
            partial(self.lease, specs, **options),
            lambda pod_id: self.watch([pod_id], interval=interval),
            size=size,
            retries=retries,
            clock=self._executor.settings.clock,
        )
        if setup is not None:
            check_callable("setup", setup)
            supervisor.setup = lambda lease: setup(AsyncLeasedPod(lease))
        if on_progress is not None:
            from .._operations.operation import plain_callback

            supervisor.on_progress = plain_callback("on_progress", on_progress)
        return AsyncPool(supervisor)

    @as_operation("pods.sweep")
    async def sweep(
        self,
        *,
        prefix: str | None = None,
        older_than: float | None = None,
        expired: bool = False,
        only: Sweep | None = None,
        dry_run: bool = False,
    ) -> Sweep:
        """Delete pods that dead processes have left; by default, those with a lease file.

        Deletes no pod of another API or key. If the process of a lease file still runs, its pod is deleted
        only if the process has given it up, for example after a failed deletion. A process on another host
        with the same home directory cannot be checked; it counts as ended with ``older_than`` or ``expired``.

        Args:
            prefix: Only pods whose names begin with this, including pods without a lease file. With a prefix,
                *you* assert that all these pods are yours and no longer needed. Requires ``expired`` or
                ``older_than``, which must be longer than any lease or job under that prefix lasts. A pod
                without a file is skipped if its name has an expiry that has not passed.
            older_than: Only pods ordered at least this many seconds ago, by the server's time.
            expired: Only pods, from any machine, that were rented with ``max_hours`` and whose names say that
                they expired at least a quarter of an hour ago, by the server's time. This includes pods that
                were kept.
            only: Only pods found by this earlier sweep, such as a dry run that a user has reviewed.
            dry_run: Only find pods; delete nothing.

        Returns:
            ``.found``, ``.deleted`` (confirmed), ``.errors`` (these pods may still be billed) and
            ``.skipped`` (pods left alone, with the reason); see :class:`~primepods.Sweep`.

        Raises:
            ValueError: ``prefix`` without ``older_than`` or ``expired``, or an empty ``prefix``.
            ConfigError: The folder of lease files cannot be read, and ``expired`` is false.
            ProtocolError: ``older_than`` or ``expired`` is given, and the server's time cannot be confirmed,
                for example because this machine's clock is over four hours wrong.
        """
        if prefix is not None:
            if not check_string("prefix", prefix):
                raise ValueError("prefix must not be empty: every name begins with ''")
            if older_than is None and not expired:
                raise ValueError(
                    "prefix needs older_than or expired, since a pod without a file may belong to a process "
                    "on another machine"
                )
        if older_than is not None:
            check_seconds("older_than", older_than, minimum=0.0)
        check_flag("expired", expired)
        check_flag("dry_run", dry_run)
        from ..leasing.sweep_results import Sweep
        from ..leasing.sweeper import Sweeper

        if not isinstance(only, Sweep | None):
            raise TypeError(f"only must be the Sweep that an earlier call returned, got {quote(only)}")
        pods = AsyncPods(self._executor.for_many(), self._poller, self._open_leases)
        team_client = pods._team_client(team_id=None)
        sweeper = Sweeper(
            client=team_client, prefix=prefix, older_than=older_than, expired=expired, only=only
        )
        return await sweeper.run(dry_run=dry_run)

    @as_operation("pods.delete")
    async def delete(self, pod_id: PodRef, *, missing_ok: bool = False) -> PodState:
        """Terminate one pod: ``DELETE /api/v1/pods/{id}``. The deletion continues after the response.

        Until the pod is gone, which can take minutes, it may be billed: see :meth:`wait_gone`.

        Success requires proof, such as a response with the pod's id and the status DELETING or TERMINATED. A
        404 alone does not suffice. While the API shows another status, the deletion is retried, as often as
        the client's :class:`~primepods.RetryPolicy` allows.

        Args:
            pod_id: The pod's id, or the pod.
            missing_ok: Whether a pod that does not exist counts as deleted.

        Returns:
            DELETING or TERMINATED; with ``missing_ok``, TERMINATED also for a pod that does not exist.

        Raises:
            NotFoundError: No such pod, without ``missing_ok``.
            ProtocolError: The API still shows the pod, or the pod is missing and its end is not confirmed. It
                may still be billed.
        """
        check_flag("missing_ok", missing_ok)
        return await self._deleter.delete(check_pod_id(pod_id), missing_ok=missing_ok)

    @as_operation("pods.delete_many")
    async def delete_many(self, pod_ids: Iterable[PodRef], *, missing_ok: bool = False) -> Deletions:
        """Terminate many pods concurrently; a failure does not stop the others.

        All ids are checked before the first request. After the client's ``deadline`` without a response,
        nothing more is sent; the other pods' errors say so.

        Args:
            pod_ids: Ids, or pods; duplicates are deleted once.
            missing_ok: Whether pods that do not exist count as deleted.

        Returns:
            A mapping from id to DELETING or TERMINATED (see :meth:`delete`), with ``.errors`` for the pods
            whose deletion is not confirmed, and ``.raise_for_errors()``.
        """
        ids = check_ids(pod_ids)
        check_flag("missing_ok", missing_ok)
        deleter = Deleter(self._executor.for_many(), self._statuses)
        outcomes = await deleter.delete_many(ids, missing_ok=missing_ok)
        return Deletions(
            {pod_id: state for pod_id, state in outcomes.items() if isinstance(state, PodState)},
            errors={pod_id: error for pod_id, error in outcomes.items() if isinstance(error, PrimePodsError)},
        )

    @as_operation("pods.history_page")
    async def history_page(
        self,
        *,
        offset: int = 0,
        limit: int = 100,
        sort_by: SortBy = "terminatedAt",
        sort_order: SortOrder = "desc",
    ) -> Page[HistoryRecord]:
        """Return one page of the rental history: ``GET /api/v1/pods/history``.

        Args:
            offset: Number of records to skip.
            limit: Maximum number to return, from 1 to 1,000.
            sort_by: ``"terminatedAt"`` or ``"createdAt"``.
            sort_order: ``"desc"`` or ``"asc"``.
        """
        _check_sorting(sort_by, sort_order)
        sorting = {"sort_by": sort_by, "sort_order": sort_order}
        return await read_page(self._executor, _HISTORY_PATH, HistoryRecord, offset, limit, **sorting)

    def history(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        kind: str | Iterable[str] | None = None,
        page_size: int = PAGE_SIZE,
        sort_by: SortBy = "terminatedAt",
        sort_order: SortOrder = "desc",
    ) -> AsyncPager[HistoryRecord]:
        """Iterate over the whole history, each record exactly once; see :meth:`list`.

        The API does not filter records: the client reads all pages, and filters them as they arrive.

        Args:
            since: Only records that ended at or after this time. A record without an end counts by its
                creation time.
            until: Only records that ended before this time.
            kind: One or more kinds, such as ``"instance"`` or ``"disk"``, in upper or lower case.
            page_size: Records per request, from 1 to 1,000.
            sort_by: ``"terminatedAt"`` or ``"createdAt"``.
            sort_order: ``"desc"`` or ``"asc"``.
        """
        _check_sorting(sort_by, sort_order)
        return list_pager(
            self._executor,
            _HISTORY_PATH,
            HistoryRecord,
            page_size,
            name="pods.history",
            keep=record_filter(since=since, until=until, kind=kind),
            sort_by=sort_by,
            sort_order=sort_order,
        )

    @as_operation("pods.logs")
    async def logs(self, pod_id: PodRef, *, tail: int | None = 100) -> str:
        """Return the end of a pod's log: ``GET /api/v1/pods/{id}/log``.

        Args:
            pod_id: The pod's id, or the pod.
            tail: Number of entries, at least 1; ``None`` for the API's default.

        Returns:
            The text, without the API's JSON around it. It is the pod's own output and may contain anything.

        Raises:
            NotFoundError: No such pod.
        """
        path = f"{item_path(id_of(pod_id))}/log"
        query = ""
        if tail is not None:
            query = f"tail={check_count('tail', tail, minimum=1)}"
        request = Request(method="GET", path=path, query=query, text_allowed=True, route=f"{PODS}/{{id}}/log")
        return await self._executor.call(request, decode_log)


def _check_sorting(sort_by: str, sort_order: str) -> None:
    for name, value, kind in (("sort_by", sort_by, SortBy), ("sort_order", sort_order, SortOrder)):
        if value not in (allowed := get_args(kind)):
            raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {quote(value)}")
