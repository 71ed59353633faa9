"""Schemas for pydantic and FastAPI of the dicts that ``to_dict`` returns."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from functools import reduce
from importlib import import_module
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from .plain import derived_types, shown_fields


def core_schema_of(model: Any, source: Any, handler: Any) -> Any:
    """Return a pydantic-core schema for the dict that a model's ``to_dict`` returns.

    Args:
        model: The model's class.
        source: The annotation, such as the class or ``Page[Pod]``.
        handler: pydantic's handler, which creates the schemas of the values.
    """
    # Only pydantic calls this function; primepods does not depend on pydantic.
    core_schema: Any = import_module("pydantic_core.core_schema")
    type_arguments = dict(zip(getattr(model, "__parameters__", ()), get_args(source), strict=False))
    hints = get_type_hints(model)
    key_types = {name: hints[name] for name in shown_fields(model)}
    key_types |= derived_types(model)
    fields: dict[str, Any] = {}
    for name, hint in key_types.items():
        schema = handler.generate_schema(_plain_type(hint, type_arguments))
        fields[name] = core_schema.typed_dict_field(schema, required=True)

    def as_dict(value: Any) -> Any:
        return value.to_dict() if isinstance(value, model) else value

    dict_schema = core_schema.typed_dict_schema(fields, cls_name=model.__name__)
    return core_schema.no_info_before_validator_function(as_dict, dict_schema)


def _plain_type(hint: Any, type_arguments: Mapping[Any, Any]) -> Any:
    """Return the type to which ``to_dict`` converts values of type ``hint``."""
    if isinstance(hint, TypeVar):
        return type_arguments.get(hint, Any)
    parts = [_plain_type(part, type_arguments) for part in get_args(hint) if part is not ...]
    if isinstance(hint, UnionType):
        return reduce(_union, parts)
    if get_origin(hint) in {tuple, Mapping}:
        container: Any = list if get_origin(hint) is tuple else dict
        return container[*parts]
    return str if _is_text(hint) else hint


def _union(left: Any, right: Any) -> Any:
    return left | right


def _is_text(hint: Any) -> bool:
    """Return whether ``to_dict`` converts values of this type to text."""
    return isinstance(hint, type) and issubclass(hint, Enum | datetime | BaseException)
