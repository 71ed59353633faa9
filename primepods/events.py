"""Events that a client passes to ``on_event``.

``on_event`` is a plain function, such as ``print``. It runs in the client's event loop, while calls are in
progress, so it must be quick and must not call the client. Its exceptions do not reach the caller; the first
one is logged. Events contain no request headers and no bodies, and the key is redacted.

An operation is a call of a client method in progress, a lease, a watch, or an iterator's read of one page.
``pods.wait_ready`` and ``pods.wait_gone`` have the name ``pods.wait``, too. An event has the numbers of its
operations; these numbers are unique in the process. A poll that several waits share belongs to all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import attrs

from ._utils.plain import ToDict
from ._utils.text import find_request_id

__all__ = [
    "DeletionEnded",
    "Event",
    "LeaseKept",
    "LeaseReady",
    "LeaseReleased",
    "LeaseStarted",
    "OnEvent",
    "OperationEnded",
    "OperationStarted",
    "PollingPaused",
    "ReleaseFailed",
    "RequestEnded",
    "RetryScheduled",
    "WaitEnded",
    "WaitStarted",
]


@attrs.frozen(kw_only=True)
class Event(ToDict):
    """Base of all events.

    Attributes:
        operations: Numbers of the operations to which the event belongs.
    """

    operations: tuple[int, ...] = ()


OnEvent: TypeAlias = Callable[[Event], object]
"""Callback for each :class:`Event` of a client."""


@attrs.frozen(kw_only=True)
class OperationStarted(Event):
    """An operation has begun; reported in the caller's context (``contextvars``).

    Attributes:
        name: Name of the operation, such as ``pods.wait``.
        parent: Number of the enclosing operation, such as a lease; ``None`` without one.
    """

    name: str
    parent: int | None


@attrs.frozen(kw_only=True)
class OperationEnded(Event):
    """An operation has ended.

    Attributes:
        name: Name of the operation, such as ``pods.wait``.
        seconds: Duration of the operation.
        error: Name of the class of the exception that ended the operation, such as ``WaitTimeoutError``, or
            ``None``.
    """

    name: str
    seconds: float
    error: str | None


@attrs.frozen(kw_only=True)
class RequestEnded(Event):
    """One attempt at a request has ended.

    Attributes:
        method: The HTTP method.
        route: The path with ``{id}`` in place of an id; ``None`` for ``client.request``.
        base_url: The client's base URL.
        status: The status of the response, or ``None`` if there is none.
        error: Without a usable response: ``transport``, ``connect``, ``timeout``, ``deadline``, ``protocol``
            (an invalid response), or the name of the class of the exception that ended the attempt, such as
            ``CancelledError``.
        resend_count: Number of times that the request was sent again in the call so far, for any reason.
        seconds: Duration of the attempt, without the waits for ``max_concurrency`` and for the rate limit.
        headers: The headers of the response, with names in lower case; empty if there is none.
    """

    method: str
    route: str | None
    base_url: str
    status: int | None
    error: str | None
    resend_count: int
    seconds: float
    headers: Mapping[str, str] = attrs.field(factory=dict[str, str], repr=False)

    @property
    def request_id(self) -> str | None:
        """The response's ``x-request-id`` (or a similar header), for the vendor's support."""
        return find_request_id(self.headers)


@attrs.frozen(kw_only=True)
class RetryScheduled(Event):
    """An attempt has failed, and will be repeated.

    Attributes:
        method: The HTTP method.
        route: The path with ``{id}`` in place of an id; ``None`` for ``client.request``.
        attempt: Number of the failed attempt, from 1.
        status: The status of its response, or ``None`` if there is none.
        reason: The reason for the failure, without the server's text.
        delay: Seconds until the next attempt.
    """

    method: str
    route: str | None
    attempt: int
    status: int | None
    reason: str
    delay: float


@attrs.frozen(kw_only=True)
class PollingPaused(Event):
    """A 429 to a poll has paused all waits and watches, or extended their pause.

    A 429 to another call pauses them without this event.

    Attributes:
        seconds: Duration of the pause.
    """

    seconds: float


@attrs.frozen(kw_only=True)
class WaitStarted(Event):
    """A wait or a watch has joined the poller.

    Attributes:
        pods: Number of pods that it polls.
    """

    pods: int


@attrs.frozen(kw_only=True)
class WaitEnded(Event):
    """A wait or a watch has left the poller.

    Attributes:
        pods: Number of pods that it polled at its start.
        pending: Number of pods that it still polled at its end.
        seconds: Duration of the polling.
    """

    pods: int
    pending: int
    seconds: float


@attrs.frozen(kw_only=True)
class DeletionEnded(Event):
    """The deletion of a pod was accepted or has failed; reported when the call ends, once per pod.

    Attributes:
        pod_id: The pod's id.
        state: The pod's state when the call ended, such as ``DELETING``; ``None`` if the deletion failed.
        error: Name of the class of the deletion's error, such as ``NotFoundError``, or ``None``.
    """

    pod_id: str
    state: str | None
    error: str | None


@attrs.frozen(kw_only=True)
class _LeaseEvent(Event):
    """Base of the events about a leased pod.

    Attributes:
        pod_id: The pod's id.
        name: The pod's unique name.
        price_hr: The highest price per hour that was seen, else the order's ``max_price``, else 0.
        seconds: Seconds since the order.
    """

    pod_id: str
    name: str
    price_hr: float
    seconds: float


@attrs.frozen(kw_only=True)
class LeaseStarted(_LeaseEvent):
    """A pod was ordered for a lease, and may be billed."""


@attrs.frozen(kw_only=True)
class LeaseReady(_LeaseEvent):
    """A leased pod is ready, and the lease's block can begin."""


@attrs.frozen(kw_only=True)
class LeaseKept(_LeaseEvent):
    """A leased pod is kept by ``pod.keep()``, so that its lease will not delete it."""


@attrs.frozen(kw_only=True)
class LeaseReleased(_LeaseEvent):
    """A leased pod is confirmed terminated.

    Attributes:
        spent: Cost of the pod, at ``price_hr``.
    """

    spent: float


@attrs.frozen(kw_only=True)
class ReleaseFailed(Event):
    """The end of a leased pod could not be confirmed: it may be running, and billed.

    Attributes:
        pod_id: The pod's id; ``None`` if it is not known which pod the order made.
        name: The pod's unique name.
        price_hr: See :class:`primepods.NotReleasedError`.
    """

    pod_id: str | None
    name: str
    price_hr: float | None
