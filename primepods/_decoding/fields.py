"""What a field may hold, and how its value is read: the hooks of both passes of decoding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import attrs

from .._utils.strict_json import is_list, is_object
from ..models import (
    AttachedResource,
    HistoryRecord,
    InstallationState,
    Pod,
    PodState,
    PodStatus,
    PortMapping,
    Resources,
)

T = TypeVar("T")

Hook = Callable[[Any, Any], Any]
"""Reads a value, of which the second argument is the type; raises what it likes about one that is not."""

ALIASES: Final[Mapping[Any, Mapping[str, str]]] = {PodStatus: {"cost_per_hr": "priceHr"}}
"""Another key of a field, whose value counts where the field's own is null."""
_KEPT_NAMES: Final = frozenset({"shared_disk"})
_DEEPEST_EXTRA: Final = 40


class DecodeError(Exception):
    """The answer, or a row of it, has not the promised shape.

    Attributes:
        path: Where, as on the wire: ``data[3].gpuCount``; empty for the whole answer.
        reason: What is wrong there.
        value: What stood there.
        row_id: The id of the pod or record in whose row it stood, where that can be read.
        index: Which row of the answer that was, from 0; ``None`` for the answer itself.
    """

    def __init__(self, path: str, reason: str, value: object, row_id: str | None = None) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason
        self.value = value
        self.row_id = row_id
        self.index: int | None = None


class Mismatch(ValueError):  # noqa: N818 - what it says is caught and put into words below
    """A value that its field cannot hold."""

    def __init__(self, expected: str, value: object) -> None:
        super().__init__(f"expected {expected}, got {describe(value)}")
        self.value = value


class Inside(Exception):  # noqa: N818 - a marker on the way to a DecodeError
    """Something went wrong at ``place``, such as ``[3]`` or ``.priceHr``."""

    def __init__(self, place: str, cause: Exception) -> None:
        super().__init__(place, cause)
        self.place = place
        self.cause = cause


def describe(value: object) -> str:
    """Name a JSON value briefly, for a message."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        # In full or not at all: a secret that is cut could no longer be told and redacted.
        text = repr(value)
        longest = 60
        return text if len(text) <= longest else f"{len(text):,} characters"
    return "an object" if is_object(value) else "a list"


def wire_name(name: str) -> str:
    if name in _KEPT_NAMES:
        return name
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


def wire_names(model: Any) -> dict[str, str]:
    return {field.name: wire_name(field.name) for field in attrs.fields(model) if field.name != "extra"}


def unknown(row: dict[str, Any], keys: AbstractSet[str]) -> dict[str, Any]:
    """Return a row's unknown fields. What is nested without end could not be compared, copied or pickled."""
    rest = {key: row[key] for key in keys}
    if not _is_flat(rest, _DEEPEST_EXTRA):
        raise Mismatch(f"unknown fields of at most {_DEEPEST_EXTRA} levels", row)
    return rest


def _is_flat(value: Any, levels: int) -> bool:
    """Tell whether a value is nested at most so deep."""
    if is_object(value):
        return levels > 0 and all(_is_flat(item, levels - 1) for item in value.values())
    if is_list(value):
        return levels > 0 and all(_is_flat(item, levels - 1) for item in value)
    return True


def _text(value: Any, _: object) -> str:
    if value.__class__ is str:
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise Mismatch("a string", value)


def number(value: Any, _: object) -> float:
    if value.__class__ is float or value.__class__ is int:
        number = float(value)
    elif isinstance(value, str) and "_" not in value:
        try:
            number = float(value)
        except ValueError:
            raise Mismatch("a number", value) from None
    else:
        raise Mismatch("a number", value)
    if not math.isfinite(number):
        raise Mismatch("a finite number", value)
    return number


def integer(value: Any, _: object) -> int:
    """Read a whole number; a fraction is cut off, since a progress of 99.5 is no reason to fail."""
    if value.__class__ is int:
        return value
    if isinstance(value, str) and value.strip().isdecimal():
        try:
            return int(value)
        except ValueError:
            raise Mismatch("an integer", value[:20]) from None
    return math.floor(number(value, float))


def _boolean(value: Any, _: object) -> bool:
    if value.__class__ is bool:
        return value
    raise Mismatch("true or false", value)


def _moment(value: Any, _: object) -> datetime:
    if not isinstance(value, str):
        raise Mismatch("a date and time", value)
    try:
        moment = datetime.fromisoformat(value if value[-1:] == "Z" else value.upper())
    except ValueError:
        raise Mismatch("a date and time", value) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _size(value: Any, _: object) -> int | str | None:
    """Read a size: a whole number where it is one, else the API's text."""
    if value is None or value.__class__ is int:
        return value
    text = _text(value, str)
    return integer(text, int) if text.strip().isdecimal() else text


def _per_node(value: Any, _: object) -> str | tuple[str | None, ...] | None:
    """Read an address field: one string, or a list with an entry (or null) for each node."""
    if value is None or value.__class__ is str:
        return value
    if is_list(value):
        return tuple(None if node is None else _text(node, str) for node in value)
    raise Mismatch("a string or a list of strings", value)


def _state(value: Any, _: object) -> PodState:
    return PodState(_text(value, str))


def _installation(value: Any, _: object) -> InstallationState:
    return InstallationState(_text(value, str))


def optional(hook: Callable[[Any, Any], T]) -> Callable[[Any, Any], T | None]:
    def read(value: Any, kind: Any) -> T | None:
        return None if value is None else hook(value, kind)

    return read


def list_of(decode: Callable[[Any, Any], T]) -> Callable[[Any, Any], tuple[T, ...]]:
    def read(value: Any, kind: Any) -> tuple[T, ...]:
        if value is None:
            return ()
        if not is_list(value):
            raise Mismatch("a list", value)
        done: list[T] = []
        for item in value:
            try:
                done.append(decode(item, kind))
            except Exception as exc:  # noqa: BLE001 - carries any failure and its index up
                raise Inside(f"[{len(done)}]", exc) from None
        return tuple(done)

    return read


MODELS: Final[tuple[Any, ...]] = (PortMapping, Resources, AttachedResource, Pod, PodStatus, HistoryRecord)
"""All that is read from rows; inner models before those that hold them."""

_SCALARS: Final[Mapping[Any, Hook]] = {
    str: _text,
    int: integer,
    float: number,
    bool: _boolean,
    datetime: _moment,
    PodState: _state,
    InstallationState: _installation,
}
HOOKS: Final[Mapping[Any, Hook]] = {
    **_SCALARS,
    **{kind | None: optional(hook) for kind, hook in _SCALARS.items()},
    int | str | None: _size,
    str | tuple[str | None, ...] | None: _per_node,
}
"""The hooks of all types of fields that are no models."""


def model_hooks(model: Any, one: Hook, many: Hook) -> dict[Any, Hook]:
    """Return the hooks of the types in which a model occurs."""
    return {model: one, model | None: optional(one), tuple.__class_getitem__((model, ...)): many}
