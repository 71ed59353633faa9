"""Conversion of models to data that ``json`` can write, and the fields that may be shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

import attrs


class ToDict:
    """Base of attrs classes that can be converted to JSON."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """Return a dict that ``json.dumps`` can write, with snake_case names and times in ISO 8601.

        Fields that may not be shown are left out, such as passwords and ``extra``. Some properties are added,
        such as ``is_ready`` and ``ssh`` of a pod, or ``price_hr`` of an offer.
        """
        names = (*shown_fields(type(self)), *getattr(self, "_DERIVED", ()))
        return {name: to_plain(getattr(self, name)) for name in names}


def shown_fields(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of ``kind`` that its ``repr``, JSON and tables show.

    A field that is declared with ``repr=False`` or a redacting ``repr`` is in none of them.
    """
    return tuple(field.name for field in attrs.fields(kind) if field.repr is True)


def summary_fields(kind: Any) -> tuple[str, ...]:
    """Return the names of the attributes that a table of instances of ``kind`` shows.

    A class lists them in ``_SUMMARY_FIELDS``; the default is :func:`shown_fields`.
    """
    names: tuple[str, ...] | None = getattr(kind, "_SUMMARY_FIELDS", None)
    return names or shown_fields(kind)


def to_plain(value: Any) -> Any:
    """Convert models, enums, times, errors and containers to what ``json`` can write.

    NaN and infinity become ``None``. A value of any other type becomes its text.
    """
    if isinstance(value, ToDict):
        return value.to_dict()
    # No `isinstance`: after it, type checkers complain about the unknown types of the items.
    if issubclass(type(value), Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if issubclass(type(value), tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime):
        return value.isoformat()
    return value if value is None or isinstance(value, str | int) else str(value)
