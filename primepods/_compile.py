"""Decoders written out, field by field, as source code, as attrs and cattrs do, with the common case inline.

A field that already has the right type, as nearly all have, costs one comparison and no call. Whatever else
it holds is left to the field's hook, so that nothing is accepted here that the hook would refuse.
"""

from __future__ import annotations

import marshal
import sys
import typing
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final, TypeVar

import attrs

T = TypeVar("T")

Hook = Callable[[Any, Any], Any]

_INLINE: Final[Mapping[Any, str]] = {
    str: "{0}.__class__ is not str",
    int: "{0}.__class__ is not int",
    bool: "{0}.__class__ is not bool",
    float: "{0}.__class__ is not float or not -MAX <= {0} <= MAX",
}
_MOST_REUSED: Final = 4_096
_LONGEST_REUSED: Final = 2_000
"""Bytes of JSON above which a part is not kept: what is kept stays for good."""


def compile_decoder(
    model: type[T],
    wire_names: Mapping[str, str],
    hook_of: Callable[[Any], Hook],
    *,
    extra: Any,
    unknown: Callable[[dict[str, Any], AbstractSet[str]], Mapping[str, Any]],
) -> Callable[[dict[str, Any]], T]:
    """Return a function that builds ``model`` from a JSON object.

    Args:
        model: An attrs class with slots, without validators and converters, with a field ``extra``.
        wire_names: Key of each field but ``extra``.
        hook_of: Gives the hook of a type: called with the value and the type, it returns the field's value.
        extra: Stands for "no unknown fields".
        unknown: Gives the unknown fields, by the object and their keys.
    """
    space: dict[str, Any] = {"model": model, "known": frozenset(wire_names.values()), "extra": extra}
    space |= {"unknown": unknown, "MAX": sys.float_info.max, "new": object.__new__}
    kinds = typing.get_type_hints(model)
    lines = ["def decode(row):", "    get = row.get"]
    fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(model)  # type: ignore[arg-type]
    for field in fields:
        # A frozen class's __init__ sets its slots the same way, at twice the price.
        space[f"put_{field.name}"] = getattr(model, field.name).__set__
        if field.name != "extra":
            lines += _field_lines(field, kinds[field.name], wire_names[field.name])
            space[f"hook_{field.name}"] = hook_of(kinds[field.name])
    lines += [
        "    made = new(model)",
        *(f"    put_{name}(made, {name})" for name in wire_names),
        "    rest = extra if row.keys() <= known else unknown(row, row.keys() - known)",
        "    put_extra(made, rest)",
        "    return made",
    ]
    exec("\n".join(lines), space)  # noqa: S102 - source made of the models' own field names
    decode: Callable[[dict[str, Any]], T] = space["decode"]
    return decode


def _field_lines(field: attrs.Attribute[Any], kind: Any, key: str) -> list[str]:
    name = field.name
    inner = [arm for arm in typing.get_args(kind) if arm is not type(None)]
    optional = len(inner) == 1 and len(typing.get_args(kind)) > 1
    condition = _INLINE.get(inner[0] if optional else kind, "")
    checks = [f"{name} is not None"] if optional else []
    checks += [f"({condition.format(name)})"] if condition else []
    value = f"row[{key!r}]" if field.default is attrs.NOTHING else f"get({key!r})"
    guard = f"if {' and '.join(checks)}: " if checks else ""
    return [f"    {name} = {value}", f"    {guard}{name} = hook_{name}({name}, None)"]


def reusing(hook: Hook) -> Hook:
    """Return a hook that gives equal JSON the same object: most parts of most rows are like another's."""
    known: dict[bytes, Any] = {}

    def read(value: Any, kind: Any) -> Any:
        if not value:
            return hook(value, kind)
        # Marshalled bytes tell True from 1 and 1 from 1.0, which equality does not.
        key = marshal.dumps(value, 2)
        found = known.get(key)
        if found is None:
            found = hook(value, kind)
            if len(key) > _LONGEST_REUSED:
                return found
            if len(known) >= _MOST_REUSED:
                known.clear()
            known[key] = found
        return found

    return read
