"""Decoders of responses about single pods, and of statuses, deletions and logs."""

from __future__ import annotations

from typing import Any, Final

import attrs

from .._utils.strict_json import is_list, is_object, show
from ..models import Pod, PodState, PodStatus
from .fields import DecodeError, as_text, wrong_type
from .rows import as_object, decode_item, rows_of

_LOG_KEYS: Final = ("logs", "log", "data")
"""Imagined: the log's structure is not documented."""


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
    """Return the text of a log: a text or a list of lines, perhaps under a key; anything else as JSON."""
    if is_object(data):
        data = next((data[key] for key in _LOG_KEYS if key in data), data)
    lines = data if is_list(data) else [data or ""]
    return "\n".join([line if isinstance(line, str) else show(line) for line in lines])
