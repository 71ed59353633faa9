"""From decoded JSON to what is known of pods: the answers that are more than rows."""

from __future__ import annotations

from typing import Any, Final

from .._utils.strict_json import is_list, is_object, show
from ..models import Pod, PodState, PodStatus
from .fields import wrong_type
from .rows import DecodedRows, as_object, decode_object, rows_of

_LOG_KEYS: Final = ("logs", "log", "data", "message", "line", "content", "output")


def decode_pod(data: Any, pod_id: str) -> Pod:
    """Decode the answer of ``GET /pods/{id}``; ``pod_id`` stands in for an id that it lacks."""
    row = as_object(data)
    pod = decode_object(row if row.get("id") is not None else {**row, "id": pod_id}, Pod)
    if pod.id != pod_id:
        # A cache or a proxy that mixes up answers: this is the state of another pod.
        raise wrong_type(repr(pod_id), pod.id).inside("id")
    return pod


def decode_statuses(data: Any) -> DecodedRows[PodStatus]:
    """Decode the rows of ``GET /pods/status``; ``data: null`` has none."""
    return rows_of(as_object(data), PodStatus)


def decode_deletion(data: Any) -> PodState | None:
    """Decode the answer of ``DELETE /pods/{id}``; ``None`` where it names no state."""
    status = data.get("status") if is_object(data) else None
    return PodState(status) if isinstance(status, str) else None


def decode_log(data: Any) -> str:
    """Find the text in whatever JSON the log came wrapped in."""
    try:
        return _log_text(data)
    except RecursionError:
        return show(data)


def _log_text(data: Any) -> str:
    if data is None:
        return ""
    if isinstance(data, str):
        return data
    if is_list(data):
        return "\n".join([_log_text(item) for item in data])
    if is_object(data):
        for key in _LOG_KEYS:
            if key in data:
                return _log_text(data[key])
    return show(data)
