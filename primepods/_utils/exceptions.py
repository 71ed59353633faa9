"""Helpers for exceptions that are raised in more than one place."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

E = TypeVar("E", bound=BaseException)


def drop_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of an exception and of its causes, contexts and members.

    Their frames keep all their variables alive, such as whole responses, until a garbage collection.
    """
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        found = left.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        found.__traceback__ = None
        left += [found.__cause__, found.__context__]
        if isinstance(found, BaseExceptionGroup):
            left += cast("BaseExceptionGroup[BaseException]", found).exceptions


def copy_exception(error: E) -> E:
    """Return another exception of the same class, message and cause.

    Each caller gets its own: the traceback and notes of one must not appear on another.
    """
    kind = type(error)
    try:
        made = copy.copy(error)
    except Exception:  # noqa: BLE001 - its __init__ may need other arguments than `args`: skip it
        made = kind.__new__(kind, *error.args)
        made.args = error.args
        made.__dict__.update(error.__dict__)
    if notes := getattr(error, "__notes__", None):
        made.__notes__ = list(notes)
    made.__cause__ = error.__cause__
    return made
