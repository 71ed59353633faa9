"""Base class of operators that rent pods; orders, and search and deletion of a task's pods by their name."""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ClassVar, Final

import attrs
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    BaseOperator,
    BaseOperatorLink,
    Context,
    XComArg,
)

from .. import Client, Pod, PodSpec, PriceTooHighError, PrimePodsError, SoldOutError
from .exceptions import PodTaskError
from .links import PODS_PAGE, PrimePodsLink

KILL_TIMEOUT: Final = 4.0
"""Seconds to delete the pod of a killed task; Airflow allows 5."""
_POLL_INTERVAL: Final = 1.0
"""Seconds between two requests for a task's pods."""
_MAX_DAG_LENGTH: Final = 15
"""Max characters of the DAG's id in a pod's name."""
_MAX_PREFIX_LENGTH: Final = 28
"""Max characters of a prefix.

With the digest, a name has up to 45, and with the suffix of a lease or of ``max_hours`` up to 63. A longer
name would be shortened, and lose digits of the digest.
"""
_DIGEST_LENGTH: Final = 16
"""Number of hexadecimal digits."""


class RentingOperator(BaseOperator):
    """Base class of operators that rent a pod, chosen by a spec or by the GPU."""

    template_fields: Sequence[str] = (
        "spec",
        "gpu_type",
        "gpu_count",
        "max_price",
        "exclude_providers",
        "max_hours",
        "prime_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"spec": "json"}
    operator_extra_links: Collection[BaseOperatorLink] = (PrimePodsLink(),)

    def __init__(  # noqa: PLR0913 - all that an order needs
        self,
        *,
        spec: Mapping[str, Any] | XComArg | None,
        gpu_type: str | None,
        gpu_count: int,
        max_price: float | None,
        exclude_providers: Collection[str] | str,
        max_hours: float | None,
        prime_conn_id: str,
        **kwargs: Any,
    ) -> None:
        kwargs.setdefault("multiple_outputs", True)
        super().__init__(**kwargs)
        if (spec is None) == (gpu_type is None):
            msg = "give either spec, the fields of a PodSpec, or gpu_type, such as gpu_type='H100'"
            raise ValueError(msg)
        if spec is not None and (gpu_count != 1 or exclude_providers):
            msg = "gpu_count and exclude_providers have no effect with spec: set its fields instead"
            raise ValueError(msg)
        self.spec = spec
        self.gpu_type = gpu_type
        self.gpu_count = gpu_count
        self.max_price = max_price
        self.exclude_providers = exclude_providers
        self.max_hours = max_hours
        self.prime_conn_id = prime_conn_id

    def _pod_name(self, context: Context) -> str:
        """Return the name of the task's pods, the same in every try.

        It lacks the suffix of a lease or of ``max_hours``. The prefix is the spec's name, cut to 28
        characters; by default it is ``airflow-`` and the start of the DAG's id.
        """
        task = context["ti"]
        # Of a task that is not mapped, the index is -1.
        map_index = -1 if task.map_index is None else task.map_index
        identity = "\0".join([task.dag_id, task.run_id, task.task_id, str(map_index)])
        digest = hashlib.sha256(identity.encode()).hexdigest()[:_DIGEST_LENGTH]
        prefix = None if self._has_gpu_type else read_spec(self.spec).name
        if prefix is None:
            dag = re.sub("[^a-z0-9]+", "-", task.dag_id.lower())[:_MAX_DAG_LENGTH].strip("-")
            prefix = f"airflow-{dag}"
        return f"{prefix[:_MAX_PREFIX_LENGTH].rstrip('-')}-{digest}"

    def _find_specs(self, client: Client, name: str) -> list[PodSpec]:
        """Return the specs to order: the given one, or those of the matching offers, cheapest first.

        Raises:
            AirflowFailException: An argument is invalid, such as the GPU's name.
            PodTaskError: No offer matches now. A retry may help.
        """
        # A rendered template is a string.
        limit = None if self.max_price is None else float(self.max_price)
        if not self._has_gpu_type:
            specs = [read_spec(self.spec)]
        else:
            excluded = self.exclude_providers
            try:
                offers = client.availability.find(
                    gpu_type=str(self.gpu_type),
                    gpu_count=int(self.gpu_count),
                    max_price=limit,
                    # A rendered template.
                    exclude_providers=excluded.replace(",", " ").split()
                    if isinstance(excluded, str)
                    else excluded,
                )
            except ValueError as exc:
                raise AirflowFailException(str(exc)) from None
            if not offers:
                wanted = f"{self.gpu_count} x {self.gpu_type}"
                wanted += "" if limit is None else f" for at most ${limit:.2f} an hour"
                raise PodTaskError(f"No offer of {wanted} is available now. Retry later.")
            specs = PodSpec.from_offers(offers)
        if limit is not None:
            specs = [attrs.evolve(spec, max_price=limit) for spec in specs]
        return [attrs.evolve(spec, name=name) for spec in specs]

    def _adopt_or_delete(
        self, client: Client, name: str, grace: float = 0.0, *, may_adopt: bool = True
    ) -> Pod | None:
        """Return a usable pod of an earlier try, if there is one and it may be adopted; delete the others."""
        pods = wait_for_pods(client, name, grace)
        adopted = next((pod for pod in pods if may_adopt and not pod.has_failed), None)
        for pod in pods:
            if pod is not adopted:
                self.log.warning("Deleting a pod that an earlier try has left: %s", pod)
                client.pods.delete(pod, missing_ok=True)
        if adopted is not None:
            self.log.info("Continuing with a pod that an earlier try has rented: %s", adopted)
        return adopted

    @property
    def _has_gpu_type(self) -> bool:
        # Both are None if the task whose result is the spec has returned None.
        return self.spec is None and self.gpu_type is not None

    def _announce(self, context: Context, pod_id: str, name: str, price_hr: float | None) -> None:
        """Log and push a rented pod, so that it can be found if the task is killed."""
        price = f", ${price_hr:.2f} an hour" if price_hr else ""
        self.log.info("The pod is %s (%s)%s", name, pod_id, price)
        pushed = {"id": pod_id, "name": name, "price_hr": price_hr, PrimePodsLink().xcom_key: PODS_PAGE}
        for key, value in pushed.items():
            context["ti"].xcom_push(key=key, value=value)

    @property
    def _max_hours(self) -> float | None:
        return None if self.max_hours is None else float(self.max_hours)


def read_spec(fields: object) -> PodSpec:
    """Convert an operator's ``spec`` argument.

    Raises:
        AirflowFailException: It is not a mapping, or a field is missing, unknown or invalid.
    """
    if not isinstance(fields, Mapping):
        raise AirflowFailException(
            f"spec must be a mapping with the fields of a PodSpec, not {type(fields).__name__}. If it is the "
            "result of a task, check that the task has run and returned a mapping; if it is a template, set "
            "`render_template_as_native_obj=True` in the DAG."
        )
    try:
        return PodSpec(**fields)
    except (TypeError, ValueError) as exc:
        raise AirflowFailException(f"The pod cannot be ordered, because of its spec: {exc}") from None


def create_first(client: Client, specs: Sequence[PodSpec], max_hours: float | None, log: Any) -> Pod:
    """Rent a pod of the first spec that is neither sold out nor too expensive.

    Raises:
        SoldOutError: The last spec is sold out.
        PriceTooHighError: The last spec is too expensive now.
    """
    *others, last = specs
    for spec in others:
        try:
            return client.pods.create(spec, max_hours=max_hours)
        except (SoldOutError, PriceTooHighError) as exc:
            log.info("%s Trying the next offer", exc)
    return client.pods.create(last, max_hours=max_hours)


def find_by_name(client: Client, name: str) -> list[Pod]:
    """Return the pods of a task, except those that are ending; log a warning about unreadable rows."""

    def is_of_task(pod: Pod) -> bool:
        # A server may change the case, or add blanks (imagined).
        wanted, found = name.casefold(), (pod.name or "").strip().casefold()
        # A lease or `max_hours` adds a suffix.
        has_name = found == wanted or found.startswith(f"{wanted}-")
        return has_name and not (pod.status is not None and pod.status.is_ending)

    pods, unreadable = client.pods.list().find(is_of_task)
    if unreadable is not None:
        logging.getLogger("primepods").warning("search for the pod %r is incomplete: %s", name, unreadable)
    return pods


def wait_for_pods(client: Client, name: str, seconds: float) -> list[Pod]:
    """Return the pods of a task; poll until there are any or ``seconds`` have passed."""
    deadline = time.monotonic() + seconds
    while not (pods := find_by_name(client, name)) and time.monotonic() + _POLL_INTERVAL < deadline:
        time.sleep(_POLL_INTERVAL)
    return pods


def delete_by_name(client: Client, name: str, seconds: float) -> None:
    """Delete the pods of a killed task; poll until there are any or ``seconds`` have passed.

    Raises:
        PrimePodsError: The last search or a deletion after it has failed.
    """
    deadline = time.monotonic() + seconds
    # Limit each call to half of the time: a slow search then leaves time for the deletion.
    hurried = client.with_options(deadline=seconds / 2)
    while True:
        try:
            # The order may still be in flight. A pod that appears later may be left, since Airflow ends this
            # process.
            pods = wait_for_pods(hurried, name, deadline - time.monotonic())
            return hurried.pods.delete_many(pods, missing_ok=True).raise_for_errors()
        except PrimePodsError:
            if time.monotonic() + _POLL_INTERVAL >= deadline:
                raise
        time.sleep(_POLL_INTERVAL)


def run_on_kill(delete: Callable[[], object], log: Any) -> None:
    """Run the deletion of ``on_kill`` in a thread, wait for it for a limited time, and log its error.

    Airflow calls ``on_kill`` in a signal handler. If the handler logged while the interrupted task holds the
    lock of its log, it would wait forever, and the pod would not be deleted.
    """

    def run() -> None:
        try:
            delete()
            log.info("The task was killed: its pod, if there was one, is deleted")
        except PrimePodsError as exc:
            log.warning("The task was killed, but its pod may still be running and billed: %s", exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(KILL_TIMEOUT)
