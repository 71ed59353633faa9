"""Text for people: foreign text that is safe to show, and durations in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from typing import Final

_MAX_LENGTH: Final = 100
_REQUEST_ID_HEADERS: Final = ("x-request-id", "request-id", "cf-ray")
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def quote(value: object, max_length: int = _MAX_LENGTH) -> str:
    """Return a value's ``repr`` for a message, clipped and printable; never raise."""
    text = f"<{type(value).__name__}>"
    with suppress(Exception):  # a repr may raise anything
        text = repr(value)
    text = "".join(char if char.isprintable() else " " for char in text[: max_length + 1])
    return clip(text, max_length)


def blocking_repr(item: object) -> str:
    """Return the ``repr`` of an object of the async client with the name of its blocking counterpart."""
    return repr(item).replace("Async", "", 1)


def one_line(text: str) -> str:
    """Return a text as one printable line, with single spaces for whitespace and control characters."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def find_request_id(headers: Mapping[str, str]) -> str | None:
    """Return a response's ``x-request-id`` or a similar header, if any; the names must be in lower case."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if name in headers), None)


def install_hint(extra: str) -> str:
    """Return how to install an extra; primepods is not on the package index yet."""
    return f"Install the extra that contains it: in a clone, run pip install '.[{extra}]'"


def clip(text: str, max_length: int) -> str:
    """Return a text; if it is too long, its first ``max_length`` characters and ``…``."""
    return text if len(text) <= max_length else f"{text[:max_length]}…"


def short_duration(seconds: float) -> str:
    """Format a duration, rounded down: ``45s``, ``12m``, ``3h 5m``, ``2d 7h``."""
    whole = max(0, int(seconds))
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m"
    if whole < _DAY:
        return f"{whole // _HOUR}h {whole % _HOUR // _MINUTE}m"
    return f"{whole // _DAY}d {whole % _DAY // _HOUR}h"


def exact_duration(seconds: float) -> str:
    """Format a duration with its seconds, from a minute on rounded up: ``0.5s``, ``2m 30s``, ``1h 30m``."""
    if seconds < _MINUTE:
        return f"{seconds:.3g}s"
    whole = math.ceil(seconds)
    numbers = whole // _DAY, whole % _DAY // _HOUR, whole % _HOUR // _MINUTE, whole % _MINUTE
    return " ".join(f"{number}{unit}" for number, unit in zip(numbers, "dhms", strict=True) if number)
