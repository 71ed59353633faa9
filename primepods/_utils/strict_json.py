"""Strict JSON, decoded by orjson if it is installed, else by the standard library.

The only known difference is in very deeply nested documents.
"""

from __future__ import annotations

import json
import math
from typing import Any, TypeGuard

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment,unused-ignore]  # an extra


def loads(data: bytes) -> Any:
    """Decode JSON in UTF-8.

    Raises:
        ValueError: The bytes are not JSON in UTF-8, contain a number that is not finite or an unpaired
            surrogate, or are nested too deeply.
    """
    if orjson is not None:
        return orjson.loads(data)
    text = data.decode()
    try:
        value = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_integer)
        if "\\u" in text:
            # Raises for unpaired surrogates.
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def dumps(value: Any) -> bytes:
    """Encode a value as compact JSON.

    Raises:
        TypeError: JSON cannot represent the value.
        ValueError: The value has NaN, an infinity, a cycle or an unpaired surrogate, or is nested too deeply.
    """
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError("nested too deeply") from None


def show(value: Any) -> str:
    """Return a decoded JSON value as text; empty if it is nested too deeply."""
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, ValueError):
        return ""


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:20]} is not finite")
    return number


def _integer(text: str) -> int | float:
    """Read an integer; beyond 64 bits, return a float, like orjson."""
    integer = int(text)
    return integer if -(2**63) <= integer < 2**64 else _number(text)
