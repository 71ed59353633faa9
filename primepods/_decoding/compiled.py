"""Decoders of attrs classes as generated source, two to three times as fast as those of cattrs.

They do the same as :func:`~.objects.object_hook` and pass it every row that they cannot read. To remove
them, delete this module and its use in ``converter.py``.
"""

from __future__ import annotations

import sys
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

from cattrs import Converter

from ..models import NO_EXTRA
from .fields import Hook
from .objects import ALIASES, object_hook, unknown_fields, wire_names

_ALREADY_RIGHT: Final[Mapping[Any, str]] = {
    str: "type(value) is str",
    int: "type(value) is int",
    bool: "type(value) is bool",
    float: "type(value) is float and -MAX <= value <= MAX",
    str | tuple[str | None, ...] | None: "type(value) is str",
}
"""Conditions under which a field keeps ``value`` unchanged; otherwise the type's hook converts it."""


def compiled_hook(model: Any, converter: Converter) -> Hook:
    """Return the hook of an attrs class with slots, without validators, and with null for optional fields."""
    names, aliases = wire_names(model), ALIASES.get(model, {})
    space: dict[str, Any] = {
        "model": model,
        "unfrozen": _unfrozen(model),
        "new": object.__new__,
        "known": frozenset({*names.values(), *aliases.values()}),
        "NO_EXTRA": NO_EXTRA,
        "unknown_fields": unknown_fields,
        "read_object": object_hook(model, converter),
        "MAX": sys.float_info.max,
    }
    lines = [
        "  get = row.get",
        "  made = new(unfrozen)",
        "  made.extra = NO_EXTRA if known.issuperset(row) else unknown_fields(row, known)",
    ]
    for name, kind in typing.get_type_hints(model).items():
        if name != "extra":
            lines.append(f"  value = get({names[name]!r})")
            if name in aliases:
                lines.append(f"  if value is None: value = get({aliases[name]!r})")
            lines += [_conversion(name, kind, space, converter), f"  made.{name} = value"]
    lines += ["  made.__class__ = model", "  return made"]
    # The complete hook finds and names the error.
    source = [
        "def read(row, kind):",
        " try:",
        *lines,
        " except Exception:",
        "  pass",
        " return read_object(row, kind)",
    ]
    exec("\n".join(source), space)  # noqa: S102 - source made of the models' own field names
    read: Hook = space["read"]
    return read


def _unfrozen(model: Any) -> Any:
    """Return a class like ``model`` that sets attributes ten times as fast.

    Its objects become a ``model`` by assigning ``__class__``, which Python allows if the slots are equal.
    """
    body = {
        "__slots__": model.__slots__,
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(f"Unfrozen{model.__name__}", model.__bases__, body)


def _conversion(name: str, kind: Any, space: dict[str, Any], converter: Converter) -> str:
    """Return the source line that converts ``value`` to a field's type if it has another type."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    is_optional = type(None) in typing.get_args(kind)
    plain = members[0] if is_optional and len(members) == 1 else kind
    space[f"hook_{name}"] = converter.get_structure_hook(plain)
    space[f"type_{name}"] = plain
    conversion = f"hook_{name}(value, type_{name})"
    already_right = ["value is None"] if is_optional else []
    if plain in _ALREADY_RIGHT:
        already_right.append(_ALREADY_RIGHT[plain])
    elif isinstance(plain, type) and issubclass(plain, Enum):
        space[f"words_{name}"] = {word.value: word for word in plain}
        conversion = f"words_{name}.get(value) or {conversion}"
    if not already_right:
        return f"  value = {conversion}"
    return f"  if not ({' or '.join(already_right)}): value = {conversion}"
