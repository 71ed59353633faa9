"""From decoded JSON to models.

Decoding runs in two passes. The first is fast and says nothing of where it failed; only when it fails is the
same row decoded again by a slower converter that finds the place, in the wire's spelling.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Final, Generic, TypeVar

import attrs

from .._utils.strict_json import is_list, is_object, show
from ..models import NO_EXTRA, HistoryRecord, Page, Pod, PodState, PodStatus, PortMapping, Resources
from .compiled import compile_decoder, reusing
from .fields import (
    ALIASES,
    HOOKS,
    MODELS,
    DecodeError,
    Hook,
    Mismatch,
    describe,
    integer,
    list_of,
    model_hooks,
    unknown,
    wire_names,
)

T = TypeVar("T")

_REPEATED: Final = frozenset({PortMapping, Resources})
"""Parts of a row that are mostly like those of other rows."""
_WORDS: Final = frozenset({"provider_type", "internal", "protocol", "used_by"})
"""Texts of which there are few: without sharing they are a tenth of what a watched pod costs."""
_LOG_KEYS: Final = ("logs", "log", "data", "message", "line", "content", "output")


@attrs.frozen(kw_only=True)
class DecodedRows(Generic[T]):
    """The rows of an answer: those that could be read, and an error for each that could not."""

    rows: tuple[T, ...]
    errors: tuple[DecodeError, ...]


@attrs.frozen(kw_only=True)
class DecodedPage(Generic[T]):
    """A page of a listing with the rows that could be read, and an error for each that could not."""

    page: Page[T]
    errors: tuple[DecodeError, ...]


def decode_pod(data: Any, pod_id: str) -> Pod:
    """Decode the answer of ``GET /pods/{id}``; ``pod_id`` stands in for an id that it lacks."""
    row = _object(data, "")
    pod = _row(row if row.get("id") is not None else {**row, "id": pod_id}, Pod, "")
    if pod.id != pod_id:
        # A cache or a proxy that mixes up answers: this is the state of another pod.
        raise DecodeError("id", str(Mismatch(describe(pod_id), pod.id)), pod.id)
    return pod


def decode_new_pod(data: Any) -> Pod:
    """Decode the answer of ``POST /pods/``; without an id it is none."""
    return _row(_object(data, ""), Pod, "")


def decode_pods(data: Any, offset: int, limit: int) -> DecodedPage[Pod]:
    """Decode a page of ``GET /pods/``."""
    return _page(data, Pod, offset, limit)


def decode_history(data: Any, offset: int, limit: int) -> DecodedPage[HistoryRecord]:
    """Decode a page of ``GET /pods/history``."""
    return _page(data, HistoryRecord, offset, limit)


def decode_statuses(data: Any) -> DecodedRows[PodStatus]:
    """Decode the rows of ``GET /pods/status``; ``data: null`` has none."""
    return _rows(_object(data, ""), PodStatus)


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


def _object(data: Any, path: str) -> dict[str, Any]:
    if not is_object(data):
        raise DecodeError(path, str(Mismatch("an object", data)), data)
    return data


def _page(data: Any, model: type[T], offset: int, limit: int) -> DecodedPage[T]:
    body = _object(data, "")
    decoded = _rows(body, model)
    page = Page(
        total_count=_count(body.get("total_count"), "total_count"),
        offset=_count(body.get("offset"), "offset", offset) or 0,
        limit=_count(body.get("limit"), "limit", limit) or 0,
        data=decoded.rows,
    )
    return DecodedPage(page=page, errors=decoded.errors)


def _count(value: Any, path: str, default: int | None = None) -> int | None:
    try:
        return default if value is None else max(0, integer(value, int))
    except Mismatch as exc:
        raise DecodeError(path, str(exc), value) from None


def _rows(body: dict[str, Any], model: type[T]) -> DecodedRows[T]:
    """Decode the rows under ``data`` one by one: one that cannot be read hides no other."""
    if "data" not in body:
        raise DecodeError("data", "is missing", body)
    rows = body["data"]
    if rows is None:
        return DecodedRows(rows=(), errors=())
    if not is_list(rows):
        raise DecodeError("data", str(Mismatch("a list", rows)), rows)
    done: list[T] = []
    errors: list[DecodeError] = []
    for index, row in enumerate(rows):
        try:
            done.append(_row(row, model, f"data[{index}]"))
        except DecodeError as exc:
            # Without frames, whose variables hold all that was received.
            exc.__context__ = None
            exc.index = index
            errors.append(exc.with_traceback(None))
    return DecodedRows(rows=tuple(done), errors=tuple(errors))


def _row(row: Any, model: type[T], path: str) -> T:
    """Decode one row."""
    try:
        made: T = fast_hooks()[model](row, model)
    except Exception:  # noqa: BLE001 - the second pass raises it again, with its place
        from .precise import decode_again  # noqa: PLC0415 - only what is wrong needs it

        return decode_again(row, model, path)
    return made


@cache
def fast_hooks() -> Mapping[Any, Hook]:
    """Return the hooks of the first pass, made at its first use."""
    hooks = dict(HOOKS)
    for model in MODELS:
        one: Hook = compile_decoder(
            model,
            wire_names(model),
            hooks.__getitem__,
            aliases=ALIASES.get(model, {}),
            extra=NO_EXTRA,
            unknown=unknown,
            words=_WORDS,
        )
        many: Hook = list_of(one)
        if model in _REPEATED:
            one, many = reusing(one), reusing(many)
        hooks |= model_hooks(model, one, many)
    return hooks
