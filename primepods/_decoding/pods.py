"""Decoders of responses about single pods and disks, and of statuses, deletions and logs."""

from __future__ import annotations

from typing import Any, Final

import attrs

from .._utils.strict_json import is_list, is_object, show
from ..models import Pod, PodState, PodStatus
from .fields import DecodeError, as_text, wrong_type
from .rows import as_object, decode_item, rows_of

_LOG_KEYS: Final = ("logs", "log", "data", "message", "line", "content", "output")


def decode_pod(data: Any, pod_id: str) -> Pod:
    """Decode the response to ``GET /pods/{id}``."""
    return decode_item(data, Pod, pod_id)


def decode_statuses(data: Any) -> tuple[list[PodStatus], list[DecodeError]]:
    """Decode the rows of ``GET /pods/status``."""
    return rows_of(as_object(data), PodStatus)


@attrs.frozen
class DeletionResponse:
    """State and id from the response to the DELETE of a pod or a disk; ``None`` if missing or not usable."""

    state: PodState | None
    pod_id: str | None


def decode_deletion(data: Any) -> DeletionResponse:
    """Decode the response to the DELETE of a pod or a disk; unexpected formats (imagined) are accepted."""
    if not is_object(data):
        return DeletionResponse(None, None)
    row_id = data.get("id")
    return DeletionResponse(_state(data), _id_text(data.get("podId") if row_id is None else row_id))


def decode_state(data: Any, pod_id: str) -> PodState | None:
    """Decode only the state from a GET of a pod or a disk; the response must have ``pod_id`` as its id."""
    row = as_object(data)
    if _id_text(row.get("id")) != pod_id:
        raise wrong_type(repr(pod_id), row.get("id")).inside("id")
    return _state(row)


def _id_text(value: Any) -> str | None:
    """Return an id of any type as text; ``None`` if it is missing."""
    try:
        return None if value is None else as_text(value)
    except DecodeError:
        return show(value)


def _state(row: dict[str, Any]) -> PodState | None:
    status = row.get("status")
    return PodState(status) if isinstance(status, str) else None


def decode_log(data: Any) -> str:
    """Return the text of a log. Its structure is not documented, so likely keys are tried (imagined)."""
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
