"""Operators that rent a pod, wait until it is ready, and delete it."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

import attrs
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    BaseOperatorLink,
    Context,
    XComArg,
    conf,
)

from .. import Client, Pod, PodChange, PodSpec, PodState, PrimePodsError
from ._events import PodEvent, failure, pod_of, success
from ._names import pod_name
from .hooks import PrimePodsHook
from .triggers import Goal, PrimePodTrigger

PodId = str | Mapping[str, Any] | XComArg
"""A pod's id, or what the create operator returns, whose ``id`` it is; or an output that will be either."""

_KILL_TIMEOUT: Final = 4.0
"""Seconds for all that happens when a task is killed: Airflow leaves 5."""
_PAUSE: Final = 1.0
_ENDING: Final = frozenset({PodState.DELETING, PodState.TERMINATED})


class PrimePodsLink(BaseOperatorLink):
    """The button of a task that opens the vendor's page of pods."""

    name = "Prime Intellect"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's signature
        """Return the page's address."""
        return "https://app.primeintellect.ai/dashboard/pods"


class PrimeCreatePodOperator(BaseOperator):
    """Rents a pod, and does not wait for it. It is billed from then on, until it is deleted.

    XCom: ``id``, ``name`` and ``price_hr``, each under its name, and all of them as the returned value.

    The pod's name is made of DAG, run, task and map index. By it a further try finds the pod of one whose
    worker was killed or whose answer was lost, and goes on with that instead of renting another. Two Airflows
    that share an account need prefixes of their own.

    Args:
        spec: The fields of :class:`primepods.PodSpec`; its ``name`` is the prefix of the pod's name.
        prime_conn_id: The connection.
        appear_grace: Seconds for which a further try looks for the pod of the one before.
    """

    template_fields: Sequence[str] = ("spec", "prime_conn_id")
    operator_extra_links: Collection[BaseOperatorLink] = (PrimePodsLink(),)

    def __init__(
        self,
        *,
        spec: Mapping[str, Any] | XComArg,
        prime_conn_id: str = PrimePodsHook.default_conn_name,
        appear_grace: float = 20.0,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        self.spec = spec
        self.prime_conn_id = prime_conn_id
        self.appear_grace = appear_grace
        self._name: str | None = None
        self._was_killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Rent the pod, or adopt the one that an earlier try has rented."""
        task = context["ti"]
        spec = self._named(task)
        self._name = spec.name
        with PrimePodsHook(self.prime_conn_id).get_conn() as client:
            pod = self._adopt(client, str(spec.name), self.appear_grace if task.try_number > 1 else 0.0)
            if pod is None:
                pod = client.pods.create(spec)
                self.log.info("Rented pod %s", pod)
            if self._was_killed:
                # Its order was under way when the task was killed.
                client.pods.delete(pod, missing_ok=True)
        return {"id": pod.id, "name": pod.name, "price_hr": pod.price_hr}

    def on_kill(self) -> None:
        """Delete the pod by its name: nobody else will know its id."""
        self._was_killed = True
        if self._name is None:
            return
        self.log.info("The task was killed: deleting the pod %r, if it was made", self._name)
        ends_at = time.monotonic() + _KILL_TIMEOUT
        with PrimePodsHook(self.prime_conn_id).get_conn() as client:
            quick = client.with_options(deadline=_KILL_TIMEOUT / 2)
            while not (pods := _namesakes(quick, self._name)) and time.monotonic() + _PAUSE < ends_at:
                time.sleep(_PAUSE)
            for pod in pods:
                quick.pods.delete(pod, missing_ok=True)

    def _named(self, task: Any) -> PodSpec:
        try:
            spec = PodSpec(**cast("Mapping[str, Any]", self.spec))
        except (TypeError, ValueError) as exc:
            raise AirflowFailException(f"The pod cannot be ordered: {exc}") from None
        name = pod_name(
            spec.name,
            dag_id=task.dag_id,
            run_id=task.run_id,
            task_id=task.task_id,
            map_index=task.map_index,
        )
        return attrs.evolve(spec, name=name)

    def _adopt(self, client: Client, name: str, grace: float) -> Pod | None:
        """Return the pod that an earlier try has rented; delete what there is besides of this name."""
        ends_at = time.monotonic() + grace
        while not (pods := _namesakes(client, name)) and time.monotonic() + _PAUSE < ends_at:
            time.sleep(_PAUSE)
        usable = [pod for pod in pods if not pod.has_failed]
        for pod in pods:
            if pod not in usable[:1]:
                self.log.warning("Deleting pod %s, which an earlier try has left", pod)
                client.pods.delete(pod, missing_ok=True)
        if not usable:
            return None
        self.log.info("Going on with pod %s, which an earlier try has rented", usable[0])
        return usable[0]


class _OnePodOperator(BaseOperator):
    """What the operators share that wait for one pod, in the worker or deferred."""

    template_fields: Sequence[str] = ("pod_id", "prime_conn_id")
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

    def execute_complete(self, context: Context, event: PodEvent) -> dict[str, Any] | None:  # noqa: ARG002 - Airflow's signature
        """Go on after the trigger."""
        self.log.info("%s", event["message"])
        return pod_of(event)

    def _wait(self, client: Client, pod_id: str, until: Goal, *, delete_on_kill: bool = False) -> PodEvent:
        """Wait here; or leave the worker, and go on in :meth:`execute_complete`."""
        if self.deferrable:
            trigger = PrimePodTrigger(
                pod_id=pod_id,
                prime_conn_id=self.prime_conn_id,
                end=time.time() + self.timeout,
                until=until,
                interval=self.interval,
                delete_on_kill=delete_on_kill,
            )
            self.defer(trigger=trigger, method_name="execute_complete", timeout=self.execution_timeout)
        return wait_here(client, pod_id, until, timeout=self.timeout, interval=self.interval, log=self.log)


class PrimeWaitPodOperator(_OnePodOperator):
    """Waits until a pod is ready. Returns its status as a dictionary, with ``ssh``.

    A pod that has failed ends the task without retries, with the pod's reason.

    Args:
        pod_id: The pod's id, or the create operator's whole output.
        prime_conn_id: The connection.
        interval: Seconds between two looks.
        timeout: Seconds for one try.
        deferrable: Whether to wait in the triggerer; default: Airflow's ``[operators] default_deferrable``.
        delete_on_kill: Whether the pod is deleted when the task is marked failed or succeeded, or cleared,
            while it waits.
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

    def execute(self, context: Context) -> dict[str, Any] | None:  # noqa: ARG002 - Airflow's signature
        """Wait."""
        with PrimePodsHook(self.prime_conn_id).get_conn() as client:
            event = self._wait(client, id_of(self.pod_id), "ready", delete_on_kill=self.delete_on_kill)
        return pod_of(event)

    def on_kill(self) -> None:
        """Delete the pod, if that was asked for."""
        if self.delete_on_kill:
            self.log.info("The task was killed: deleting its pod")
            with PrimePodsHook(self.prime_conn_id).get_conn() as client:
                quick = client.with_options(deadline=_KILL_TIMEOUT)
                quick.pods.delete(id_of(self.pod_id), missing_ok=True)


class PrimeDeletePodOperator(_OnePodOperator):
    """Deletes a pod, and sees it gone. A pod that is gone already is a success.

    Best as the teardown of the task that has rented it: ``.as_teardown(setups=create)``.

    Args:
        pod_id: The pod's id, or the create operator's whole output.
        prime_conn_id: The connection.
        wait_for_completion: Whether to wait until the pod is gone; it may be billed until then.
        interval: Seconds between two looks.
        timeout: Seconds for it to be gone.
        deferrable: Whether to wait in the triggerer; default: Airflow's ``[operators] default_deferrable``.
    """

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        *,
        pod_id: PodId,
        prime_conn_id: str = PrimePodsHook.default_conn_name,
        wait_for_completion: bool = True,
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

    def execute(self, context: Context) -> None:  # noqa: ARG002 - Airflow's signature
        """Delete it."""
        pod_id = id_of(self.pod_id)
        with PrimePodsHook(self.prime_conn_id).get_conn() as client:
            state = client.pods.delete(pod_id, missing_ok=True)
            self.log.info("Pod %s is %s", pod_id, state)
            if self.wait_for_completion:
                pod_of(self._wait(client, pod_id, "gone"))


def default_deferrable() -> bool:
    """Return what Airflow's configuration says of operators that do not say it themselves."""
    return bool(conf.getboolean("operators", "default_deferrable", fallback=False))


def id_of(pod_id: PodId) -> str:
    """Return the id of a pod, or of the create operator's output.

    Raises:
        AirflowFailException: There is none, as when that task has returned nothing.
    """
    found = pod_id.get("id") if isinstance(pod_id, Mapping) else pod_id
    if not isinstance(found, str) or not found:
        raise AirflowFailException(
            f"pod_id must be a pod's id, or what the create task returns, got {pod_id!r}"
        )
    return found


def wait_here(  # noqa: PLR0913 - what a wait is made of
    client: Client, pod_id: str, until: Goal, *, timeout: float, interval: float, log: Any
) -> PodEvent:
    """Wait in this process, as :class:`PrimePodTrigger` does in a triggerer."""

    def tell(change: PodChange) -> None:
        log.info("%s", change.after or f"{change.pod_id} is gone")

    try:
        if until == "gone":
            client.pods.wait_gone(pod_id, timeout=timeout, interval=interval, on_change=tell)
            event = success(pod_id, None)
        else:
            status = client.pods.wait_ready(pod_id, timeout=timeout, interval=interval, on_change=tell)
            event = success(pod_id, status)
    except PrimePodsError as exc:
        event = failure(exc)
    log.info("%s", event["message"])
    return event


def _namesakes(client: Client, name: str) -> list[Pod]:
    """Return the pods of a name that are not on their way out."""
    return [pod for pod in client.pods.list() if pod.name == name and pod.status not in _ENDING]
