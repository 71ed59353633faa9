"""Helpers to copy exceptions and to drop their tracebacks."""

from __future__ import annotations

import copy
from typing import TypeVar, cast

E = TypeVar("E", bound=BaseException)


def drop_tracebacks(error: BaseException) -> None:
    """Remove the tracebacks of an exception and of its causes, contexts and members.

    Their frames keep all their variables alive, such as whole responses, until a garbage collection.
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
    """Return another exception of the same class, message and cause.

    Each caller gets its own copy: the traceback and notes of one must not appear on another.
    """
    kind = type(error)
    try:
        copied = copy.copy(error)
    except Exception:  # noqa: BLE001 - its __init__ may need other arguments than `args`: do not call it
        copied = kind.__new__(kind, *error.args)
        copied.args = error.args
        copied.__dict__.update(error.__dict__)
    notes = getattr(error, "__notes__", None)
    if notes is not None:
        copied.__notes__ = list(notes)
    copied.__cause__ = error.__cause__
    return copied
