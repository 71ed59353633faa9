"""One question to the API: a request, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .._fields import DecodeError
from .._session import Session
from .._wire import PODS, Request, pod_path

T = TypeVar("T")


def pod_request(method: str, pod_id: str) -> Request:
    """Ask something of one pod.

    Raises:
        TypeError: The id is no string.
        ValueError: The id is none.
    """
    return Request(method=method, path=pod_path(pod_id), route=f"{PODS}/{{id}}")


async def ask(session: Session, request: Request, decode: Callable[[Any], T]) -> T:
    """Send ``request`` and return its answer, decoded.

    Raises:
        ProtocolError: The answer's JSON has not the promised shape.
    """
    data = await session.call(request)
    try:
        return decode(data)
    except DecodeError as exc:
        error = session.broken(request, path=exc.path, reason=exc.reason, value=exc.value)
    del data  # A traceback that prints locals would print passwords with it.
    raise error
