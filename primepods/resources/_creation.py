"""Creation of a pod: one POST, not repeated if it may have been received.

If the outcome is uncertain (no response, an unreadable one, a server error), the list is searched for the
pod's name. A unique name is proof. A name that the user chose proves nothing, so the pods of that name are
listed before the order, and afterwards only a single new one is accepted. There are three outcomes: the pod;
an error that proves that no pod was created; :class:`~primepods.CreateUncertainError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import attrs

from .._decoding.pods import decode_pod
from .._http.executor import RequestExecutor
from .._http.request import Request, pod_request
from .._utils.arguments import check_amount
from .._utils.exceptions import copy_exception
from .._utils.text import quote
from .._utils.unique_names import UniqueName, is_same_name, unique_name
from ..config import lease_folder
from ..errors import (
    APIError,
    ClientClosedError,
    ConfigError,
    PrimePodsError,
)
from ..leasing.ledger import read_ledger
from ..leasing.pods_api import KEY_REJECTIONS, PodsAPI, find_namesakes
from ..leasing.server_time import expiring_name
from ..leasing.shared_list import LIST_PAGE_SIZE, LIST_TIMEOUT
from ..models import Pod, PodState
from ..specs import PodSpec
from ._orders import (
    Order,
    in_flight,
    is_definitive_rejection,
    order_request,
    uncertain_error,
    warn_if_interrupted,
)
from ._refusals import reclassify_refusal

log = logging.getLogger("primepods")

_ENDED_STATES: Final = frozenset({PodState.STOPPED, PodState.DELETING, PodState.TERMINATED})
"""States of pods that ``pods.ensure`` does not return."""


class PodCreator:
    """Creates pods.

    Args:
        executor: Sends the requests.
        pods: Lists pods.
    """

    def __init__(self, executor: RequestExecutor, pods: PodsAPI) -> None:
        self._executor = executor
        self._pods = pods
        self._clock = executor.settings.clock

    async def create(self, spec: PodSpec, max_hours: float | None = None) -> Pod:
        """Create a pod; see :meth:`primepods.AsyncPods.create`."""
        if max_hours is not None:
            check_amount("max_hours", max_hours, "number of hours")
            name = await expiring_name(
                check_spec(spec).name or "primepods",
                max_hours,
                pods=self._pods,
                server_clock=self._executor.transport.server_clock,
                clock=self._clock,
            )
            spec = attrs.evolve(spec, name=name)
        spec = self._with_name(spec)
        try:
            pod = await self.order(spec)
        except APIError as exc:
            found = await self._find_refused(spec, exc)
            if found is None:
                raise
            pod = found
        if spec.is_exceeded_by(pod.price_hr):
            log.warning(
                "pod %s costs %g an hour, more than max_price=%g: delete it if that is too much",
                pod.id,
                pod.price_hr,
                spec.max_price,
            )
        return pod

    async def ensure(self, spec: PodSpec) -> Pod:
        """Return a pod with the spec's name; see :meth:`primepods.AsyncPods.ensure`."""
        name = check_spec(spec).name
        if name is None:
            raise ValueError("pods.ensure needs PodSpec.name: it finds the pod by that")

        def is_living(pod: Pod) -> bool:
            has_ended = pod.has_failed or pod.status in _ENDED_STATES
            return is_same_name(name, pod.name) and not has_ended

        living, unreadable = await self._pods.list().find(is_living)
        if living:
            # Prefer the exact name to one that the server may have changed.
            return min(living, key=lambda pod: (pod.name != name, str(pod.created_at), pod.id))
        if unreadable is not None:
            # The unreadable row may be the pod.
            raise unreadable
        return await self.create(spec)

    async def order(self, spec: PodSpec) -> Pod:
        """Create a pod, without the search for the pod of a refused order.

        Raises:
            CreateUncertainError: The pod may have been created.
            PrimePodsError: Any other error: the pod was not created.
        """
        order = Order(self._with_name(spec))
        request = order_request(order.spec, self._executor.settings.team_id)
        # Raise for a closed client before anything is sent.
        self._executor.transport.check()
        if isinstance(order.spec.name, UniqueName):
            return await self._send(order, request)
        with in_flight(order):
            await self._record_namesakes(order)
            return await self._send(order, request)

    def _with_name(self, spec: PodSpec) -> PodSpec:
        """Return the spec, with a unique name if it has none."""
        if check_spec(spec).name is not None:
            return spec
        return attrs.evolve(spec, name=unique_name("primepods", self._clock.random))

    async def _find_refused(self, spec: PodSpec, refusal: APIError) -> Pod | None:
        """Search the list once for the pod of a refused order.

        A gateway may have sent the order twice, and passed on only the refusal of the second.

        Raises:
            CreateUncertainError: Several pods have the order's name.
        """
        name = spec.name
        # A gateway that sends an order twice gets a rejection of the key both times: there is no pod.
        if not isinstance(name, UniqueName) or isinstance(refusal, KEY_REJECTIONS):
            return None
        found: list[Pod] = []
        with suppress(TimeoutError):
            async with self._clock.timeout_at(self._clock.time() + LIST_TIMEOUT):
                # Drop the error of this read: its context is the refusal, which makes a reference cycle.
                listed = (await self._pods.list(page_size=LIST_PAGE_SIZE).collect())[0]
                found = [pod for pod in listed if is_same_name(name, pod.name)]
        if len(found) > 1:
            raise uncertain_error(Order(spec, error=refusal), found, "") from refusal
        if found:
            log.warning("the order of pod %s was refused, and carried out: %s", name, refusal)
        return found[0] if found else None

    async def _send(self, order: Order, request: Request) -> Pod:
        """Send an order and determine its outcome."""
        log.info("ordering the pod %r", order.name)
        sent_at = self._clock.boottime()
        with warn_if_interrupted(order.name):
            try:
                return await self._executor.call(request, order.decode)
            except PrimePodsError as exc:
                order.error = reclassify_refusal(exc.with_traceback(None))
            if is_definitive_rejection(order.error):
                # A copy: `order.error` itself, if raised, would make a reference cycle through this frame.
                raise copy_exception(order.error)
            # The response to the order may be the first that has a Date.
            now = self._executor.transport.server_clock.now()
            if now is not None and order.ordered_at == -math.inf:
                order.ordered_at = now - (self._clock.boottime() - sent_at)
            return await self._find_ordered(order)

    async def _record_namesakes(self, order: Order) -> None:
        """Record which pods already have the order's name.

        Raises:
            PrimePodsError: No row could be read, so nothing is ordered.
        """
        listed, error = await self._pods.list().collect()
        if error is not None and not listed:
            raise error
        namesakes = frozenset(pod.id for pod in listed if is_same_name(order.name, pod.name))
        # An unreadable row may be a namesake.
        order.namesakes = None if error else namesakes
        order.ordered_at = self._executor.transport.server_clock.now() or -math.inf

    async def _find_ordered(self, order: Order) -> Pod:
        """Search for the pod that an order has created, and return it.

        Raises:
            CreateUncertainError: No pod is provably this order's.
        """
        log.warning("whether the pod %r exists is unknown: searching the list for it", order.name)
        found: list[Pod] = []
        try:
            if (pod := await self._pod_of_response(order)) is not None:
                return pod
            found, shown = await find_namesakes(
                self._pods, order.name, self._clock, lambda pods: len(self._provable(order, pods)) == 1
            )
            # The pod may have appeared meanwhile with a name that the server changed.
            if not found and (pod := await self._pod_of_response(order)) is not None:
                return pod
        except ClientClosedError:
            shown = "the client was closed"
        provable = self._provable(order, found)
        if len(provable) == 1:
            return provable[0]
        raise uncertain_error(order, found, shown) from order.error

    async def _pod_of_response(self, order: Order) -> Pod | None:
        """Return the pod with the id in the response, if `get` shows that it is this order's."""
        pod_id = order.response_id
        if pod_id is None:
            return None
        try:
            request = pod_request("GET", pod_id)
            pod = await self._executor.call(request, partial(decode_pod, pod_id=pod_id))
            return pod if order.owns_response_id(pod) else None
        except ClientClosedError:
            raise
        except (PrimePodsError, ValueError) as exc:
            log.info("pod %s could not be read: %s", quote(pod_id), exc)
            return None

    def _provable(self, order: Order, found: list[Pod]) -> list[Pod]:
        """Return those of the found pods that only this order can have created."""
        candidates = [pod for pod in found if order.may_be_ours(pod)]
        if not candidates or isinstance(order.spec.name, UniqueName):
            return candidates
        # A pod in a lease file was ordered by that lease; an unreadable file may name any of the candidates.
        try:
            ledger = read_ledger(lease_folder())
        except ConfigError:
            return []
        if ledger.unreadable:
            return []
        leased = {record.pod_id for record in ledger.records.values()}
        return [pod for pod in candidates if pod.id not in leased]


def check_specs(spec: PodSpec | Iterable[PodSpec]) -> list[PodSpec]:
    """Return one or several specs as a list.

    Raises:
        TypeError: A value is not a :class:`PodSpec`.
        ValueError: The iterable is empty.
    """
    if not isinstance(spec, Iterable):
        return [check_spec(spec)]
    specs = [check_spec(each) for each in spec]
    if not specs:
        raise ValueError("spec must be a PodSpec or several, got none")
    return specs


def check_spec(spec: PodSpec) -> PodSpec:
    """Return ``spec`` if it is a :class:`PodSpec`.

    Raises:
        TypeError: It is not.
    """
    if not isinstance(spec, PodSpec):
        raise TypeError(
            f"spec must be a PodSpec, got {quote(spec)}: use PodSpec.from_offer(offer) or PodSpec(…)"
        )
    return spec
