"""JSON: decoded with orjson where it is installed, else with the standard library, to the same values."""

from __future__ import annotations

import json
import math
from typing import Any, TypeGuard

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment,unused-ignore]  # an extra


def loads(data: bytes) -> Any:
    """Decode strict JSON: no NaN, no Infinity, UTF-8 only.

    Raises:
        ValueError: The bytes are no JSON.
    """
    if orjson is not None:
        return orjson.loads(data)
    text = data.decode()
    try:
        value = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_integer)
        if "\\u" in text:
            # Refuses half of a surrogate pair, which no file or terminal takes.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def dumps(value: Any) -> bytes:
    """Encode a value as compact JSON.

    Raises:
        TypeError: It holds something that JSON does not know.
        ValueError: It holds NaN or an infinity, or itself.
    """
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def show(value: Any) -> str:
    """Return a decoded value as JSON text, for people; empty where even that cannot be done."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return ""


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    """Tell whether a decoded value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    """Tell whether a decoded value is a JSON array."""
    return isinstance(value, list)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is not finite")
    return number


def _integer(text: str) -> int | float:
    """Read an integer, and one beyond 64 bits as orjson does."""
    integer = int(text)
    return integer if -(2**63) <= integer < 2**64 else _number(text)
