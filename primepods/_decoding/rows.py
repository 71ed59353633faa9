"""From decoded JSON to models: one function for each kind of answer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import attrs

from .._utils.strict_json import is_list, is_object, show
from ..keys import SSHKey
from ..models import HistoryRecord, Page, Pod, PodState, PodStatus
from ..offers import DiskOffer, Offer
from .fields import DecodeError, as_integer, as_text, wrong_type

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")
D = TypeVar("D", int, None)

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
    row = _object(data)
    pod = _hook(Pod)(row if row.get("id") is not None else {**row, "id": pod_id}, Pod)
    if pod.id != pod_id:
        # A cache or a proxy that mixes up answers: this is the state of another pod.
        raise wrong_type(repr(pod_id), pod.id).inside("id")
    return pod


def decode_new_pod(data: Any) -> Pod:
    """Decode the answer of ``POST /pods/``; without an id it is none."""
    return _hook(Pod)(_object(data), Pod)


def decode_pods(data: Any, offset: int, limit: int) -> DecodedPage[Pod]:
    """Decode a page of ``GET /pods/``."""
    return _page(data, Pod, offset, limit)


def decode_history(data: Any, offset: int, limit: int) -> DecodedPage[HistoryRecord]:
    """Decode a page of ``GET /pods/history``."""
    return _page(data, HistoryRecord, offset, limit)


def decode_offers(data: Any, offset: int, limit: int) -> DecodedPage[Offer]:
    """Decode a page of ``GET /availability/gpus`` or ``multi-node``."""
    return _items(data, Offer, offset, limit)


def decode_disk_offers(data: Any, offset: int, limit: int) -> DecodedPage[DiskOffer]:
    """Decode a page of ``GET /availability/disks``."""
    return _items(data, DiskOffer, offset, limit)


def decode_ssh_keys(data: Any, offset: int, limit: int) -> DecodedPage[SSHKey]:
    """Decode a page of ``GET /ssh_keys/``."""
    return _page(data, SSHKey, offset, limit)


def decode_new_ssh_key(data: Any) -> SSHKey:
    """Decode the answer of ``POST /ssh_keys/``."""
    return _hook(SSHKey)(_object(data), SSHKey)


def decode_statuses(data: Any) -> DecodedRows[PodStatus]:
    """Decode the rows of ``GET /pods/status``; ``data: null`` has none."""
    return _rows(_object(data), PodStatus)


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


def _object(data: Any) -> dict[str, Any]:
    if not is_object(data):
        raise wrong_type("an object", data)
    return data


def _page(data: Any, model: type[T], offset: int, limit: int) -> DecodedPage[T]:
    body = _object(data)
    decoded = _rows(body, model)
    page = Page(
        total_count=_count(body, "total_count", None),
        offset=_count(body, "offset", offset),
        limit=_count(body, "limit", limit),
        data=decoded.rows,
    )
    return DecodedPage(page=page, errors=decoded.errors)


def _items(data: Any, model: type[T], offset: int, limit: int) -> DecodedPage[T]:
    """Decode a page by number, which does not say itself where it begins."""
    body = _object(data)
    decoded = _rows(body, model, "items")
    total = _count(body, "totalCount", None)
    page = Page(total_count=total, offset=offset, limit=limit, data=decoded.rows)
    return DecodedPage(page=page, errors=decoded.errors)


def _count(body: dict[str, Any], key: str, default: D) -> int | D:
    value = body.get(key)
    try:
        return default if value is None else max(0, as_integer(value))
    except DecodeError as exc:
        raise exc.inside(key) from None


def _rows(body: dict[str, Any], model: type[T], key: str = "data") -> DecodedRows[T]:
    """Decode the rows under ``key`` one by one: one that cannot be read hides no other."""
    if key not in body:
        raise DecodeError(key, "is missing", body)
    rows = body[key]
    if rows is not None and not is_list(rows):
        raise wrong_type("a list", rows).inside(key)
    hook = _hook(model)
    done: list[T] = []
    errors: list[DecodeError] = []
    for index, row in enumerate(rows or ()):
        try:
            done.append(hook(row, model))
        except DecodeError as exc:
            error = exc.inside(index).inside(key)
            error.row_id, error.index = _row_id(row, model), index
            errors.append(error)
    return DecodedRows(rows=tuple(done), errors=tuple(errors))


def _row_id(row: Any, model: Any) -> str | None:
    """Return the id in a row that cannot be read, if the id can."""
    try:
        return as_text(row["podId" if model is PodStatus else "id"])
    except (LookupError, TypeError, DecodeError):
        return None


def _hook(model: type[T]) -> Callable[[Any, Any], T]:
    """Return what reads one row; raises :class:`DecodeError` and nothing else."""
    hook: Callable[[Any, Any], T] = _converter().get_structure_hook(model)
    return hook


@cache
def _converter() -> Converter:
    # Made at its first use, so that a program that decodes nothing does not wait for cattrs to be loaded.
    from .converter import make_converter  # noqa: PLC0415 - cattrs is loaded only here

    return make_converter()
