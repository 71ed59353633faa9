"""Event of a wait that has ended, and its conversion to a task's result or error."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

from airflow.providers.common.compat.sdk import AirflowException, AirflowFailException

from .. import NotFoundError, PodFailedError, PodStatus, PrimePodsError, WaitError, WaitTimeoutError
from .exceptions import PodTaskError, PodTimeoutError


class PodEvent(TypedDict):
    """Event of a wait that has ended, in a trigger or in a worker.

    Attributes:
        status: ``success``, ``failed`` (the pod will not become ready, or does not exist), ``timeout``, or
            ``error`` (any other error).
        message: A sentence about the result, or the error's message.
        pod: The last known status, without secrets; ``None`` if the pod is gone or its status is unknown.
    """

    status: Literal["success", "failed", "timeout", "error"]
    message: str
    pod: dict[str, Any] | None


def success(pod_id: str, status: PodStatus | None) -> PodEvent:
    """Return the event of a successful wait; without a status, the pod is gone."""
    if status is None:
        return {"status": "success", "message": f"Pod {pod_id} is gone.", "pod": None}
    return {"status": "success", "message": f"Pod {pod_id} is ready.", "pod": status.to_dict()}


def failure(error: PrimePodsError) -> PodEvent:
    """Return the event of a wait that has ended with ``error``."""
    last_status = next(iter(error.statuses.values()), None) if isinstance(error, WaitError) else None
    pod = None if last_status is None else last_status.to_dict()
    if isinstance(error, PodFailedError | NotFoundError):
        return {"status": "failed", "message": str(error), "pod": pod}
    if isinstance(error, WaitTimeoutError):
        return {"status": "timeout", "message": str(error), "pod": pod}
    return {"status": "error", "message": f"{type(error).__name__}: {error}", "pod": pod}


def pod_or_raise(
    event: PodEvent, *, on_timeout: type[AirflowException] = PodTimeoutError
) -> dict[str, Any] | None:
    """Return the pod's status if the wait succeeded.

    Raises:
        AirflowFailException: The pod will not become ready or does not exist, so a retry cannot help.
        PodTaskError: Any other failure; ``on_timeout`` for a timeout.
    """
    match event["status"]:
        case "success":
            return event["pod"]
        case "failed":
            raise AirflowFailException(event["message"])
        case "timeout":
            raise on_timeout(event["message"])
        case _:
            raise PodTaskError(event["message"])
