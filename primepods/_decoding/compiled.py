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
from datetime import datetime
from enum import Enum
from typing import Any, Final, TypeVar

T = TypeVar("T")

Hook = Callable[[Any, Any], Any]

_INLINE: Final[Mapping[Any, str]] = {
    str: "type({0}) is not str",
    int: "type({0}) is not int",
    bool: "type({0}) is not bool",
    float: "type({0}) is not float or not -MAX <= {0} <= MAX",
    str | tuple[str | None, ...] | None: "type({0}) is not str",
}
"""When a value is not what its field holds, or may not be."""
_MOST_REUSED: Final = 4_096
_LONGEST_REUSED: Final = 2_000
"""Bytes of JSON above which a part is not kept: what is kept stays for good."""
_MOST_WORDS: Final = 1_024
_LONGEST_WORD: Final = 64


def compile_decoder(  # noqa: PLR0913 - what a model consists of
    model: type[T],
    wire_names: Mapping[str, str],
    hook_of: Callable[[Any], Hook],
    *,
    aliases: Mapping[str, str],
    extra: Any,
    unknown: Callable[[dict[str, Any], AbstractSet[str]], Mapping[str, Any]],
    words: AbstractSet[str] = frozenset(),
) -> Callable[[Any, Any], T]:
    """Return a hook that builds ``model`` from a JSON object.

    Args:
        model: An attrs class with slots, without validators and converters, with a field ``extra``.
        wire_names: Key of each field but ``extra``.
        hook_of: Gives the hook of a type: called with the value and the type, it returns the field's value.
        aliases: Another key of some fields, whose value counts where the field's own is null.
        extra: Stands for "no unknown fields".
        unknown: Gives the unknown fields, by the object and their keys.
        words: Fields of text that says the same in most objects, and is kept once for all.
    """
    keys = [*wire_names.values(), *aliases.values()]
    space: dict[str, Any] = {"blank": dict.fromkeys(keys), "known": frozenset(keys), "extra": extra}
    space |= {"model": model, "draft": _draft(model), "new": object.__new__, "shared": _Words()}
    space |= {"unknown": unknown, "MAX": sys.float_info.max, "moment": datetime.fromisoformat}
    kinds = typing.get_type_hints(model)
    # Underscores, for what fields are called is Python's too: `type`.
    locals_ = ", ".join([*(f"{name}_" for name in wire_names), *(f"{name}_alias" for name in aliases)])
    lines = [
        "def decode(row, _):",
        # In the order of `blank`, and what is unknown behind.
        f"    {locals_}, *rest = (blank | row).values()",
        "    made = new(draft)",
        "    made.extra = unknown(row, row.keys() - known) if rest else extra",
    ]
    lines += [f"    if {name}_ is None: {name}_ = {name}_alias" for name in aliases]
    for name in wire_names:
        lines += _field_lines(name, kinds[name], space, hook_of)
        if name in words:
            lines.insert(-1, f"    if {name}_: {name}_ = shared[{name}_]")
    lines += ["    made.__class__ = model", "    return made"]
    exec("\n".join(lines), space)  # noqa: S102 - source made of the models' own field names
    decode: Callable[[Any, Any], T] = space["decode"]
    return decode


def _draft(model: type[Any]) -> type[Any]:
    """Return ``model``'s twin that is not frozen: its slots are set at a tenth of the price.

    What is filled becomes a ``model`` by its ``__class__``, as Python allows where the slots are the same.
    """
    slots: Any = vars(model)["__slots__"]
    names = {"__slots__": slots, "__setattr__": object.__setattr__, "__delattr__": object.__delattr__}
    return type(f"{model.__name__}Draft", model.__bases__, names)


def _field_lines(name: str, kind: Any, space: dict[str, Any], hook_of: Callable[[Any], Hook]) -> list[str]:
    """Return what brings a field's value to its type, if it is not of it, and puts it there."""
    optional = type(None) in typing.get_args(kind)
    inner = [arm for arm in typing.get_args(kind) if arm is not type(None)]
    plain = inner[0] if optional and len(inner) == 1 else kind
    space[f"hook_{name}"] = hook_of(plain)
    local = f"{name}_"
    checks = [f"{local} is not None"] if optional else []
    value = f"hook_{name}({local}, None)"
    if isinstance(plain, type) and issubclass(plain, Enum):
        space[f"words_{name}"] = dict(plain.__members__)
        value = f"words_{name}.get({local}) or {value}"
    elif plain is datetime:
        value = f"moment({local}) if {local}.endswith('Z') else {value}"
    elif plain in _INLINE:
        checks.append(f"({_INLINE[plain].format(local)})")
    guard = f"if {' and '.join(checks)}: " if checks else ""
    return [f"    {guard}{local} = {value}", f"    made.{name} = {local}"]


class _Words(dict[str, str]):
    """The same string for equal ones, a bounded number of them for good."""

    def __missing__(self, word: str) -> str:
        if len(self) < _MOST_WORDS and len(word) <= _LONGEST_WORD:
            self[word] = word
        return word


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
