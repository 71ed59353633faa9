"""Operations: public calls in progress, and the listeners of their events.

The code for events is imported with the first ``on_event``, so that programs without it start faster.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine
from contextvars import Context, ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

if TYPE_CHECKING:
    from .._utils.clock import Clock
    from ..events import OnEvent
    from .operation import EventHook, Listeners, Operation

F = TypeVar("F", bound=Callable[..., Coroutine[Any, Any, Any]])

LISTENERS: Final[ContextVar[Listeners | None]] = ContextVar("primepods_listeners", default=None)
"""Listeners of the events in the current context, or ``None``."""


class _HasHook(Protocol):
    @property
    def on_event(self) -> EventHook | None: ...
    @property
    def clock(self) -> Clock: ...


class _HasSettings(Protocol):
    @property
    def settings(self) -> _HasHook: ...


class _HasExecutor(Protocol):
    @property
    def _executor(self) -> _HasSettings: ...


def make_hook(on_event: OnEvent | None) -> EventHook | None:
    """Return the hook that calls ``on_event``, or ``None`` if it is ``None``.

    Raises:
        TypeError: ``on_event`` cannot be called, or is ``async def``.
    """
    if on_event is None:
        return None
    from .operation import EventHook

    return EventHook(on_event)


def listeners_only_context() -> Context:
    """Return a new context with only the listeners of the current context."""
    context = Context()
    context.run(LISTENERS.set, LISTENERS.get())
    return context


def begin_operation(name: str, source: _HasHook) -> Operation | None:
    """Begin an operation, which the caller must end; return ``None`` without ``on_event``."""
    return None if source.on_event is None else source.on_event.begin(name, source.clock)


def set_listeners(listeners: Collection[Listeners | None]) -> None:
    """Send the events of the current context to all ``listeners``."""
    distinct = {listener for listener in listeners if listener is not None}
    if len(distinct) > 1:
        from .operation import merge

        LISTENERS.set(merge(distinct))
    else:
        LISTENERS.set(distinct.pop() if distinct else None)


def as_operation(name: str) -> Callable[[F], F]:
    """Return a decorator that makes each call of a method an operation, if the client has ``on_event``.

    Args:
        name: The operation's name, such as ``pods.wait``.
    """

    def decorate(method: F) -> F:
        @wraps(method)
        async def call(self: _HasExecutor, *args: Any, **kwargs: Any) -> Any:
            settings = self._executor.settings  # pyright: ignore[reportPrivateUsage] - decorates its methods
            if settings.on_event is None:
                return await method(self, *args, **kwargs)
            with settings.on_event.begin(name, settings.clock):
                return await method(self, *args, **kwargs)

        return cast("F", call)

    return decorate
