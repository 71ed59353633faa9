"""Validation of arguments before a request is sent.

A wrong type raises ``TypeError``, and a wrong value ``ValueError``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Final, TypeGuard, cast

from .pod_reference import PodRef, PodReference
from .text import quote

MAX_ID_LENGTH: Final = 512
_MIN_INTERVAL: Final = 0.05
_RESERVED_IDS: Final = frozenset({"status", "history"})
_MAX_SENT_INTEGER: Final = 2**31 - 1
"""Assumed, since the API's schema has no limit."""


def check_string(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, got {quote(value)}")
    return value


def check_id(pod_id: str, *, name: str = "pod_id", listed_by: str = "pods.list()") -> str:
    """Return the id of a pod, disk, SSH key or team if it is safe in the path of a request."""
    if not check_string(name, pod_id):
        problem = "is empty"
    elif len(pod_id) > MAX_ID_LENGTH:
        problem = f"is longer than {MAX_ID_LENGTH} characters"
    elif not pod_id.isprintable() or " " in pod_id:  # Other whitespace is not printable.
        problem = "holds whitespace or control characters"
    elif "/" in pod_id or "\\" in pod_id or pod_id in {".", ".."}:
        problem = "would change the request's path"
    elif pod_id.lower() in _RESERVED_IDS:
        problem = "is reserved by the API"
    else:
        return pod_id
    raise ValueError(f"{name} {problem}: {quote(pod_id)}. Pass an `id` from `{listed_by}`.")


def id_of(pod: PodRef) -> str:
    """Return the id of a pod reference without a check."""
    return cast("str", getattr(pod, "pod_id", None)) if isinstance(pod, PodReference) else pod


def check_pod_id(pod: PodRef, *, name: str = "pod_id") -> str:
    """Return the id of a pod reference; see :func:`check_id` for the errors."""
    return check_id(id_of(pod), name=name)


def check_ids(pod_ids: Iterable[PodRef]) -> list[str]:
    """Return the ids of pod references, without duplicates, in the given order."""
    if isinstance(pod_ids, str | bytes | PodReference):
        kind = type(pod_ids).__name__
        raise TypeError(
            f"pod_ids must be an iterable of ids, got the single {kind} {quote(pod_ids)}: use [pod_id]"
        )
    if not isinstance(pod_ids, Iterable):
        raise TypeError(f"pod_ids must be an iterable of ids, got {quote(pod_ids)}")
    refs = list(pod_ids)
    if _are_plain_ids(refs):
        return list(dict.fromkeys(refs))
    ids = (check_pod_id(ref, name=f"pod_ids[{number}]") for number, ref in enumerate(refs))
    return list(dict.fromkeys(ids))


def _are_plain_ids(ids: list[PodRef]) -> TypeGuard[list[str]]:
    """Return whether all ids are ASCII letters and digits, longer than reserved ids, and not too long.

    This is a fast path: other ids may be valid too.
    """
    texts = cast("list[str]", ids)
    try:
        text = "".join(texts)
    except TypeError:
        return False
    # `encode`, since `isalnum` is many times faster for bytes.
    if not (text.isascii() and text.encode().isalnum()):
        return False
    longest_reserved = max(map(len, _RESERVED_IDS))
    return longest_reserved < min(map(len, texts)) and max(map(len, texts)) <= MAX_ID_LENGTH


def check_count(name: str, value: int, *, minimum: int, maximum: int | None = _MAX_SENT_INTEGER) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {quote(value)}")
    if value < minimum or (maximum is not None and value > maximum):
        allowed = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise ValueError(f"{name} must be {allowed}, got {quote(value)}")
    return value


def check_seconds(name: str, value: float, *, minimum: float | None = None) -> float:
    """Return ``value`` as a float if it is a number of seconds: positive, or at least ``minimum``."""
    return check_amount(name, value, "number of seconds", minimum=minimum)


def check_amount(name: str, value: float, what: str, *, minimum: float | None = None) -> float:
    """Return ``value`` as a float if it is a finite number: positive, or at least ``minimum``.

    Messages use the noun ``what``, such as "price".
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a {what}, got {quote(value)}")
    is_in_range = value > 0 if minimum is None else value >= minimum
    if not is_in_range or value > sys.float_info.max:
        allowed = f"positive, finite {what}" if minimum is None else f"finite {what} of at least {minimum:g}"
        raise ValueError(f"{name} must be a {allowed}, got {quote(value)}")
    return float(value)


def check_text(name: str, value: str, *, is_secret: bool = False) -> str:
    """Return ``value`` if it is one non-empty line of printable text without surrounding spaces.

    If ``is_secret``, messages do not show the value.
    """
    if not isinstance(value, str):
        got = type(value).__name__ if is_secret else quote(value)
        raise TypeError(f"{name} must be a string, got {got}")
    if not value or value != value.strip() or not value.isprintable():
        got = "" if is_secret else f", got {quote(value)}"
        raise ValueError(
            f"{name} must be non-empty text without control characters or surrounding spaces{got}"
        )
    return value


def check_texts(name: str, values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str | bytes) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be an iterable of strings, got {quote(values)}")
    return tuple(check_text(f"{name}[{number}]", value) for number, value in enumerate(values))


def check_strings(name: str, values: Sequence[str]) -> tuple[str, ...]:
    """Return the values if all are strings, which may be empty or have several lines."""
    if isinstance(values, str | bytes) or not isinstance(values, Sequence):
        raise TypeError(f"{name} must be a sequence of strings, got {quote(values)}")
    return tuple(check_string(f"{name}[{number}]", value) for number, value in enumerate(values))


def check_interval(value: float) -> None:
    check_seconds("interval", value, minimum=_MIN_INTERVAL)


def check_callable(name: str, value: object) -> None:
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {quote(value)}")


def check_flag(name: str, value: object) -> None:
    """Check that a value is a ``bool``, since a string such as "no" would be true."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {quote(value)}")
