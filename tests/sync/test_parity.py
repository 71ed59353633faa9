"""Both clients have the same names, parameters, defaults, types and documentation."""

from __future__ import annotations

import ast
import inspect
import re
import typing
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import pytest

import primepods
from primepods import AsyncWatch, sync, waiting
from primepods.client import AsyncClient
from primepods.models import Page, PodChange
from primepods.pagination import AsyncPager
from primepods.resources.pods import AsyncPods
from primepods.sync import Client, Pager, Pods, Watch

PAIRS: Final[list[tuple[type, type]]] = [
    (AsyncClient, Client),
    (AsyncPods, Pods),
    (AsyncPager, Pager),
    (AsyncWatch, Watch),
]

RENAMED: Final = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
}

TRANSLATED: Final[dict[Any, Any]] = {**dict(PAIRS), waiting.OnChange: sync.OnChange}

GENERICS: Final[dict[Any, Any]] = {AsyncIterator: Iterator, AsyncPager: Pager, Page: Page}

VARIABLES: Final = {"T": sync.T}
"""Each module has a variable of its own for the pager's item."""

NOT_HERE: Final = {("AsyncClient", "__init__", "session")}
"""Parameters without a counterpart: an aiohttp session belongs to a loop of its maker's."""

PROTOCOL: Final = {"__aiter__", "__iter__", "__aenter__", "__enter__", "__aexit__", "__exit__", "__init__"}


def members(kind: type) -> dict[str, Any]:
    """What a user can call or read: public names, and the special ones that a protocol is made of."""
    return {
        name: member
        for name, member in vars(kind).items()
        if not name.startswith("_") or name in PROTOCOL | {"__repr__", "__reduce__", "__len__", "__call__"}
    }


def translate(hint: Any) -> Any:
    """The blocking side's type for one of the asynchronous side's."""
    if hint in TRANSLATED:
        return TRANSLATED[hint]
    if isinstance(hint, TypeVar):
        return VARIABLES[hint.__name__]
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Coroutine:
        return translate(args[2])
    if origin in GENERICS:
        return GENERICS[origin][translate(args[0])]
    if isinstance(hint, type(int | None)):
        joined = translate(args[0])
        for arg in args[1:]:
            joined = joined | translate(arg)
        return joined
    return hint


def described(function: Callable[..., Any], *, blocking: bool) -> dict[str, tuple[Any, ...]]:
    """Kind, default and type of each parameter; the type of the result."""
    hints = typing.get_type_hints(function, localns={"aiohttp": aiohttp})
    found: dict[str, tuple[Any, ...]] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name)
        found[name] = (parameter.kind, parameter.default, hint if blocking else translate(hint))
    result = hints.get("return")
    found["return"] = (result if blocking else translate(result),)
    return found


def counterparts() -> list[Any]:
    """Every member of the asynchronous side with its counterpart's name."""
    return [
        pytest.param(theirs, ours, name, RENAMED.get(name, name), id=f"{ours.__name__}.{name}")
        for theirs, ours in PAIRS
        for name in members(theirs)
    ]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_neither_side_has_a_name_of_its_own(theirs: type, ours: type) -> None:
    """A new public method, property or attribute on one side only fails here."""
    assert {RENAMED.get(name, name) for name in members(theirs)} == set(members(ours))
    assert [RENAMED.get(name, name) for name in theirs.__annotations__ if name != "session"] == list(
        ours.__annotations__
    )


@pytest.mark.parametrize(("theirs", "ours", "name", "twin"), counterparts())
def test_signatures_are_the_same(theirs: type, ours: type, name: str, twin: str) -> None:
    """Names, order, kinds, defaults and types of the parameters, and the type of the result."""
    there, here = vars(theirs)[name], vars(ours)[twin]
    assert type(there) is type(here)
    if name == "__init__" and theirs is not AsyncClient:
        return
    expected, found = described(there, blocking=False), described(here, blocking=True)
    for kind, method, parameter in NOT_HERE:
        if (kind, method) == (theirs.__name__, name):
            del expected[parameter]
    assert list(found) == list(expected)
    assert found == expected
    assert not inspect.iscoroutinefunction(here)


@pytest.mark.parametrize(("theirs", "ours", "name", "twin"), counterparts())
def test_documentation_is_the_same(theirs: type, ours: type, name: str, twin: str) -> None:
    """What `help()` says of a method is what it says on the other side; public ones say something."""
    there, here = vars(theirs)[name], vars(ours)[twin]
    assert here.__doc__ == there.__doc__
    assert here.__doc__ or name.startswith("_")


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_attributes_have_the_counterparts_types(theirs: type, ours: type) -> None:
    """`client.pods` is `AsyncPods` there and `Pods` here."""
    expected = {name: translate(hint) for name, hint in typing.get_type_hints(theirs).items()}
    assert typing.get_type_hints(ours) == expected


def test_the_constructors_describe_the_same_settings() -> None:
    """Each setting is documented on both sides; the common words are common."""
    names = set(inspect.signature(Client).parameters)
    assert names == set(inspect.signature(AsyncClient).parameters) - {"session"}
    for name in names:
        assert re.search(rf"^ +{name}: ", Client.__doc__ or "", re.MULTILINE)
        assert re.search(rf"^ +{name}: ", AsyncClient.__doc__ or "", re.MULTILINE)


def test_every_async_name_of_the_package_has_a_blocking_one() -> None:
    """`primepods.AsyncX` and `primepods.X` come in pairs."""
    names = [name for name in primepods.__all__ if name.startswith("Async")]
    assert names
    assert {name.removeprefix("Async") for name in names} <= set(primepods.__all__)
    assert sorted(names) == sorted(theirs.__name__ for theirs, _ in PAIRS)


def test_on_change_differs_only_in_what_may_be_awaited() -> None:
    """The blocking side takes the same change."""
    assert typing.get_args(sync.OnChange)[0] == typing.get_args(waiting.OnChange)[0] == [PodChange]


def test_the_type_checkers_see_every_method_on_both_sides() -> None:
    """What is added to a client is added to the file that mypy and pyright read, in both halves."""
    path = Path(__file__).parent.parent / "typing" / "api.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for side, kind in ((0, ast.AsyncFunctionDef), (1, ast.FunctionDef)):
        functions = [node for node in tree.body if isinstance(node, kind)]
        seen = {node.attr for made in functions for node in ast.walk(made) if isinstance(node, ast.Attribute)}
        public = {name for pair in PAIRS for name in members(pair[side]) if not name.startswith("_")}
        assert public - seen == set()
