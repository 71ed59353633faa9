"""Creation of pods: an order is not repeated if it may have been carried out.

If the outcome is uncertain, the client looks for the pod by the id in the response and by the name; see the
table in ``_orders.py``. An error other than :class:`~primepods.CreateUncertainError` means that no pod was
created.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from functools import partial

import attrs

from .. import errors
from .._decoding.pods import decode_pod
from .._http.executor import RequestExecutor
from .._http.request import PODS, item_request
from .._utils.money import money
from .._utils.text import quote
from .._utils.unique_names import (
    ensured_name,
    expiry_of,
    is_ensured_name,
    is_same_name,
    may_be_changed_name,
    unique_name,
)
from ..config import lease_folder
from ..errors import PrimePodsError
from ..leasing.ledger import read_ledger
from ..leasing.pods_api import ListedPod, PodsAPI, expiry_after
from ..models import Pod
from ..specs import PodSpec
from ._max_hourly import HourlyLimit
from ._orders import NoteId, Order, OrderSender, order_request, repeated_error
from ._paging import listed_pods

log = logging.getLogger("primepods")


class PodCreator:
    """Creator of the pods of one team.

    Attributes:
        limit: Limit on the total price of all pods per hour.
    """

    def __init__(self, executor: RequestExecutor, pods: PodsAPI) -> None:
        self._executor = executor
        self._pods = pods
        self._clock = executor.settings.clock
        self._server_clock = executor.transport.server_clock
        self._sender = OrderSender[Pod, ListedPod](
            executor, partial(listed_pods, executor), self._get, _choose
        )
        self.limit: HourlyLimit = HourlyLimit(executor, pods)

    async def create(self, spec: PodSpec, max_hours: float | None = None) -> Pod:
        """Create a pod; see :meth:`primepods.AsyncPods.create`."""
        expires_at = await expiry_after(max_hours, self._pods, self._server_clock)
        if check_spec(spec).name is None or expires_at is not None:
            name = unique_name(spec.name or "primepods", self._clock.random, expires_at)
            spec = attrs.evolve(spec, name=name)
        return await self._create(spec)

    async def _create(self, spec: PodSpec) -> Pod:
        self._executor.transport.check()
        await self.limit.allow(spec)
        pod, *others = await self.order(spec)
        if others:
            raise repeated_error(Order(str(spec.name), Pod), [pod.id, *(other.id for other in others)])
        if spec.is_exceeded_by(pod.price_hr):
            log.warning(
                "pod %s costs %s an hour, more than max_price=%g: delete it if that is too much",
                pod.id,
                money(pod.price_hr),
                spec.max_price,
            )
        return pod

    async def ensure(self, spec: PodSpec, max_hours: float | None = None) -> Pod:
        """Return a pod with the spec's name; see :meth:`primepods.AsyncPods.ensure`."""
        name = check_spec(spec).name
        if name is None:
            raise ValueError("pods.ensure needs PodSpec.name, by which it finds the pod")
        expires_at = await expiry_after(max_hours, self._pods, self._server_clock)
        listed, unreadable = await self._pods.list().find(
            lambda pod: not pod.has_failed and not pod.has_ended
        )
        now = self._server_clock.now() or -math.inf
        same = [pod for pod in listed if is_same_name(name, pod.name)]
        same += [
            pod for pod in listed if is_ensured_name(name, pod.name) and (expiry_of(pod.name) or now) > now
        ]
        if same:
            # Prefer exactly this name, then the oldest pod.
            return min(same, key=lambda pod: (pod.name != name, str(pod.created_at), pod.id))
        if unreadable is not None:
            # The unreadable row may be the pod.
            raise unreadable
        for pod in listed:
            if may_be_changed_name(name, pod.name or ""):
                path = f"{PODS}/"
                raise errors.ProtocolError(
                    f"GET {path}: pod {pod.id} has the name {quote(pod.name)}, which the server may have "
                    f"made from {name!r}. Nothing is ordered. Use the name that the API shows, or another.",
                    method="GET",
                    url_path=path,
                )
        if expires_at is not None:
            spec = attrs.evolve(spec, name=ensured_name(name, expires_at))
        return await self._create(spec)

    async def order(self, spec: PodSpec, note_id: NoteId | None = None) -> list[Pod]:
        """Order a pod with a name; return it, and others if a gateway has repeated the order.

        Call ``limit.allow`` first.

        Args:
            spec: The pod to order.
            note_id: Called with the id in an unreadable response that has the ordered name.

        Raises:
            CreateUncertainError: The pod may have been created.
            PrimePodsError: Any other error: the pod was not created.
        """
        order = Order(spec.name or "", Pod)
        request = order_request(spec, self._executor.settings.team_id)
        try:
            return await self._sender.send(order, request, note_id=note_id)
        except PrimePodsError as exc:
            if not isinstance(exc, errors.CreateUncertainError):
                await self.limit.forget(spec)
            raise

    async def _get(self, pod_id: str) -> Pod:
        return await self._executor.call(item_request("GET", pod_id), partial(decode_pod, pod_id=pod_id))


def check_specs(spec: PodSpec | Iterable[PodSpec]) -> list[PodSpec]:
    """Return one or several specs as a list; raise a ValueError if there is none."""
    specs = [check_spec(item) for item in (spec if isinstance(spec, Iterable) else [spec])]
    if not specs:
        raise ValueError("spec must be a PodSpec or several, got none, as for no offers that match")
    return specs


def check_spec(spec: PodSpec) -> PodSpec:
    if not isinstance(spec, PodSpec):
        raise TypeError(
            f"spec must be a PodSpec, got {quote(spec)}: use PodSpec.from_offer(offer) or PodSpec(…)"
        )
    return spec


def _choose(order: Order[Pod], named: Iterable[ListedPod]) -> list[Pod]:
    """Return the pods that only this order can have created; see :meth:`Order.choose`."""
    chosen = order.choose(named)
    if not chosen or order.is_unique:
        return chosen
    # A pod in a lease file was ordered by that lease; an unreadable file may contain it.
    try:
        ledger = read_ledger(lease_folder())
    except errors.ConfigError:
        return []
    leased = {record.pod_id for record in ledger.records.values()}
    return [] if ledger.unreadable or chosen[0].id in leased else chosen
