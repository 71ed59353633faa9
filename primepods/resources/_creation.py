"""Creating a pod: one POST, never repeated if it may have been received.

If the outcome is uncertain (no response, an unreadable one, a server error), a search for the pod's name in
the list settles it. A unique name is proof. A name that the user chose proves nothing, so the ids of its
namesakes are listed before the order, and afterwards only a single new one is accepted. There are three
outcomes: the pod; an error that proves that none was created; and
:class:`~primepods.CreateUncertainError`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import Any, Final

import attrs

from .._decoding.fields import DecodeError
from .._decoding.pods import decode_pod
from .._decoding.rows import as_object, decode_object
from .._http.executor import RequestExecutor
from .._http.request import PODS, Request, pod_request
from .._utils.arguments import check_amount, check_id
from .._utils.exceptions import copy_exception
from .._utils.strict_json import dumps
from .._utils.text import quote
from .._utils.unique_names import UniqueName, is_respelled, is_same_name, unique_name
from ..config import lease_folder
from ..errors import (
    APIError,
    ClientClosedError,
    ConfigError,
    CreateUncertainError,
    PrimePodsError,
    TransportError,
)
from ..leasing.ledger import read_ledger
from ..leasing.pods_api import LOOKUP_TIMEOUT, UNAUTHORIZED, PodsAPI, find_namesakes
from ..leasing.server_time import expiring_name
from ..leasing.shared_list import LIST_PAGE_SIZE, LIST_TIMEOUT
from ..models import Pod, PodState
from ..specs import CUSTOM_IMAGE, PodSpec
from ._refusals import explain

log = logging.getLogger("primepods")

_OVER: Final = frozenset({PodState.STOPPED, PodState.DELETING, PodState.TERMINATED})
_DATE_TOLERANCE: Final = 5.0
"""Seconds by which the server's ``Date`` may be ahead of its creation times."""
_UNPROVEN: Final = frozenset({HTTPStatus.CONFLICT, 499})
"""Refusals that a gateway can cause by sending an order twice."""

_WIRE_NAMES: Final[Mapping[str, str]] = {
    "name": "name",
    "cloud_id": "cloudId",
    "gpu_type": "gpuType",
    "socket": "socket",
    "gpu_count": "gpuCount",
    "disk_size": "diskSize",
    "vcpus": "vcpus",
    "memory": "memory",
    "max_price": "maxPrice",
    "image": "image",
    "custom_template_id": "customTemplateId",
    "data_center_id": "dataCenterId",
    "country": "country",
    "security": "security",
    "jupyter_password": "jupyterPassword",
    "ssh_key_id": "sshKeyId",
    "auto_restart": "autoRestart",
    "prepaid_for_hr": "prepaidForHr",
}
"""Fields of a spec that are copied unchanged under ``pod`` in the body."""


@attrs.define(eq=False)
class _Order:
    """State of one order.

    Attributes:
        spec: The ordered spec; it has a name.
        namesakes: The pods that had the name before; ``None`` if the list could not be read completely.
        is_alone: Whether this process had no other order of this name in flight meanwhile.
        since: The server's time before the order; minus infinity if unknown.
        response_id: The id in the response, even if it is another order's pod.
        error: The error of the order.
    """

    spec: PodSpec
    namesakes: frozenset[str] | None = frozenset()
    is_alone: bool = True
    since: float = -math.inf
    response_id: str | None = None
    error: PrimePodsError | None = None

    @property
    def name(self) -> str:
        """The ordered name."""
        return self.spec.name or ""

    def decode(self, data: Any) -> Pod:
        """Decode the response, and record its id even if the rest is invalid."""
        if isinstance(pod_id := as_object(data).get("id"), str):
            self.response_id = pod_id
        pod = decode_object(data, Pod)
        try:
            check_id(pod.id)
        except ValueError as exc:
            raise DecodeError("id", str(exc), pod.id) from None
        if not self.is_named(pod):
            # A cache or proxy has mixed up responses: this is another order's pod.
            raise DecodeError(
                "name", f"expected {self.name!r} and a new pod, got {quote(pod.name)}", pod.name
            )
        return pod

    def owns_response_id(self, pod: Pod) -> bool:
        """Tell whether the pod of the response's id is this order's."""
        if self.is_named(pod):
            return True
        # A server may drop or shorten a name: then the pod must at least be new.
        can_be_named = pod.name is None or is_respelled(self.name, pod.name)
        return can_be_named and self.since > -math.inf and self._is_new(pod)

    def is_named(self, pod: Pod) -> bool:
        """Tell whether a pod has the ordered name and did not exist before."""
        is_older = self.namesakes is not None and pod.id in self.namesakes
        return not is_older and is_same_name(self.name, pod.name)

    def _is_new(self, pod: Pod) -> bool:
        if self.namesakes is None or pod.id in self.namesakes or pod.created_at is None:
            return False
        return pod.created_at.timestamp() >= self.since - _DATE_TOLERANCE

    def may_be_ours(self, pod: Pod) -> bool:
        """Tell whether a pod with the name can be this order's."""
        if isinstance(self.spec.name, UniqueName):
            return True
        return self.is_alone and self._is_new(pod)


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
        spec = self._named(spec)
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
                *(pod.id, pod.price_hr, spec.max_price),
            )
        return pod

    async def order(self, spec: PodSpec) -> Pod:
        """Create a pod.

        Raises:
            CreateUncertainError: It may have been created.
            PrimePodsError: Any other error: it was not created.
        """
        order = _Order(self._named(spec))
        request = _request(order.spec, self._executor.settings.team_id)
        # Raise for a closed client here, before anything may be sent.
        self._executor.transport.check()
        if isinstance(order.spec.name, UniqueName):
            return await self._send(order, request)
        with _under_way(order):
            await self._list_namesakes(order)
            return await self._send(order, request)

    def _named(self, spec: PodSpec) -> PodSpec:
        """Return the spec, with a unique name if it has none."""
        if check_spec(spec).name is not None:
            return spec
        return attrs.evolve(spec, name=unique_name("primepods", self._clock.random))

    async def _find_refused(self, spec: PodSpec, refusal: APIError) -> Pod | None:
        """Search the list once for the pod of a refused order: a gateway may have sent the order twice.

        Raises:
            CreateUncertainError: There are several.
        """
        name = spec.name
        if not isinstance(name, UniqueName) or isinstance(refusal, UNAUTHORIZED):
            return None
        found: list[Pod] = []
        with suppress(TimeoutError):
            async with self._clock.timeout_at(self._clock.time() + LIST_TIMEOUT):
                listed, _ = await self._pods.list(page_size=LIST_PAGE_SIZE).collect()
                found = [pod for pod in listed if is_same_name(name, pod.name)]
        if len(found) > 1:
            raise _uncertain(_Order(spec, error=refusal), found, "") from refusal
        if found:
            log.warning("the order of pod %s was refused, and carried out: %s", name, refusal)
        return found[0] if found else None

    async def ensure(self, spec: PodSpec) -> Pod:
        """Return a pod with the spec's name; see :meth:`primepods.AsyncPods.ensure`."""
        name = check_spec(spec).name
        if name is None:
            raise ValueError("pods.ensure needs PodSpec.name: it finds the pod by that")
        living, unreadable = await self._pods.list().find(
            lambda pod: is_same_name(name, pod.name) and not pod.has_failed and pod.status not in _OVER
        )
        if living:
            # Prefer the exact name to one that the server may have changed.
            return min(living, key=lambda pod: (pod.name != name, str(pod.created_at), pod.id))
        if unreadable is not None:
            # The unreadable row may be the pod.
            raise unreadable
        return await self.create(spec)

    async def _send(self, order: _Order, request: Request) -> Pod:
        """Send an order and determine its outcome."""
        log.info("ordering the pod %r", order.name)
        sent_at = self._clock.boottime()
        with _warn_if_interrupted(order.name):
            try:
                return await self._executor.call(request, order.decode)
            except PrimePodsError as exc:
                order.error = explain(exc.with_traceback(None))
            if _is_definitive_rejection(order.error):
                # A copy: this frame keeps the order, and with it the error.
                raise copy_exception(order.error)
            now = self._executor.transport.server_clock.now()
            if now is not None and order.since == -math.inf:
                order.since = now - (self._clock.boottime() - sent_at)
            return await self._settle(order)

    async def _list_namesakes(self, order: _Order) -> None:
        """Record which pods already have the name.

        Raises:
            PrimePodsError: No row could be read, so nothing is ordered.
        """
        listed, error = await self._pods.list().collect()
        if error is not None and not listed:
            raise error
        namesakes = frozenset(pod.id for pod in listed if is_same_name(order.name, pod.name))
        # An unreadable row may be a namesake.
        order.namesakes = None if error else namesakes
        order.since = self._executor.transport.server_clock.now() or -math.inf

    async def _settle(self, order: _Order) -> Pod:
        """Return the pod that an order has created.

        Raises:
            CreateUncertainError: No pod is provably this order's.
        """
        log.warning("whether the pod %r exists is unknown: searching the list for it", order.name)
        found: list[Pod] = []
        try:
            if (pod := await self._pod_of_response(order)) is not None:
                return pod
            found, shown = await find_namesakes(
                self._pods, order.name, self._clock, lambda pods: len(self._ours(order, pods)) == 1
            )
            # It may have appeared meanwhile, under a name that the server changed.
            if not found and (pod := await self._pod_of_response(order)) is not None:
                return pod
        except ClientClosedError:
            shown = "the client was closed"
        if len(ours := self._ours(order, found)) == 1:
            return ours[0]
        raise _uncertain(order, found, shown) from order.error

    async def _pod_of_response(self, order: _Order) -> Pod | None:
        """Return the pod of the response's id, if `get` shows that it is this order's."""
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

    def _ours(self, order: _Order, namesakes: list[Pod]) -> list[Pod]:
        """Return the listed pods with the name that can only be this order's."""
        ours = [pod for pod in namesakes if order.may_be_ours(pod)]
        if not ours or isinstance(order.spec.name, UniqueName):
            return ours
        try:
            ledger = read_ledger(lease_folder())
        except ConfigError:
            return []
        leased = {record.pod_id for record in ledger.records.values()}
        # An unreadable lease file may be about any of them.
        return [] if ledger.unreadable else [pod for pod in ours if pod.id not in leased]


def check_specs(spec: PodSpec | Iterable[PodSpec]) -> list[PodSpec]:
    """Return one or several specs as a list.

    Raises:
        TypeError: One is not a :class:`PodSpec`.
        ValueError: There are none.
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


_orders_under_way: Final[set[_Order]] = set()
"""Orders in flight under names that users chose."""


@contextmanager
def _under_way(order: _Order) -> Generator[None, None, None]:
    """Mark concurrent orders of the same name in the block: a new pod could belong to either."""
    for other in list(_orders_under_way):
        if is_same_name(order.name, other.name):
            order.is_alone = other.is_alone = False
    _orders_under_way.add(order)
    try:
        yield
    finally:
        _orders_under_way.discard(order)


@contextmanager
def _warn_if_interrupted(name: str) -> Generator[None, None, None]:
    """Log the pod's name, and add it as a note, if the block is interrupted."""
    try:
        yield
    except PrimePodsError:
        raise
    except BaseException as exc:
        text = f"pods.create was interrupted: the pod {name!r} may exist. {_remedy(name)}"
        log.warning("%s", text)
        exc.add_note(text)
        raise


def _request(spec: PodSpec, team_id: str | None) -> Request:
    pod = {wire: getattr(spec, name) for name, wire in _WIRE_NAMES.items()}
    if spec.image is None and spec.custom_template_id is not None:
        pod["image"] = CUSTOM_IMAGE
    if spec.env_vars:
        pod["envVars"] = [{"key": key, "value": value} for key, value in spec.env_vars.items()]
    body: dict[str, Any] = {
        "pod": {key: value for key, value in pod.items() if value is not None},
        "provider": {"type": spec.provider},
    }
    team = spec.team_id or team_id
    optional = {
        "disks": spec.disks,
        "team": team and {"teamId": team},
        # The schema spells these two in snake_case, unlike the other keys.
        "team_member_ids": spec.team_member_ids,
        "shared_with_team": spec.shared_with_team,
    }
    body |= {key: value for key, value in optional.items() if value}
    return Request(method="POST", path=f"{PODS}/", body=dumps(body))


def _is_definitive_rejection(error: PrimePodsError) -> bool:
    """Tell whether an error proves that no pod was created."""
    if isinstance(error, TransportError):
        return not error.maybe_received
    if not isinstance(error, APIError) or error.maybe_acted:
        return False
    if error.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        return True
    is_refusal = HTTPStatus.BAD_REQUEST <= error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR
    if error.status_code in _UNPROVEN:
        return False
    # Only a JSON body is the API's own: a gateway's page does not show what the API did.
    return is_refusal and not error.transient and isinstance(error.body, dict)


def _uncertain(order: _Order, namesakes: list[Pod], shown: str) -> CreateUncertainError:
    ids = [pod.id for pod in namesakes]
    if ids:
        shown = f"of this name, but not provably of this order: {', '.join(ids)}"
    if order.response_id is not None and order.response_id not in ids:
        ids.append(order.response_id)
        shown = f"the response named pod {order.response_id}, which is not provably of this order; {shown}"
    text = (
        f"Whether the pod {order.name!r} exists is unknown: {order.error} "
        f"A search of {LOOKUP_TIMEOUT:g} s showed: {shown}. {_remedy(order.name)}"
    )
    return CreateUncertainError(text, name=order.name, candidates=tuple(ids))


def _remedy(name: str) -> str:
    return (
        f"It may appear yet, and is billed from then on: look for {name!r} in `pods.list()`, and in "
        "`pods.history()` in case it failed at once; delete what you do not want before you order again."
    )
