"""Validation of JSON bodies by checks, which yield the problems of a value."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, cast

from .http import MAX_INT64, Request, invalid

Problem = tuple[str, str]
"""The place in the body, and a description."""
Check = Callable[[object, str], Iterator[Problem]]
"""Function of a value and its place, which yields the problems."""


def json_body(request: Request, check: Check) -> dict[str, Any]:
    """Parse and validate the body, or raise a 422 that lists all problems."""
    try:
        body = json.loads(request.body.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise invalid(("body", "JSON decode error")) from error
    # The API is assumed to name fields without the prefix "pod.".
    problems = [(place.removeprefix("pod."), details) for place, details in sorted(check(body, ""))]
    if problems:
        raise invalid(*problems)
    return cast("dict[str, Any]", body)


def string(value: object, place: str) -> Iterator[Problem]:
    """Check for a string without NUL bytes."""
    if not isinstance(value, str):
        yield place, "Input should be a valid string"
    elif "\0" in value:
        yield place, "Input should not contain NUL bytes"


def boolean(value: object, place: str) -> Iterator[Problem]:
    if not isinstance(value, bool):
        yield place, "Input should be a valid boolean"


def number(value: object, place: str) -> Iterator[Problem]:
    """Check for a number between -2**63 and 2**63."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield place, "Input should be a valid number"
    elif abs(value) > MAX_INT64:
        yield place, "Input should be a number that can be stored"


def positive_number(value: object, place: str) -> Iterator[Problem]:
    """Check for a number above 0."""
    problems = list(number(value, place))
    yield from problems
    if not problems and isinstance(value, int | float) and value <= 0:
        yield place, "Input should be greater than 0"


def positive_integer(value: object, place: str) -> Iterator[Problem]:
    """Check for an integer above 0, which may be spelled ``1.0``."""
    problems = list(positive_number(value, place))
    yield from problems
    if not problems and isinstance(value, int | float) and value != value // 1:
        yield place, "Input should be a valid integer"


def one_of(*allowed: str) -> Check:
    def check(value: object, place: str) -> Iterator[Problem]:
        if value not in allowed:
            yield place, "Input should be " + " or ".join(repr(value) for value in allowed)

    return check


def nullable(inner: Check) -> Check:
    def check(value: object, place: str) -> Iterator[Problem]:
        if value is not None:
            yield from inner(value, place)

    return check


def list_of(inner: Check) -> Check:
    def check(value: object, place: str) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield place, "Input should be a valid list"
            return
        for index, item in enumerate(cast("list[object]", value)):
            yield from inner(item, f"{place}.{index}")

    return check


def object_of(
    required: Mapping[str, Check], *, optional: Mapping[str, Check] | None = None, closed: bool = False
) -> Check:
    """Return a check for an object with these fields; others are ignored, or refused with ``closed``."""
    known = {**(optional or {}), **required}

    def check(value: object, place: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield place or "body", "Input should be a valid object"
            return
        fields = cast("dict[str, object]", value)
        prefix = f"{place}." if place else ""
        for name in required.keys() - fields.keys():
            yield prefix + name, "Field required"
        for name, item in fields.items():
            if name in known:
                yield from known[name](item, prefix + name)
            elif closed:
                yield prefix + name, "Extra inputs are not permitted"

    return check


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise ValueError(f"{digits} does not fit into a double")
    return value
