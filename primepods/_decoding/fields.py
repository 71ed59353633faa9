"""Decoders ("hooks") of field types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from .._utils.strict_json import is_list, is_object
from ..models import InstallationState, PodState

Hook = Callable[[Any, Any], Any]
"""Function that converts a value of decoded JSON to a type, or raises :class:`DecodeError`."""

MAX_DEPTH: Final = 40
"""Max levels of free-form objects and unknown fields."""

_WHOLE_NUMBER: Final = re.compile(r"\s*[+-]?[0-9]{1,300}\s*", re.ASCII)
"""Whole numbers of up to 300 digits; a float can hold them."""


class DecodeError(Exception):
    """The response, or one of its rows, does not have the expected structure.

    Attributes:
        path: JSON path, such as ``data[3].gpuCount``; empty for the whole response.
        reason: The problem at that path.
        value: The value at that path.
        row: The unreadable row of a list; ``None`` for other errors.
        row_id: The row's id, if it can be read.
        index: The row's index in the list, from 0.
    """

    def __init__(self, path: str, reason: str, value: object) -> None:
        super().__init__(path, reason, value)
        self.path = path
        self.reason = reason
        self.value = value
        self.row: Any = None
        self.row_id: str | None = None
        self.index: int | None = None

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}" if self.path else self.reason

    def inside(self, key: str | int) -> DecodeError:
        """Return a new error with ``key`` before the path, and without ``row``, ``row_id`` and ``index``."""
        place = f"[{key}]" if isinstance(key, int) else key
        dot = "." if self.path and not self.path.startswith("[") else ""
        return DecodeError(f"{place}{dot}{self.path}", self.reason, self.value)


def wrong_type(expected: str, value: object) -> DecodeError:
    return DecodeError("", f"expected {expected}, got {_describe(value)}", value)


def _describe(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        # Show a text whole or not at all: a part of a secret would not be recognised and redacted.
        text = repr(value)
        max_length = 60
        return text if len(text) <= max_length else f"{len(text):,} characters"
    return "an object" if is_object(value) else "a list"


def as_text(value: Any, _: Any = str) -> str:
    """Read text; a number becomes text."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise wrong_type("a string", value)


def _as_number(value: Any, _: Any = float) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # `float` would also accept `1_000` and digits of other scripts.
    is_plain_text = isinstance(value, str) and value.isascii() and "_" not in value
    if not (is_number or is_plain_text):
        raise wrong_type("a number", value)
    try:
        number = float(value)
    except ValueError:
        raise wrong_type("a number", value) from None
    if not math.isfinite(number):
        raise wrong_type("a finite number", value)
    return number


def as_integer(value: Any, _: Any = int) -> int:
    """Read a whole number; a fraction is cut off, because a progress of 99.5 (imagined) is not an error."""
    if value.__class__ is int:
        return value
    if isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value):
        return int(value)
    return int(_as_number(value))


def _as_boolean(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise wrong_type("true or false", value)


def _as_datetime(value: Any, _: Any) -> datetime:
    """Read a time; without an offset, it is in UTC.

    Times that UTC cannot represent, and week dates (imagined), are refused.
    """
    if not isinstance(value, str) or "W" in value[4:6]:
        raise wrong_type("a date and time", value)
    # `fromisoformat` does not accept a lower-case `z` (imagined).
    text = f"{value[:-1]}Z" if value.endswith("z") else value
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            return moment.replace(tzinfo=UTC)
        moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise wrong_type("a date and time", value) from None
    return moment


def _as_size(value: Any, _: Any) -> int | str | None:
    """Read a size: an integer if it is an integer or its digits, else the API's text."""
    if value is None or value.__class__ is int:
        return value
    text = as_text(value)
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else text


def _as_per_node(value: Any, _: Any) -> str | tuple[str | None, ...] | None:
    """Read an address field: a string, or a list with a string or null for each node."""
    if value is None or isinstance(value, str):
        return value
    if is_list(value):
        return tuple(None if node is None else as_text(node) for node in value)
    raise wrong_type("a string or a list of strings", value)


def as_mapping(value: Any, _: Any) -> Mapping[str, Any]:
    """Read an object with any content, but at most ``MAX_DEPTH`` levels."""
    if not is_object(value):
        raise wrong_type("an object", value)
    if is_deeper(value, MAX_DEPTH):
        raise wrong_type(f"an object of at most {MAX_DEPTH} levels", value)
    return value


def is_deeper(value: Any, levels: int) -> bool:
    """Return whether a value has more than ``levels`` levels. Very deep values cannot be pickled."""
    if is_object(value):
        return levels == 0 or any(is_deeper(item, levels - 1) for item in value.values())
    if is_list(value):
        return levels == 0 or any(is_deeper(item, levels - 1) for item in value)
    return False


def _as_state(value: Any, kind: Any) -> Any:
    return kind(as_text(value))


FIELD_HOOKS: Final[Mapping[Any, Hook]] = {
    str: as_text,
    int: as_integer,
    float: _as_number,
    bool: _as_boolean,
    datetime: _as_datetime,
    PodState: _as_state,
    InstallationState: _as_state,
    Mapping[str, Any]: as_mapping,
    int | str | None: _as_size,
    str | tuple[str | None, ...] | None: _as_per_node,
}
"""Hooks of field types except models, lists and a key's permissions."""
