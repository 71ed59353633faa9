"""JSON: decoded with orjson where it is installed, else with the standard library, to the same values."""

from __future__ import annotations

import json
from typing import Any, TypeGuard

try:
    import orjson
except ImportError:
    orjson = None  # type: ignore[assignment,unused-ignore]


def loads(data: bytes) -> Any:
    """Decode strict JSON: no NaN, no Infinity, UTF-8 only.

    Raises:
        ValueError: The bytes are no JSON.
    """
    if orjson is not None:
        return orjson.loads(data)
    try:
        return json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None


def dumps(value: Any) -> bytes:
    """Encode a value as compact JSON.

    Raises:
        TypeError: It holds something that JSON does not know.
        ValueError: It holds NaN or an infinity, or itself.
    """
    try:
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except RecursionError:
        msg = "nested too deeply"
        raise ValueError(msg) from None


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


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise ValueError(msg)
