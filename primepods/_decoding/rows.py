"""Decoders of objects and of lists of rows, in which an unreadable row does not hide the others."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from .._utils.strict_json import is_list, is_object, show
from ..models import Page, Pod, PodStatus
from .fields import DecodeError, as_integer, as_text, wrong_type

if TYPE_CHECKING:
    from cattrs import Converter

    from ..models.account import Disk

T = TypeVar("T")
D = TypeVar("D", int, None)
Item = TypeVar("Item", bound="Pod | Disk")


def as_object(data: Any) -> dict[str, Any]:
    if not is_object(data):
        raise wrong_type("an object", data)
    return data


def decode_object(data: Any, model: type[T]) -> T:
    return _hook_of(model)(as_object(data), model)


def decode_item(data: Any, model: type[Item], item_id: str) -> Item:
    """Decode the response about one pod or disk; a response without an id gets ``item_id``."""
    row = as_object(data)
    item = decode_object(row if row.get("id") is not None else {**row, "id": item_id}, model)
    if item.id != item_id:
        # A cache or proxy may mix up responses (imagined).
        raise wrong_type(repr(item_id), item.id).inside("id")
    return item


def decode_page(  # noqa: PLR0913 - two kinds of listings have different keys
    data: Any,
    model: type[T],
    offset: int,
    limit: int,
    *,
    rows_key: str = "data",
    count_key: str = "total_count",
) -> tuple[Page[T], list[DecodeError]]:
    """Decode a page of a listing; return the readable rows, and an error for each other row.

    Args:
        data: The response.
        model: The class of the rows.
        offset: Offset of the page, if the response does not have it.
        limit: Max number of rows on the page, if the response does not have it.
        rows_key: Key of the rows.
        count_key: Key of their total number.
    """
    body = as_object(data)
    rows, errors = rows_of(body, model, rows_key)
    page = Page(
        total_count=_count(body, count_key, None),
        offset=_count(body, "offset", offset),
        limit=_count(body, "limit", limit),
        data=tuple(rows),
    )
    return page, errors


def decode_listed_ids(data: Any, offset: int, limit: int) -> Page[str]:
    """Decode only the ids of the rows on a page; the rows may be unreadable otherwise.

    For a row without an id, the page has the row's JSON text.

    Raises:
        DecodeError: The response is not a page, ``total_count`` is missing, or there are rows and none has an
            id.
    """
    body = as_object(data)
    total_count = _count(body, "total_count", None)
    if total_count is None:
        raise DecodeError("total_count", "is missing", None)
    rows = _raw_rows(body, "data")
    ids = [_row_id(row, "id") for row in rows]
    if rows and not any(ids):
        raise DecodeError("data[0].id", "is missing", rows[0])
    return Page(
        total_count=total_count,
        offset=_count(body, "offset", offset),
        limit=_count(body, "limit", limit),
        data=tuple(row_id or show(row) for row_id, row in zip(ids, rows, strict=True)),
    )


def _count(body: dict[str, Any], key: str, default: D) -> int | D:
    value = body.get(key)
    try:
        return default if value is None else max(0, as_integer(value))
    except DecodeError as exc:
        raise exc.inside(key) from None


def rows_of(body: dict[str, Any], model: type[T], key: str = "data") -> tuple[list[T], list[DecodeError]]:
    """Decode the rows under ``key``; return the readable rows, and an error for each other row."""
    rows = _raw_rows(body, key)
    hook = _hook_of(model)
    # A status row names its pod by `podId`; all other rows have an `id`.
    id_key = "podId" if model is PodStatus else "id"
    models: list[T] = []
    errors: list[DecodeError] = []
    for index, row in enumerate(rows):
        try:
            models.append(hook(row, model))
        except DecodeError as exc:
            error = exc.inside(index).inside(key)
            error.row = row
            error.row_id = _row_id(row, id_key)
            error.index = index
            errors.append(error)
    return models, errors


def _raw_rows(body: dict[str, Any], key: str) -> list[Any]:
    """Return the undecoded rows under ``key``; ``null`` (documented for statuses) means no rows."""
    if key not in body:
        raise DecodeError(key, "is missing", body)
    rows = body[key]
    if rows is None:
        return []
    if not is_list(rows):
        raise wrong_type("a list", rows).inside(key)
    return rows


def _row_id(row: Any, key: str) -> str | None:
    """Return the id of an undecoded row; ``None`` if it has no valid id."""
    try:
        return as_text(row[key])
    except (LookupError, TypeError, DecodeError):
        return None


def _hook_of(model: type[T]) -> Callable[[Any, Any], T]:
    hook: Callable[[Any, Any], T] = _converter().get_structure_hook(model)
    return hook


@cache
def _converter() -> Converter:
    from .converter import make_converter  # noqa: PLC0415 - loads cattrs

    return make_converter()
