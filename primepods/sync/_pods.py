"""``client.pods``, blocking: delegates to the asynchronous one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from .._blocking import Lease, Portal, Remote, in_calling_thread
from ..leasing.sweep import Sweep
from ..models import HistoryRecord, Page, Pod, PodRef, PodState, PodStatus
from ..resources.pods import AsyncPods, SortBy, SortOrder
from ..results import Deletions, PodStatuses
from ..specs import PodSpec
from ..waiting import OnChange, Until, ready
from ._iterators import Pager, Watch, materialize


class Pods:
    """``client.pods``: rent, list, inspect and delete pods.

    Every method raises the same errors as its counterpart in :class:`~primepods.AsyncPods`.
    """

    def __init__(self, portal: Portal, pods: AsyncPods) -> None:
        self._portal = portal
        self._async = pods

    def remote(
        self,
        pod_id: PodRef,
        *,
        login_timeout: float = 300.0,
        ssh_options: Sequence[str] = (),
        ssh_command: str = "ssh",
    ) -> Remote:
        """Return a remote on which to run commands and copy files, through the system's ``ssh``.

        Sends nothing until it is used. Your ssh configuration, keys and agent apply; a host key is
        trusted at the first login, stored under the pod's id, and must not change after that.

        Args:
            pod_id: The pod's id, or the pod.
            login_timeout: Seconds to retry the login: a pod that is ready often refuses logins at first.
            ssh_options: Arguments for ``ssh``, such as ``["-i", "key.pem"]``; they override ours.
            ssh_command: Command and arguments to use instead of ``ssh``; for ``ssh``, those of the variable
                ``PRIMEPODS_SSH_COMMAND``, if it is set.
        """
        remote = self._async.remote(
            pod_id, login_timeout=login_timeout, ssh_options=ssh_options, ssh_command=ssh_command
        )
        return Remote(self._portal, remote)

    def page(self, *, offset: int = 0, limit: int = 100) -> Page[Pod]:
        """Return one page of the pods that are not terminated: ``GET /api/v1/pods/``.

        Args:
            offset: Number of pods to skip.
            limit: Maximum number to return, from 1 to 1,000.
        """
        return self._portal.call(self._async.page, offset=offset, limit=limit)

    def list(
        self,
        *,
        status: str | Iterable[str] | None = None,
        name: str | Iterable[str] | None = None,
        gpu_type: str | Iterable[str] | None = None,
        page_size: int = 100,
    ) -> Pager[Pod]:
        """Iterate all pods that are not terminated, each exactly once: ``for pod in pods.list()``.

        The API does not filter pods: the client reads all pages and filters each as it arrives.

        Args:
            status: Only pods in this state, or in any of several: ``"ACTIVE"``, upper or lower case.
            name: Only pods with this name or matching this pattern of ``*`` and ``?``; or any of several.
            gpu_type: Only pods with this GPU, written as in ``availability.find``; or any of several.
            page_size: Pods per request, from 1 to 1,000.
        """
        pager = self._async.list(status=status, name=name, gpu_type=gpu_type, page_size=page_size)
        return Pager(self._portal, pager)

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
            NotFoundError: The API returned no row: the pod is terminated, or not visible yet.
        """
        return self._portal.call(self._async.status, pod_id)

    def statuses(self, pod_ids: Iterable[PodRef]) -> PodStatuses:
        """Return the status of any number of pods: ``GET /api/v1/pods/status``, 100 ids a request.

        Args:
            pod_ids: Ids, or pods; duplicates are requested once.

        Returns:
            A mapping from id to status in the requested order, with ``.missing`` (ids without a row, which
            does not prove that they are gone) and ``.errors`` (one error for each id that the API refuses,
            that makes requests fail, or whose row is unreadable; it proves nothing about the pod).
        """
        return self._portal.call(self._async.statuses, materialize(pod_ids))

    def watch(
        self, pod_ids: Iterable[PodRef], *, interval: float = 5.0, timeout: float | None = None
    ) -> Watch:
        """Iterate the changes of pods: ``for change in pods.watch(ids)``.

        Yields each pod's state first, then its changes; ``after`` is ``None`` when the pod is gone.

        Args:
            pod_ids: Ids, or pods; duplicates are watched once.
            interval: Seconds between two polls of a pod, from 0.05.
            timeout: Seconds after which the iteration raises; ``None`` for never.

        Raises:
            WaitTimeoutError: While iterating: the time ran out before all pods were gone.
        """
        return Watch(self._portal, self._async.watch(pod_ids, interval=interval, timeout=timeout))

    def wait(
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

        Waiting needs only the ids: after a crash, wait again. A wait never deletes pods, however it ends:
        they keep running and are billed.

        Args:
            pod_ids: Ids, or pods; duplicates are waited for once.
            until: ``primepods.ready``, ``settled``, ``failed``, ``gone``, or a plain function that takes a
                status (``None`` if the pod is gone) and returns a ``bool``. It runs in the client's own
                thread and must not call the client.
            timeout: Seconds for the whole wait.
            interval: Seconds between two polls of a pod, from 0.05.
            on_change: Callback for each :class:`~primepods.PodChange`, in the calling thread; an exception
                that it raises ends this wait.
            appear_grace: Seconds for a pod that the API does not know (yet) to appear.
            install_grace: Seconds for a failed installation to recover, as it often does by itself.

        Returns:
            Each pod's status when ``until`` held; pods that are gone are in ``.missing``.

        Raises:
            PodFailedError: ``until`` can no longer hold for a pod: it has failed, was stopped, is being
                deleted, or is gone. Never raised with ``until=gone``.
            WaitTimeoutError: The time ran out; names the pods still pending and the errors.
            NotFoundError: A pod never appeared (a success with ``until=gone``).
        """
        return self._portal.call(
            self._async.wait,
            materialize(pod_ids),
            until=until,
            timeout=timeout,
            interval=interval,
            on_change=in_calling_thread(on_change),
            appear_grace=appear_grace,
            install_grace=install_grace,
        )

    def wait_ready(
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
            interval: Seconds between two polls, from 0.05.
            on_change: Called in the calling thread with each :class:`~primepods.PodChange`.
            appear_grace: Seconds for a pod that the API does not know (yet) to appear.
            install_grace: Seconds for a failed installation to recover.

        Raises:
            PodFailedError: The pod has failed, was stopped, or is being deleted or gone. Until it is
                deleted it may be billed.
            WaitTimeoutError: The time ran out: the pod keeps running and is billed.
            NotFoundError: The pod never appeared.
        """
        return self._portal.call(
            self._async.wait_ready,
            pod_id,
            timeout=timeout,
            interval=interval,
            on_change=in_calling_thread(on_change),
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
        """Wait until the pod no longer exists; a pod that never existed counts as gone. See :meth:`wait`.

        Args:
            pod_id: The pod's id, or the pod.
            timeout: Seconds for the whole wait.
            interval: Seconds between two polls, from 0.05.
            on_change: Called in the calling thread with each :class:`~primepods.PodChange`.

        Raises:
            WaitTimeoutError: The time ran out: the pod is still there, and billed.
        """
        self._portal.call(
            self._async.wait_gone,
            pod_id,
            timeout=timeout,
            interval=interval,
            on_change=in_calling_thread(on_change),
        )

    def create(self, spec: PodSpec, *, max_hours: float | None = None) -> Pod:
        """Rent a pod: ``POST /api/v1/pods/``. It is billed from now on, until it is deleted.

        Returns at once, long before the pod is ready: see :meth:`wait_ready`. The order is never sent twice
        if the API may have received it. After a :class:`~primepods.CreateUncertainError`, or an interruption
        of the call, a pod may exist that you have to delete: the error and the log name it.

        Args:
            spec: The pod to rent: ``PodSpec.from_offer(offer)``, or written by hand.
            max_hours: Hours after which nothing needs the pod. The pod's name gets a unique suffix with that
                time. After that time, ``sweep(expired=True)`` on any machine deletes the pod; nothing else
                does.

        Raises:
            CreateUncertainError: The pod may have been created, and has not appeared yet.
            SoldOutError: The machine is no longer available.
            PriceTooHighError: The pod costs more than ``spec.max_price``.
            PaymentRequiredError: The wallet does not have enough funds.
            PermissionDeniedError: The key lacks the permission Instances: Read and Write.
            ProtocolError: ``max_hours`` is given, and the server's time is unknown: no two responses agree on
                it, or they differ from this machine's clock by over four hours. Nothing is ordered.
        """
        return self._portal.call(self._async.create, spec, max_hours=max_hours)

    def ensure(self, spec: PodSpec) -> Pod:
        """Return the live pod with the spec's name; if there is none, rent it.

        For orders that may be repeated. Only the name identifies the pod: choose one that nobody else uses.
        Concurrent calls can each rent a pod.

        Args:
            spec: The pod to rent; it must have a name.

        Raises:
            ValueError: The spec has no name.
            ProtocolError: No such pod is listed, but an unreadable row may be it. Nothing is rented.
            CreateUncertainError: The pod may have been created: call ``ensure`` again. For all other errors,
                see :meth:`create`.
        """
        return self._portal.call(self._async.ensure, spec)

    def lease(
        self,
        spec: PodSpec | Iterable[PodSpec],
        *,
        login: bool = False,
        login_timeout: float = 300.0,
        ssh_options: Sequence[str] = (),
        ssh_command: str = "ssh",
        ready_timeout: float = 1800.0,
        interval: float = 5.0,
        on_change: OnChange | None = None,
        max_hours: float | None = None,
        max_spend: float | None = None,
        release_timeout: float = 600.0,
    ) -> Lease:
        """Rent a pod for a block: ``with pods.lease(spec) as pod``. It is deleted on every exit.

        The block begins when the pod is ready. At the end of the block, after an exception, a timeout, a
        failed boot or Ctrl-C, the pod is deleted and confirmed terminated; ``close`` and the interpreter's
        exit do the same for open leases. If Ctrl-C interrupts this release, it waits until the deletion is
        accepted, and then at most 10 s; a second Ctrl-C ends it. From before the order until the pod is
        terminated there is a file in ``PRIMEPODS_STATE_DIR`` (default ``~/.primepods/leases``), with which
        :meth:`sweep` finds the pods of a killed process. SIGTERM ends blocks only under
        :func:`primepods.exit_on_sigterm`.

        Args:
            spec: The pod to rent; or several specs in order of preference: the next spec is tried when one
                is sold out, costs more than its ``max_price``, fails to become ready, or refuses logins.
                The pod of the failed spec is deleted first; the last error has the earlier ones as notes.
                Two pods that accept none of your keys end the lease: another would not accept them either.
            login: Whether a ready pod must also have accepted an ``ssh`` login.
            login_timeout: Seconds for the login; this option and the next two are those of :meth:`remote`.
            ssh_options: Arguments for ``ssh``.
            ssh_command: Command and arguments to use instead of ``ssh``; for ``ssh``, those of the variable
                ``PRIMEPODS_SSH_COMMAND``, if it is set.
            ready_timeout: Seconds for the pod to become ready.
            interval: Seconds between two polls of the pod, from 0.05.
            on_change: Called in this thread with each :class:`~primepods.PodChange` until it is ready.
            max_hours: Hours from the order until the pod is deleted, including this machine's sleep.
                Commands and copies on the pod then end and raise :class:`~primepods.BudgetExceededError`; a
                block that does something else continues, and raises it at its end.
            max_spend: The same for the pod's cost, at the highest price seen.
            release_timeout: Seconds to confirm that the pod is terminated.

        Raises:
            ConfigError: The folder cannot be written. Nothing is rented.
            CreateUncertainError: The pod may have been created, and has not appeared yet. Its file stays.
            PodFailedError: The pod has failed to boot. It is deleted.
            WaitTimeoutError: The pod did not become ready in time. It is deleted.
            LoginError: ``ssh`` could not log in to the pod in time. It is deleted.
            BudgetExceededError: ``max_hours`` or ``max_spend`` is reached. The pod is deleted.
            NotReleasedError: The pod may be running, and billed. If another exception is
                being raised, that one gets a note instead.
        """
        lease = self._async.lease(
            spec,
            login=login,
            login_timeout=login_timeout,
            ssh_options=ssh_options,
            ssh_command=ssh_command,
            ready_timeout=ready_timeout,
            interval=interval,
            max_hours=max_hours,
            max_spend=max_spend,
            release_timeout=release_timeout,
        )
        return Lease(self._portal, lease, on_change)

    def sweep(
        self,
        *,
        prefix: str | None = None,
        older_than: float | None = None,
        expired: bool = False,
        only: Sweep | None = None,
        dry_run: bool = False,
    ) -> Sweep:
        """Delete pods that dead processes have left: those with a lease file whose process has ended.

        Never deletes a pod whose process is alive, or one of another API or key. If several
        hosts share a home directory, pods leased on another host are deleted only with ``older_than`` or
        ``expired``.

        Args:
            prefix: Only pods whose names begin with this, including pods without a lease file: with a prefix,
                *you* assert that all pods of such a name and age are yours and no longer needed. Requires
                ``expired``, or an ``older_than`` beyond the duration of any lease or job under that prefix.
                Excludes pods whose name says that their lease still lasts.
            older_than: Only pods ordered at least this many seconds ago, by the server's time.
            expired: Only pods, from any machine, whose leases had ``max_hours`` and whose names say that they
                expired at least a quarter of an hour ago, by the server's time.
            only: Only pods found by this earlier sweep, such as a dry run that a user has reviewed.
            dry_run: Only find pods; delete nothing.

        Returns:
            ``.found``, ``.deleted`` (confirmed), ``.errors`` (by pod id; these pods may still be billed) and
            ``.skipped`` (pods left alone, with the reason).

        Raises:
            ValueError: ``prefix`` without ``older_than`` or ``expired``, or an empty ``prefix``.
            ProtocolError: ``older_than`` or ``expired`` is given, and the server's time is unknown: no two
                responses agree on it, or they differ from this machine's clock by over four hours.
        """
        return self._portal.call(
            self._async.sweep,
            prefix=prefix,
            older_than=older_than,
            expired=expired,
            only=only,
            dry_run=dry_run,
        )

    def delete(self, pod_id: PodRef, *, missing_ok: bool = False) -> PodState:
        """Terminate one pod: ``DELETE /api/v1/pods/{id}``. The deletion continues after the response.

        Until the pod is gone, which can take minutes, it may be billed: see :meth:`wait_gone`.

        Returns only if the deletion is proved; see :meth:`AsyncPods.delete <primepods.AsyncPods.delete>`.

        Args:
            pod_id: The pod's id, or the pod.
            missing_ok: Whether a pod that does not exist counts as deleted.

        Returns:
            DELETING or TERMINATED, as the API shows it. TERMINATED also for a pod that does not exist, with
            ``missing_ok``, or if an earlier attempt of this call may have deleted it.

        Raises:
            NotFoundError: No such pod, without ``missing_ok``.
            ProtocolError: The API still shows the pod; or a response was lost, the pod is missing, and the
                history does not show that it has ended. It may still be billed.
        """
        return self._portal.call(self._async.delete, pod_id, missing_ok=missing_ok)

    def delete_many(self, pod_ids: Iterable[PodRef], *, missing_ok: bool = False) -> Deletions:
        """Terminate many pods concurrently; a failure does not stop the others.

        Args:
            pod_ids: Ids, or pods; duplicates are deleted once.
            missing_ok: Whether pods that do not exist count as deleted.

        Returns:
            A mapping from id to the state that the API returned, with ``.errors`` for the pods that were not
            deleted, and ``.raise_for_errors()``.
        """
        return self._portal.call(self._async.delete_many, materialize(pod_ids), missing_ok=missing_ok)

    def history_page(
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
        return self._portal.call(
            self._async.history_page, offset=offset, limit=limit, sort_by=sort_by, sort_order=sort_order
        )

    def history(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        kind: str | Iterable[str] | None = None,
        page_size: int = 100,
        sort_by: SortBy = "terminatedAt",
        sort_order: SortOrder = "desc",
    ) -> Pager[HistoryRecord]:
        """Iterate the whole history, each record exactly once, as :meth:`list` does for pods.

        The API does not filter records: the client reads all pages and filters each as it arrives.

        Args:
            since: Only records that ended at or after this time; unended ones count by their creation time.
            until: Only records that ended before this time.
            kind: Only this kind, or any of several: ``"instance"``, ``"cluster"``, ``"disk"``,
                upper or lower case.
            page_size: Records per request, from 1 to 1,000.
            sort_by: ``"terminatedAt"`` or ``"createdAt"``.
            sort_order: ``"desc"`` or ``"asc"``.
        """
        pager = self._async.history(
            since=since,
            until=until,
            kind=kind,
            page_size=page_size,
            sort_by=sort_by,
            sort_order=sort_order,
        )
        return Pager(self._portal, pager)

    def logs(self, pod_id: PodRef, *, tail: int | None = 100) -> str:
        """Return the end of a pod's log: ``GET /api/v1/pods/{id}/log``.

        Args:
            pod_id: The pod's id, or the pod.
            tail: Number of entries, from 1; ``None`` for the API's default.

        Returns:
            The text, without the API's JSON around it. It is the pod's own output and may contain anything.

        Raises:
            NotFoundError: No such pod.
        """
        return self._portal.call(self._async.logs, pod_id, tail=tail)
