"""Base class of blocking classes, and functions that derive their methods from asynchronous ones."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable
from functools import wraps
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from ._call import in_calling_thread
from ._portal import Portal

A = TypeVar("A")
F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Delegate(Generic[A]):
    """Base class of blocking counterparts of asynchronous objects."""

    def __init__(self, portal: Portal, wrapped: A) -> None:
        self._portal = portal
        self._async = wrapped

    def __init_subclass__(cls) -> None:
        for name, member in vars(cls).items():
            if hasattr(member, "__wrapped__"):
                member.__module__, member.__qualname__ = cls.__module__, f"{cls.__qualname__}.{name}"

    def _call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.call(function, *args, **kwargs)


def blocking(
    method: Callable[Concatenate[Any, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Any, P], R]:
    """Return the blocking counterpart of an asynchronous method.

    Keyword arguments named ``on_…`` are callbacks, which run in the calling thread. Lazy iterables are also
    read there, because they may call the client.
    """

    @like(method)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> R:
        for name, value in kwargs.items():
            kwargs[name] = in_calling_thread(value) if name.startswith("on_") else _materialize(value)
        result: R = self._call(method, self._async, *map(_materialize, args), **kwargs)
        return result

    return call


def wrapping(
    method: Callable[Concatenate[Any, P], T], wrap: Callable[[Portal, T], R]
) -> Callable[Concatenate[Any, P], R]:
    """Return the blocking counterpart of a method that returns an asynchronous object and sends nothing.

    ``wrap`` is the class of the object's blocking counterpart.
    """

    @like(method, wrap)
    def call(self: Any, /, *args: Any, **kwargs: Any) -> R:
        return wrap(self._portal, method(self._async, *args, **kwargs))

    return call


def like(method: Callable[..., Any], kind: Any = None) -> Callable[[F], F]:
    """Return a decorator that gives a function the name, docstring and signature of ``method``.

    ``kind`` is the class that the function returns in place of an asynchronous one, if any.
    """

    def decorate(function: F) -> F:
        wraps(method)(function)
        if kind is not None:
            result = str(method.__annotations__["return"]).removeprefix("Async")
            _, _, item = result.rstrip("]").partition("[")
            function.__annotations__ = {**method.__annotations__, "return": kind[item] if item else kind}
            function.__signature__ = inspect.signature(method).replace(return_annotation=result)  # type: ignore[attr-defined]  # read by inspect
        return function

    return decorate


def _materialize(value: Any) -> Any:
    """Return a lazy iterable as a list, and any other value as it is."""
    items = value
    is_lazy = isinstance(value, Iterable) and not isinstance(value, Collection)
    return list(items) if is_lazy else items
