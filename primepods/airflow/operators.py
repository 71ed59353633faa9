"""Operators that create, wait for and delete a pod, or run a command on a new pod."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowTaskTimeout,
    BaseOperator,
    BaseOperatorLink,
    Context,
    TaskInstanceState,
    XComArg,
)

from .. import Client, NotFoundError
from ._events import PodEvent, pod_or_raise
from ._pod_ids import PodId, id_of
from ._renting import KILL_TIMEOUT, RentingOperator, create_first, delete_by_name, run_on_kill
from ._run_operator import PrimeRunPodOperator
from ._waits import check_before_deferral, default_deferrable, find_in_history, wait_here
from .exceptions import PodTaskError
from .hooks import PrimePodsHook, state_of
from .links import PrimePodsLink
from .triggers import TRIGGERER_GRACE, Goal, PrimePodTrigger

__all__ = [
    "PrimeCreatePodOperator",
    "PrimeDeletePodOperator",
    "PrimePodsLink",
    "PrimeRunPodOperator",
    "PrimeWaitPodOperator",
]


class PrimeCreatePodOperator(RentingOperator):
    """Operator that rents a pod without waiting for it. The pod is billed until it is deleted.

    The return value has ``id``, ``name`` and ``price_hr``, which are also XComs under these names.

    The pod's name contains a digest of the DAG, the run, the task and the map index. Every try first looks
    for pods with this name, adopts one that has not failed, and deletes the others. Two Airflow installations
    that share an account therefore need different prefixes.

    Args:
        spec: The fields of :class:`primepods.PodSpec`; its ``name`` is the prefix of the pod's name.
        gpu_type: The GPU, as in ``client.availability.find``, instead of a spec. Matching offers are tried,
            cheapest first, until one is neither sold out nor too expensive.
        gpu_count: Number of GPUs.
        max_price: Max price per hour; by default that of the spec or offer.
        exclude_providers: Providers to skip.
        max_hours: Hours until the pod expires; set more than the pipeline takes. Expired pods are deleted
            by ``client.pods.sweep(expired=True)``, not automatically. With ``None``, the pod does not expire.
        prime_conn_id: The connection's id.
        appear_grace: Seconds for which a retry looks for the pod of an earlier try. After
            ``execution_timeout``, a try looks for its own pod for the same time, to delete it.
    """

    template_fields: Sequence[str] = (*RentingOperator.template_fields, "appear_grace")
    ui_color: str = "#d7f0e4"

    def __init__(  # noqa: PLR0913 - all have defaults
        self,
        *,
        spec: Mapping[str, Any] | XComArg | None = None,
        gpu_type: str | None = None,
        gpu_count: int = 1,
        max_price: float | None = None,
        exclude_providers: Collection[str] = (),
        max_hours: float | None = 24.0,
        prime_conn_id: str = PrimePodsHook.default_conn_name,
        appear_grace: float = 20.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            spec=spec,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            max_price=max_price,
            exclude_providers=exclude_providers,
            max_hours=max_hours,
            prime_conn_id=prime_conn_id,
            **kwargs,
        )
        self.appear_grace = appear_grace
        self._ordered: tuple[PrimePodsHook, str] | None = None
        self._was_killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Rent the pod, or adopt the pod of an earlier try."""
        hook, name = PrimePodsHook(self.prime_conn_id), self._pod_name(context)
        try:
            with hook.get_conn() as client:
                self._ordered = (hook, name)
                is_retry = context["ti"].try_number > 1
                grace = float(self.appear_grace) if is_retry else 0.0
                pod = self._adopt_or_delete(client, name, grace)
                if pod is None:
                    pod = create_first(client, self._find_specs(client, name), self._max_hours, self.log)
                if not self._is_wanted(context["ti"]):
                    client.pods.delete(pod, missing_ok=True)
                    raise PodTaskError(f"The task was ended while it rented pod {pod.id}, which is deleted.")
                self._announce(context, pod.id, pod.name or name, pod.price_hr)
        except AirflowTaskTimeout:
            self.log.info("The task has timed out: deleting the pod %r, if it was ordered", name)
            _delete_ordered(hook, name, float(self.appear_grace))
            # Airflow calls `on_kill` next, although no user has stopped the task.
            self._ordered = None
            raise
        return {"id": pod.id, "name": pod.name, "price_hr": pod.price_hr}

    def on_kill(self) -> None:
        """Delete the pod by its name: its id may be unknown."""
        self._was_killed = True
        if self._ordered is not None:
            run_on_kill(partial(_delete_ordered, *self._ordered, KILL_TIMEOUT), self.log)

    def _is_wanted(self, task_instance: Any) -> bool:
        """Return whether the task still runs: ``on_kill`` comes only with Airflow's next heartbeat."""
        try:
            return not self._was_killed and state_of(task_instance) == TaskInstanceState.RUNNING
        except Exception:
            text = "Airflow did not say whether this task still runs: its pod is kept"
            self.log.warning(text, exc_info=True)
            return True


class _OnePodOperator(BaseOperator):
    """Base class of operators that wait for one pod, in the worker or deferred."""

    template_fields: Sequence[str] = ("pod_id", "interval", "timeout", "prime_conn_id")
    operator_extra_links: Collection[BaseOperatorLink] = (PrimePodsLink(),)

    def __init__(
        self,
        *,
        pod_id: PodId,
        prime_conn_id: str,
        interval: float,
        timeout: float,
        deferrable: bool | None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.pod_id = pod_id
        self.prime_conn_id = prime_conn_id
        self.interval = interval
        self.timeout = timeout
        self.deferrable: bool = default_deferrable() if deferrable is None else deferrable

    def execute_complete(self, context: Context, event: PodEvent) -> dict[str, Any] | None:
        """Resume after the trigger."""
        del context
        self.log.info("%s", event["message"])
        return pod_or_raise(event)

    def _wait(self, client: Client, pod_id: str, until: Goal, *, delete_on_kill: bool = False) -> PodEvent:
        """Wait in this worker; with ``deferrable``, defer unless the wait is already over."""
        if self.deferrable:
            event = check_before_deferral(client, pod_id, until)
            if event is None:
                self._defer(pod_id, until, delete_on_kill=delete_on_kill)
        else:
            timeout, interval = float(self.timeout), float(self.interval)
            event = wait_here(client, pod_id, until, timeout=timeout, interval=interval, log=self.log)
        self.log.info("%s", event["message"])
        return event

    def _defer(self, pod_id: str, until: Goal, *, delete_on_kill: bool) -> NoReturn:
        max_seconds = math.inf if self.execution_timeout is None else self.execution_timeout.total_seconds()
        trigger = PrimePodTrigger(
            pod_id=pod_id,
            prime_conn_id=self.prime_conn_id,
            end=time.time() + min(float(self.timeout), max_seconds),
            until=until,
            interval=float(self.interval),
            delete_on_kill=delete_on_kill,
        )
        # The trigger ends the wait. Airflow's timeout is for the case that no triggerer runs.
        timeout = None if self.execution_timeout is None else self.execution_timeout + TRIGGERER_GRACE
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timeout)


class PrimeWaitPodOperator(_OnePodOperator):
    """Operator that waits until a pod is ready, and returns the pod's status as a dictionary, with ``ssh``.

    If the pod has failed, has ended or does not exist, the task fails without retries, with the reason.
    ``execution_timeout`` limits one try, both in the worker and in the triggerer.

    Args:
        pod_id: The pod's id, or the whole output of the create operator.
        prime_conn_id: The connection's id.
        interval: Seconds between two polls.
        timeout: Seconds for one try.
        deferrable: Whether to wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
            The wait is not deferred if the pod is ready already.
        delete_on_kill: ``True`` to delete the pod when the waiting task is killed, as when it is marked
            failed or succeeded, or is cleared. Before Airflow 3.3, a deferred task deletes the pod only when
            it is marked failed. A trigger keeps a pod that may be in use or that another triggerer waits for.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        *,
        pod_id: PodId,
        prime_conn_id: str = PrimePodsHook.default_conn_name,
        interval: float = 5.0,
        timeout: float = 1800.0,
        deferrable: bool | None = None,
        delete_on_kill: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pod_id=pod_id,
            prime_conn_id=prime_conn_id,
            interval=interval,
            timeout=timeout,
            deferrable=deferrable,
            **kwargs,
        )
        self.delete_on_kill = delete_on_kill
        self._has_timed_out = False

    def execute(self, context: Context) -> dict[str, Any] | None:
        """Wait for the pod."""
        del context
        pod_id = id_of(self.pod_id)
        try:
            with self._hook.get_conn() as client:
                event = self._wait(client, pod_id, "ready", delete_on_kill=self.delete_on_kill)
        except AirflowTaskTimeout:
            # Airflow calls `on_kill` next, although no user has stopped the task.
            self._has_timed_out = True
            limit = self.execution_timeout
            raise AirflowTaskTimeout(f"Pod {pod_id} was not ready after execution_timeout={limit}.") from None
        return pod_or_raise(event)

    def on_kill(self) -> None:
        """Delete the pod if ``delete_on_kill`` is set, unless the task has timed out."""
        if self.delete_on_kill and not self._has_timed_out:
            run_on_kill(self._delete, self.log)

    @cached_property
    def _hook(self) -> PrimePodsHook:
        return PrimePodsHook(self.prime_conn_id)

    def _delete(self) -> None:
        with self._hook.get_conn() as client:
            hurried = client.with_options(deadline=KILL_TIMEOUT)
            hurried.pods.delete(id_of(self.pod_id), missing_ok=True)


class PrimeDeletePodOperator(_OnePodOperator):
    """Operator that deletes a pod and, by default, waits until it is confirmed gone.

    It also succeeds if the history shows that the pod has ended.

    Use it as the teardown of create and wait: ``.as_teardown(setups=[create, wait])``. If a task that uses
    the pod is cleared, Airflow then also clears create and wait, so that the task gets the address of a new
    pod. Without an id, the task fails, because a pod may be running.

    Args:
        pod_id: The pod's id, or the whole output of the create operator.
        prime_conn_id: The connection's id.
        wait_for_completion: ``True`` to wait until the pod is gone; it may be billed until then.
        missing_ok: ``True`` to succeed if the pod is found neither in the list nor in the first 1,000 records
            of the history.
        interval: Seconds between two polls.
        timeout: Seconds until the pod must be gone.
        deferrable: Whether to wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
            The wait is not deferred if the pod is gone within two seconds.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        *,
        pod_id: PodId,
        prime_conn_id: str = PrimePodsHook.default_conn_name,
        wait_for_completion: bool = True,
        missing_ok: bool = False,
        interval: float = 5.0,
        timeout: float = 600.0,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            pod_id=pod_id,
            prime_conn_id=prime_conn_id,
            interval=interval,
            timeout=timeout,
            deferrable=deferrable,
            **kwargs,
        )
        self.wait_for_completion = wait_for_completion
        self.missing_ok = missing_ok

    def execute(self, context: Context) -> None:
        """Delete the pod."""
        del context
        pod_id = id_of(self.pod_id)
        with PrimePodsHook(self.prime_conn_id).get_conn() as client:
            is_ending = self._delete(client, pod_id)
            if is_ending and self.wait_for_completion:
                pod_or_raise(self._wait(client, pod_id, "gone"))

    def _delete(self, client: Client, pod_id: str) -> bool:
        """Delete the pod; return ``False`` if it was not found."""
        try:
            state = client.pods.delete(pod_id)
        except NotFoundError:
            record = find_in_history(client, pod_id)
            if record is not None and record.terminated_at is None:
                raise PodTaskError(
                    f"Pod {pod_id} was not found, but the history does not show that it has ended: it may be "
                    "running and billed. Retry later, or look for it with `primepods list`."
                ) from None
            if record is not None:
                self.log.info("Pod %s has ended already: it is in the history", pod_id)
            elif self.missing_ok:
                self.log.info("Pod %s was found neither in the list nor in the history", pod_id)
            else:
                raise PodTaskError(
                    f"Nothing was deleted: pod {pod_id} was found neither in the list nor in the history of "
                    "this account. If the id is mistyped, or of another account or team, its pod keeps "
                    "running, and is billed. `missing_ok=True` treats this as a success."
                ) from None
            return False
        self.log.info("Pod %s is %s", pod_id, state)
        return True


def _delete_ordered(hook: PrimePodsHook, name: str, seconds: float) -> None:
    with hook.get_conn() as client:
        delete_by_name(client, name, seconds)
