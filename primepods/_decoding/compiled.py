"""Generated decoders of attrs classes, which are faster than cattrs.

They decode like the hooks of :func:`~.objects.object_hook`, and pass to these hooks each row that they cannot
read. To remove the generated decoders, delete this module and its use in ``converter.py``.
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

_UNCHANGED_IF: Final[Mapping[Any, str]] = {
    str: "type(value) is str",
    int: "type(value) is int",
    bool: "type(value) is bool",
    float: "type(value) is float and -MAX <= value <= MAX",
    # An address field; the hook reads the list of a multi-node pod.
    str | tuple[str | None, ...] | None: "type(value) is str",
}
"""Conditions under which a field keeps ``value`` unchanged; otherwise the type's hook converts it."""


def compiled_hook(model: Any, converter: Converter) -> Hook:
    """Return a hook that decodes objects of an attrs class.

    Args:
        model: The class, with slots. Its ``__init__`` is not called, so it must have no validators,
            converters or ``__attrs_post_init__``. A field that may be ``None`` must have no other default,
            because a missing field is read as null.
        converter: The converter that has the hooks of the fields.
    """
    names = wire_names(model)
    aliases = ALIASES.get(model, {})
    namespace: dict[str, Any] = {
        "model": model,
        "unfrozen": _unfrozen_class(model),
        "new": object.__new__,
        "known": frozenset({*names.values(), *aliases.values()}),
        "NO_EXTRA": NO_EXTRA,
        "unknown_fields": unknown_fields,
        "read_object": object_hook(model, converter),
        "MAX": sys.float_info.max,
    }
    lines = [
        "  get = row.get",
        "  obj = new(unfrozen)",
        "  obj.extra = NO_EXTRA if known.issuperset(row) else unknown_fields(row, known)",
    ]
    for name, kind in typing.get_type_hints(model).items():
        if name != "extra":
            lines.append(f"  value = get({names[name]!r})")
            if name in aliases:
                lines.append(f"  if value is None: value = get({aliases[name]!r})")
            lines += [_conversion(name, kind, namespace, converter), f"  obj.{name} = value"]
    lines += ["  obj.__class__ = model", "  return obj"]
    # A failed row is read again by the hook of `object_hook`, which raises the error.
    source = [
        "def read(row, kind):",
        " try:",
        *lines,
        " except Exception:",
        "  pass",
        " return read_object(row, kind)",
    ]
    exec("\n".join(source), namespace)  # noqa: S102 - source made of the models' own field names
    read: Hook = namespace["read"]
    return read


def _unfrozen_class(model: Any) -> Any:
    """Return a class like ``model`` that is not frozen, so that attributes are set faster.

    Its slots equal those of ``model``, as Python requires for the assignment of ``__class__``.
    """
    body = {
        "__slots__": model.__slots__,
        "__setattr__": object.__setattr__,
        "__delattr__": object.__delattr__,
    }
    return type(f"Unfrozen{model.__name__}", model.__bases__, body)


def _conversion(name: str, kind: Any, namespace: dict[str, Any], converter: Converter) -> str:
    """Return the source line that converts ``value`` to a field's type; add its helpers to ``namespace``."""
    members = [member for member in typing.get_args(kind) if member is not type(None)]
    is_optional = type(None) in typing.get_args(kind)
    value_type = members[0] if is_optional and len(members) == 1 else kind
    namespace[f"hook_{name}"] = converter.get_structure_hook(value_type)
    namespace[f"type_{name}"] = value_type
    conversion = f"hook_{name}(value, type_{name})"
    unchanged_if = ["value is None"] if is_optional else []
    if value_type in _UNCHANGED_IF:
        unchanged_if.append(_UNCHANGED_IF[value_type])
    elif isinstance(value_type, type) and issubclass(value_type, Enum):
        namespace[f"members_{name}"] = {member.value: member for member in value_type}
        conversion = f"members_{name}.get(value) or {conversion}"
    if not unchanged_if:
        return f"  value = {conversion}"
    return f"  if not ({' or '.join(unchanged_if)}): value = {conversion}"
