"""``client.pods``, blocking: each call of the asynchronous one, in one line."""

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
from ._iterators import Pager, Watch, run_through


class Pods:
    """``client.pods``: rent, list, look at and delete pods.

    Every method raises what its counterpart in :class:`~primepods.AsyncPods` raises.
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
        """Return a pod to run commands on, and to copy files to and from, by the system's ``ssh``.

        Sends nothing until it is used. Your ssh configuration, keys and agent count; a host key is taken as
        it is at the first login, remembered under the pod's id, and must stay the same after that.

        Args:
            pod_id: The pod's id, or the pod.
            login_timeout: Seconds to try to log in: a pod that is ready often lets nobody in yet.
            ssh_options: Options of ``ssh``, a word each, such as ``["-i", "key.pem"]``; they win over ours.
            ssh_command: The words in the place of ``ssh``.
        """
        remote = self._async.remote(
            pod_id, login_timeout=login_timeout, ssh_options=ssh_options, ssh_command=ssh_command
        )
        return Remote(self._portal, remote)

    def page(self, *, offset: int = 0, limit: int = 100) -> Page[Pod]:
        """Return one page of the pods that are not terminated: ``GET /api/v1/pods/``.

        Args:
            offset: How many pods to skip.
            limit: How many to return at most, from 1 to 1,000.
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

        The API does not filter pods: all pages are read, and each is filtered here as it comes.

        Args:
            status: Only pods in this state, or one of these: ``"ACTIVE"``, in any case.
            name: Only pods of this name, or like this pattern of ``*`` and ``?``; or any of several.
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
        return self._portal.call(self._async.statuses, run_through(pod_ids))

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
            run_through(pod_ids),
            until=until,
            timeout=timeout,
            interval=interval,
            on_change=in_calling_thread(on_change),
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
            self._async.wait_gone,
            pod_id,
            timeout=timeout,
            interval=interval,
            on_change=in_calling_thread(on_change),
        )

    def create(self, spec: PodSpec) -> Pod:
        """Rent a pod: ``POST /api/v1/pods/``. It is billed from now on, until it is deleted.

        Returns at once, long before the pod is ready: see :meth:`wait_ready`. The order is never sent twice
        where the API may have received it. After a :class:`~primepods.CreateUncertainError`, or when the call
        is interrupted, a pod may be there that you have to delete: the error and the log name it.

        Args:
            spec: What to rent: ``PodSpec.from_offer(offer)``, or written by hand.

        Raises:
            CreateUncertainError: The pod may have been made, and has not appeared yet.
            SoldOutError: The machine is no longer available.
            PriceTooHighError: It costs more than ``spec.max_price``.
            PaymentRequiredError: The wallet has not enough funds.
            PermissionDeniedError: The key lacks the permission Instances: Read and Write.
        """
        return self._portal.call(self._async.create, spec)

    def ensure(self, spec: PodSpec) -> Pod:
        """Return the pod of exactly the spec's name that lives and has not failed, else rent it.

        For what is tried again, under a name that nobody else uses: it is all that says whose the pod is.

        Args:
            spec: What to rent; with a name.

        Raises:
            ValueError: The spec has no name.
            ProtocolError: No such pod is listed, but a row that cannot be read may be it. Nothing is rented.
            CreateUncertainError: As :meth:`create`, as all others; call this again.
        """
        return self._portal.call(self._async.ensure, spec)

    def lease(  # noqa: PLR0913 - all but the first have defaults
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
        """Rent a pod for a block: ``with pods.lease(spec) as pod``. It is deleted on every way out.

        The pod is created, waited for, and handed over ready. At the end of the block, after an exception, a
        time-out, a failed boot or Ctrl-C it is deleted and confirmed terminated; ``close`` and the
        interpreter's exit do so for leases that are open. A Ctrl-C meanwhile waits until the deletion is
        accepted, and then at most 10 s; a second one gives up. From before the order until the pod is
        terminated there is a file in ``PRIMEPODS_STATE_DIR`` (default ``~/.primepods/leases``), by which
        :meth:`sweep` finds what a killed process has left. SIGTERM leaves blocks only under
        :func:`primepods.exit_on_sigterm`.

        Args:
            spec: What to rent; or several specs, in the order of preference: the next one is tried when one
                is sold out, costs more than its ``max_price``, fails to become ready, or lets nobody log in.
                What was rented meanwhile is given back before that; the last error has the others as notes.
            login: Whether ready means that ``ssh`` has logged in to it, too.
            login_timeout: Seconds for that; see :meth:`remote`, as of the next two.
            ssh_options: Options of ``ssh``, a word each.
            ssh_command: The words in the place of ``ssh``.
            ready_timeout: Seconds for the pod to become ready.
            interval: Seconds between two looks at the pod, from 0.05.
            on_change: Called in this thread with each :class:`~primepods.PodChange` until it is ready.
            max_hours: Hours after the order, also those in which the machine sleeps, at which the pod is
                deleted. The block goes on, and raises :class:`~primepods.BudgetExceededError` at its end.
            max_spend: The same by what it costs, at the highest price that was seen.
            release_timeout: Seconds to confirm that the pod is terminated.

        Raises:
            ConfigError: The folder cannot be written. Nothing is rented.
            CreateUncertainError: The pod may have been made, and has not appeared yet. Its file stays.
            PodFailedError: It has failed to boot. It is deleted.
            WaitTimeoutError: It did not become ready in time. It is deleted.
            LoginError: ``ssh`` could not log in to it in time. It is deleted.
            BudgetExceededError: ``max_hours`` or ``max_spend`` is reached. It is deleted.
            NotReleasedError: It may be running, and billed. While another exception is under
                way, that has a note instead.
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
        """Delete what dead processes have left: pods with a lease file whose process lives no more.

        Never a pod whose process lives, nor one of another API or key. What processes of other hosts with the
        same home have left is taken only with ``older_than``.

        Args:
            prefix: Only pods whose names begin so; with it also those that no lease's file names, whoever
                made them, for which ``older_than`` must be given; none whose name says that its lease lasts.
            older_than: Only pods ordered at least so many seconds ago.
            expired: Only pods whose leases had ``max_hours`` and whose names say that nobody wants them any
                more, for a quarter of an hour, by the server's time; from any machine, and nothing else.
            only: Only pods that this earlier sweep has found: a dry run, which somebody has looked at.
            dry_run: Find, and delete nothing.

        Returns:
            ``.found``, ``.deleted`` (confirmed), ``.errors`` (by pod id; they may still be billed) and
            ``.skipped`` (left alone, and why).

        Raises:
            ValueError: ``prefix`` without ``older_than``, or empty.
            ProtocolError: The server does not say what time it is, so that no age can be told.
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
        return self._portal.call(self._async.delete_many, run_through(pod_ids), missing_ok=missing_ok)

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

    def history(  # noqa: PLR0913 - as AsyncPods.history
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

        The API does not filter records: all pages are read, and each is filtered here as it comes.

        Args:
            since: Only what ended then or later; what has not ended counts by when it was created.
            until: Only what ended before.
            kind: Only this kind, or any of several: ``"instance"``, ``"cluster"``, ``"disk"``, in any case.
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
            tail: How many entries, from 1; ``None`` leaves it to the API.

        Returns:
            Text, whatever JSON the API wraps it in. It is the pod's own output: it may hold anything.

        Raises:
            NotFoundError: No such pod.
        """
        return self._portal.call(self._async.logs, pod_id, tail=tail)
