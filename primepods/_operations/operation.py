"""Hook of a client with ``on_event``, which begins operations and reports events."""

from __future__ import annotations

import inspect
import itertools
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from contextvars import Token, copy_context
from types import TracebackType
from typing import Any, Final, ParamSpec, TypeVar

import attrs

from .. import events
from .._utils.arguments import check_callable
from .._utils.clock import Clock
from ..events import Event, OnEvent, OperationEnded, OperationStarted
from . import LISTENERS

P = ParamSpec("P")
T = TypeVar("T")

_log = logging.getLogger("primepods")

_OPERATION_NUMBERS: Final = itertools.count(1)


def plain_callback(name: str, function: Callable[[T], object]) -> Callable[[T], None]:
    """Return a callback that calls a plain function, and logs only its first exception.

    Args:
        name: Name of the argument, for messages.
        function: The function.
    """
    check_callable(name, function)
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        raise TypeError(f"{name} must be a plain function, not `async def`: nothing awaits it")
    has_failed = False

    def call(value: T) -> None:
        nonlocal has_failed
        try:
            function(value)
        except Exception:  # noqa: BLE001 - a callback must not break the call that it reports on
            if not has_failed:
                has_failed = True
                _log.exception("%s raised an exception; later exceptions are not logged", name)

    return call


class EventHook:
    """Wrapper of a client's ``on_event`` function that logs only its first exception.

    Hooks with equal functions are equal: clients with the same function get one event for a shared poll.
    """

    def __init__(self, function: OnEvent) -> None:
        self._function = function
        self._call = plain_callback("on_event", function)

    def begin(self, name: str, clock: Clock) -> Operation:
        return Operation(self, name, clock)

    def wrap(
        self, name: str, clock: Clock, function: Callable[P, Awaitable[T]]
    ) -> Callable[P, Coroutine[Any, Any, T]]:
        """Return a function that calls ``function`` as an operation."""

        async def call(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.begin(name, clock):
                return await function(*args, **kwargs)

        return call

    def notify(self, event: Event) -> None:
        self._call(event)

    def __reduce__(self) -> tuple[type[None], tuple[()]]:
        # Settings must be picklable, and many functions are not, so pickle a hook as None.
        return type(None), ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EventHook) and self._function == other._function

    def __hash__(self) -> int:
        try:
            return hash(self._function)
        except TypeError:
            return hash(type(self._function))


class Listeners:
    """Hooks that get the events of some work, such as a poll.

    Args:
        numbers: For each hook, the numbers of the operations that share the work.
    """

    def __init__(self, numbers: Mapping[EventHook, tuple[int, ...]]) -> None:
        self.numbers = numbers

    def notify(self, event: Event) -> None:
        """Pass an event to each hook, with the numbers of the hook's operations."""
        for hook, numbers in self.numbers.items():
            hook.notify(attrs.evolve(event, operations=numbers))

    def report(self, kind: str, **fields: object) -> None:
        """Pass on a new event of the class ``kind``, for callers that must not import the events."""
        self.notify(getattr(events, kind)(**fields))


def merge(listeners: Iterable[Listeners]) -> Listeners:
    """Return all listeners as one; operations are in the order in which they began."""
    merged: dict[EventHook, set[int]] = {}
    for listener in listeners:
        for hook, numbers in listener.numbers.items():
            merged.setdefault(hook, set()).update(numbers)
    return Listeners({hook: tuple(sorted(numbers)) for hook, numbers in merged.items()})


class Operation:
    """A public call in progress; events in its ``with`` block belong to it.

    Attributes:
        listeners: Listeners of the events that belong to this operation alone.
    """

    def __init__(self, hook: EventHook, name: str, clock: Clock) -> None:
        number = next(_OPERATION_NUMBERS)
        self.listeners: Listeners = Listeners({hook: (number,)})
        self._name = name
        self._token: Token[Listeners | None] | None = None
        self._clock = clock
        self._started_at: float | None = clock.boottime()
        """``None`` once the operation has ended."""
        outer = LISTENERS.get()
        outer_numbers = () if outer is None else outer.numbers.get(hook, ())
        # If operations share this work, the parent is the operation that began first.
        parent = outer_numbers[0] if outer_numbers else None
        self.listeners.notify(OperationStarted(name=name, parent=parent))

    def end(self, error: BaseException | None) -> None:
        """End the operation; further calls do nothing."""
        started_at = self._started_at
        if started_at is None:
            return
        self._started_at = None
        seconds = self._clock.boottime() - started_at
        kind = None if error is None else type(error).__name__
        self.listeners.notify(OperationEnded(name=self._name, seconds=seconds, error=kind))

    def run(self, function: Callable[[], T]) -> T:
        """Call a function within this operation.

        The function's events belong to this operation, the parent of operations that the function begins.
        """
        context = copy_context()
        context.run(LISTENERS.set, self.listeners)
        return context.run(function)

    def __enter__(self) -> None:
        self._token = LISTENERS.set(self.listeners)

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            # `reset` fails if the garbage collector closes the coroutine in another context.
            with suppress(ValueError):
                LISTENERS.reset(self._token)
        self.end(exc)
