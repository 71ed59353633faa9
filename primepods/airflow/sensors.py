"""Sensor that waits for a pod."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    BaseOperatorLink,
    BaseSensorOperator,
    Context,
    PokeReturnValue,
    poke_mode_only,
)

from ._events import PodEvent, pod_or_raise
from ._pod_ids import PodId, id_of
from ._waits import check_before_deferral, default_deferrable, wait_here
from .hooks import PrimePodsHook
from .links import PrimePodsLink
from .triggers import PrimePodTrigger


@poke_mode_only
class PrimePodSensor(BaseSensorOperator):
    """Sensor that waits until a pod is ready, and returns the pod's status as a dictionary, with ``ssh``.

    It never deletes the pod. Use ``deferrable`` to free the worker's slot. ``mode="reschedule"`` is
    refused, since the sensor would lose its state between two pokes, such as the time of an installation's
    first failure.

    Args:
        pod_id: The pod's id, or the whole output of the create operator.
        prime_conn_id: The connection's id.
        poke_interval: Seconds between two polls.
        timeout: Seconds until the task fails; Airflow does not retry it then.
        deferrable: Whether to wait in the triggerer; by default Airflow's ``[operators] default_deferrable``.
    """

    template_fields: Sequence[str] = ("pod_id", "prime_conn_id")
    operator_extra_links: Collection[BaseOperatorLink] = (PrimePodsLink(),)

    def __init__(
        self,
        *,
        pod_id: PodId,
        prime_conn_id: str = PrimePodsHook.default_conn_name,
        poke_interval: float = 5.0,
        timeout: float = 1800.0,
        deferrable: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.pod_id = pod_id
        self.prime_conn_id = prime_conn_id
        self.deferrable: bool = default_deferrable() if deferrable is None else deferrable

    def execute(self, context: Context) -> Any:
        """Wait in this worker or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        pod_id = id_of(self.pod_id)
        with PrimePodsHook(self.prime_conn_id).get_conn() as client:
            event = check_before_deferral(client, pod_id, "ready")
        if event is not None:
            # This applies `soft_fail` and `never_fail`.
            return self.resume_execution("execute_complete", {"event": event}, context)
        trigger = PrimePodTrigger(
            pod_id=pod_id,
            prime_conn_id=self.prime_conn_id,
            end=time.time() + self.timeout,
            interval=self.poke_interval,
        )
        return self.defer(trigger=trigger, method_name="execute_complete", timeout=self.execution_timeout)

    def poke(self, context: Context) -> PokeReturnValue:
        """Wait until the pod is ready, in a single poke."""
        del context
        with PrimePodsHook(self.prime_conn_id).get_conn() as client:
            event = wait_here(
                client,
                id_of(self.pod_id),
                "ready",
                timeout=self.timeout,
                interval=self.poke_interval,
                log=self.log,
            )
        self.log.info("%s", event["message"])
        return PokeReturnValue(is_done=True, xcom_value=pod_or_raise(event, on_timeout=AirflowSensorTimeout))

    def execute_complete(self, context: Context, event: PodEvent) -> dict[str, Any] | None:
        """Resume after the trigger."""
        del context
        self.log.info("%s", event["message"])
        return pod_or_raise(event, on_timeout=AirflowSensorTimeout)
