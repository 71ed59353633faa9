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
        names = (*shown_fields(type(self)), *derived_types(type(self)))
        return {name: to_plain(getattr(self, name)) for name in names}

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Describe the keys and types of :meth:`to_dict` to pydantic and FastAPI."""
        from .json_schema import core_schema_of  # noqa: PLC0415 - only pydantic calls this

        return core_schema_of(cls, source, handler)


def derived_types(kind: Any) -> dict[str, Any]:
    """Return the names and types of the properties that :meth:`ToDict.to_dict` adds, from ``_DERIVED``."""
    return dict(getattr(kind, "_DERIVED", ()))


def shown_fields(kind: Any) -> tuple[str, ...]:
    """Return the names of the fields of ``kind`` that its ``repr``, JSON, schemas and tables show.

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

    NaN and infinity become ``None``. A value of any other type becomes its text. The schemas of
    :mod:`.json_schema` say the same of the types.
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
