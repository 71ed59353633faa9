"""Faults that change or remove the JSON of the API's response."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

import attrs
from attrs import validators

from .._api.http import Response, encode
from ._base import COUNT, FLAG, TEXT, Fault

_ROW_KEYS = {"data", "items"}
_TOTAL_KEYS = {"total_count", "totalCount"}


def _as_tuple(value: str | Iterable[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@attrs.frozen
class Edit(Fault):
    """The API acts; the JSON of its response is changed.

    Places are paths with dots: ``total_count``, ``data.0`` (the first row), ``data.0.status``. Places that
    the response does not have are ignored, but ``put`` can add keys. A response without JSON is unchanged.
    The arguments apply in the order ``rows``, ``drop``, ``put``, ``change``.

    Args:
        change: Function from the JSON to its replacement; not available over HTTP.
        put: Values to set, by place.
        drop: Places to remove.
        rows: Max rows to keep.
    """

    change: Callable[[Any], object] | None = attrs.field(
        default=None, validator=validators.optional(validators.is_callable())
    )
    put: dict[str, object] = attrs.field(
        factory=dict[str, object], kw_only=True, validator=validators.instance_of(dict)
    )
    drop: tuple[str, ...] = attrs.field(
        default=(), kw_only=True, converter=_as_tuple, validator=validators.deep_iterable(TEXT)
    )
    rows: int | None = attrs.field(default=None, kw_only=True, validator=validators.optional(COUNT))

    def outcome(self, response: Response) -> Response:
        try:
            body: Any = json.loads(response.body)
        except ValueError:
            return response
        if self.rows is not None:
            fields = _fields_of(body)
            for name in _row_keys_of(fields):
                fields[name] = fields[name][: self.rows]
        for place in self.drop:
            _edit(body, place, drop=True)
        for place, value in self.put.items():
            _edit(body, place, value)
        changed = body if self.change is None else self.change(body)
        return attrs.evolve(response, body=encode(changed))


@attrs.frozen
class EmptyData(Fault):
    """An empty replica: the response has no rows, and its totals are 0. With ``null=True``, rows are null."""

    null: bool = attrs.field(default=False, validator=FLAG)

    def outcome(self, response: Response) -> Response:
        rows: Any = None if self.null else []

        def empty(body: Any) -> Any:
            fields = _fields_of(body)
            fields |= dict.fromkeys(_row_keys_of(fields), rows)
            fields |= dict.fromkeys(_TOTAL_KEYS & fields.keys(), 0)
            return body

        return Edit(empty).outcome(response)


@attrs.frozen
class Empty(Fault):
    """The API acts; its response keeps the status and the headers, but loses the body."""

    def outcome(self, response: Response) -> Response:
        return attrs.evolve(response, body=b"")


def _fields_of(body: Any) -> dict[str, Any]:
    """Return ``body`` itself if it is an object, else an empty dict."""
    return cast("dict[str, Any]", body) if isinstance(body, dict) else {}


def _row_keys_of(fields: dict[str, Any]) -> list[str]:
    """Return the keys of lists of rows: ``data`` may also be an object, or text."""
    return [name for name in _ROW_KEYS & fields.keys() if isinstance(fields[name], list)]


def _edit(body: Any, place: str, value: object = None, *, drop: bool = False) -> None:
    """Set or remove the value at a place, if the place exists or is a new key."""
    *parents, last = place.split(".")
    target = body
    with suppress(LookupError, TypeError, ValueError):
        for name in parents:
            target = target[_index_or_key(target, name)]
        if drop:
            del target[_index_or_key(target, last)]
        else:
            target[_index_or_key(target, last)] = value


def _index_or_key(parent: object, name: str) -> int | str:
    return int(name) if isinstance(parent, list) else name
