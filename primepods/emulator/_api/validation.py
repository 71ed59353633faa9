"""Whether a JSON body is what the schema wants: small checks that yield what is wrong, and where."""

import json
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn, cast

from .http import INT64, Call, invalid

Problem = tuple[str, str]
Check = Callable[[object, str], Iterator[Problem]]


def json_body(call: Call, check: Check) -> dict[str, Any]:
    """The body, an object that passes the check; raises a 422 that tells all that is wrong with it."""
    try:
        body = json.loads(call.body.decode(), parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise invalid(("body", "JSON decode error")) from error
    # The API names the fields of a pod without the pod.
    problems = [(at.removeprefix("pod."), details) for at, details in sorted(check(body, ""))]
    if problems:
        raise invalid(*problems)
    return cast("dict[str, Any]", body)


def string(value: object, at: str) -> Iterator[Problem]:
    """A string without NUL bytes."""
    if not isinstance(value, str):
        yield at, "Input should be a valid string"
    elif "\0" in value:
        yield at, "Input should not contain NUL bytes"


def boolean(value: object, at: str) -> Iterator[Problem]:
    """True or false."""
    if not isinstance(value, bool):
        yield at, "Input should be a valid boolean"


def number(value: object, at: str) -> Iterator[Problem]:
    """Any finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        yield at, "Input should be a valid number"
    elif abs(value) >= INT64:
        yield at, "Input should be a number that can be stored"


def positive_number(value: object, at: str) -> Iterator[Problem]:
    """A number above 0."""
    problems = list(number(value, at))
    yield from problems
    if not problems and isinstance(value, int | float) and value <= 0:
        yield at, "Input should be greater than 0"


def positive_integer(value: object, at: str) -> Iterator[Problem]:
    """An integer above 0, which may be spelled ``1.0``."""
    problems = list(positive_number(value, at))
    yield from problems
    if not problems and isinstance(value, int | float) and value != value // 1:
        yield at, "Input should be a valid integer"


def one_of(*allowed: str) -> Check:
    """One of these words."""

    def check(value: object, at: str) -> Iterator[Problem]:
        if value not in allowed:
            yield at, "Input should be " + " or ".join(repr(each) for each in allowed)

    return check


def nullable(inner: Check) -> Check:
    """Null, or what ``inner`` says."""

    def check(value: object, at: str) -> Iterator[Problem]:
        if value is not None:
            yield from inner(value, at)

    return check


def list_of(inner: Check) -> Check:
    """A list of what ``inner`` says."""

    def check(value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, list):
            yield at, "Input should be a valid list"
            return
        for index, item in enumerate(cast("list[object]", value)):
            yield from inner(item, f"{at}.{index}")

    return check


def object_of(
    required: Mapping[str, Check], optional: Mapping[str, Check] | None = None, *, closed: bool = False
) -> Check:
    """An object with these fields; others are ignored, or refused if it is ``closed``."""
    known = {**(optional or {}), **required}

    def check(value: object, at: str) -> Iterator[Problem]:
        if not isinstance(value, dict):
            yield at or "body", "Input should be a valid object"
            return
        given = cast("dict[str, object]", value)
        prefix = f"{at}." if at else ""
        for name in required.keys() - given.keys():
            yield prefix + name, "Field required"
        for name, item in given.items():
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
