"""Helpers to copy exceptions and to drop their tracebacks."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

E = TypeVar("E", bound=BaseException)


def drop_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of an exception, its causes and contexts, and the members of groups.

    The frames of a traceback keep their variables alive, such as whole responses.
    """
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        exc = pending.pop()
        if exc is None or id(exc) in seen:
            continue
        seen.add(id(exc))
        exc.__traceback__ = None
        pending += [exc.__cause__, exc.__context__]
        if isinstance(exc, BaseExceptionGroup):
            pending += cast("BaseExceptionGroup[BaseException]", exc).exceptions


def copy_exception(error: E) -> E:
    """Return a copy with the same class, attributes, notes and cause, but without the traceback.

    Callers that share an error get copies, so that none sees a traceback or note of another.
    """
    kind = type(error)
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - `copy` calls __init__, which may need other arguments than `args`
        copied = kind.__new__(kind, *error.args)
        copied.args = error.args
        copied.__dict__.update(error.__dict__)
    notes = getattr(error, "__notes__", None)
    if notes is not None:
        copied.__notes__ = list(notes)
    copied.__cause__ = error.__cause__
    return copied
