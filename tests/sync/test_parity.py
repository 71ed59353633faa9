"""Both clients have the same names, parameters, defaults, types and first sentences."""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import re
import typing
from collections.abc import Awaitable, Callable, Coroutine
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar

import aiohttp
import pytest

import primepods
from primepods import _blocking, waiting
from primepods._utils.iterators import ClosableAsyncIterator, ClosableIterator
from primepods.client import AsyncClient
from primepods.models import Page, PodChange
from primepods.pagination import AsyncPager
from primepods.resources.availability import AsyncAvailability
from primepods.resources.pods import AsyncPods
from primepods.resources.ssh_keys import AsyncSSHKeys
from primepods.sync import Availability, Client, Pager, Pods, SSHKeys, Watch
from primepods.waiting import AsyncWatch

PAIRS: Final[list[tuple[type, type]]] = [
    (AsyncClient, Client),
    (AsyncPods, Pods),
    (AsyncPager, Pager),
    (AsyncWatch, Watch),
    (AsyncAvailability, Availability),
    (AsyncSSHKeys, SSHKeys),
    (primepods.AsyncRemote, primepods.Remote),
    (primepods.AsyncLease, primepods.Lease),
    (primepods.AsyncLeasedPod, primepods.LeasedPod),
]

RENAMED: Final = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
}

MAKE_SESSION: Final = Callable[[], aiohttp.ClientSession | Awaitable[aiohttp.ClientSession]]
TRANSLATED: Final[dict[Any, Any]] = {
    **dict(PAIRS),
    # A session belongs to a loop of its maker's: the blocking client takes only what makes one.
    aiohttp.ClientSession | MAKE_SESSION | None: MAKE_SESSION | None,
}

GENERICS: Final[dict[Any, Any]] = {
    ClosableAsyncIterator: ClosableIterator,
    AsyncPager: Pager,
    Page: Page,
    list: list,
    tuple: tuple,
}

PROTOCOL: Final = {"__init__", "__repr__", "__reduce__", "__len__", "__call__", *RENAMED, *RENAMED.values()}

BLOCKING: Final = {
    "async for": "for",
    "async with": "with",
    "another task": "another thread",
    "AsyncClient": "Client",
    "for asyncio": "for scripts, notebooks and threads",
    " (and awaited, if need be)": " in this thread",
    "(not a session that you brought)": "and end the client's thread",
}
"""Where the words of a first sentence differ."""


def members(kind: type) -> dict[str, Any]:
    """What a user can call or read: public names, and the special ones that a protocol is made of."""
    return {
        name: member for name, member in vars(kind).items() if not name.startswith("_") or name in PROTOCOL
    }


def translate(hint: Any) -> Any:
    """The blocking side's type for one of the asynchronous side's."""
    if hint in TRANSLATED:
        return TRANSLATED[hint]
    if isinstance(hint, TypeVar):
        return Pager.__parameters__[0]  # type: ignore[attr-defined]  # typing's own
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Callable:
        return hint[translate(hint.__parameters__[0])] if hint.__parameters__ else hint
    if origin is Coroutine:
        return translate(args[2])
    if origin in GENERICS:
        return GENERICS[origin][tuple(map(translate, args))]
    if isinstance(hint, type(int | None)):
        hint = functools.reduce(operator.or_, map(translate, args))
    return hint


def described(function: Callable[..., Any], *, blocking: bool) -> list[tuple[Any, ...]]:
    """Name, kind, default and type of each parameter; the type of the result."""
    # The modules do not import what is loaded when it is used.
    used_later = {
        "aiohttp": aiohttp,
        **{name: getattr(primepods, name) for name in vars(primepods)["__all__"]},
    }
    hints = typing.get_type_hints(function, localns=used_later)
    found: list[tuple[Any, ...]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints.get(name)
        found.append((name, parameter.kind, parameter.default, hint if blocking else translate(hint)))
    result = hints.get("return")
    return [*found, ("return", result if blocking else translate(result))]


def first_sentence(documentation: str | None) -> str:
    """The first sentence in one line, without its full stop."""
    return re.split(r"\.(?: |$)", " ".join((documentation or "").split()))[0]


def counterparts() -> list[Any]:
    """Every member of the asynchronous side with its counterpart's name."""
    return [
        pytest.param(vars(theirs)[name], vars(ours)[RENAMED.get(name, name)], id=f"{ours.__name__}.{name}")
        for theirs, ours in PAIRS
        for name in members(theirs)
        if RENAMED.get(name, name) in vars(ours)
    ]


def function_of(member: Any) -> Any:
    """The function of a method or a property."""
    if isinstance(member, property):
        return member.fget
    return member.func if isinstance(member, cached_property) else member


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_neither_side_has_a_name_of_its_own(theirs: type, ours: type) -> None:
    """A new public method, property or attribute on one side only fails here."""
    # How what a call returns is made differs.
    assert {RENAMED.get(name, name) for name in members(theirs)} | {"__init__"} == {
        *members(ours),
        "__init__",
    }
    expected = {name: translate(hint) for name, hint in typing.get_type_hints(theirs).items()}
    assert typing.get_type_hints(ours) == expected


@pytest.mark.parametrize(("theirs", "ours"), counterparts())
def test_signatures_are_the_same(theirs: Any, ours: Any) -> None:
    """Names, order, kinds, defaults and types of the parameters, and the type of the result."""
    assert type(theirs) is type(ours)
    theirs, ours = function_of(theirs), function_of(ours)
    if ours.__name__ != "__init__" or ours is Client.__init__:
        assert described(ours, blocking=True) == described(theirs, blocking=False)
    assert not inspect.iscoroutinefunction(ours)


@pytest.mark.parametrize(
    ("theirs", "ours"), [*counterparts(), *(pytest.param(*pair, id=pair[1].__name__) for pair in PAIRS)]
)
def test_first_sentences_are_the_same(theirs: Any, ours: Any) -> None:
    """But for the words about asynchronous things; what is public says something."""
    expected = first_sentence(theirs.__doc__)
    for words, ours_words in BLOCKING.items():
        expected = expected.replace(words, ours_words)
    assert first_sentence(ours.__doc__) == expected
    assert not re.search(r"async (for|with)|await|asyncio", ours.__doc__ or "")
    assert ours.__doc__ or ours.__name__.startswith("_")


@pytest.mark.parametrize(
    "method", [member for _, ours in PAIRS for name, member in members(ours).items() if name[0] != "_"]
)
def test_every_parameter_is_documented_in_its_own_method(method: Callable[..., object]) -> None:
    """Editors show what stands in the source, under Args."""
    if inspect.isfunction(method):
        for name in set(inspect.signature(method).parameters) - {"self"}:
            assert re.search(rf"Args:\n.*^ +{name}: ", method.__doc__ or "", re.MULTILINE | re.DOTALL), name


def test_the_constructors_describe_the_same_settings() -> None:
    """Each setting is documented on both sides."""
    for name in inspect.signature(AsyncClient).parameters:
        for kind in (Client, AsyncClient):
            assert re.search(rf"^ +{name}: ", kind.__doc__ or "", re.MULTILINE), name


def test_every_async_name_of_the_package_has_a_blocking_one() -> None:
    """`primepods.AsyncX` and `primepods.X` come in pairs."""
    names = [name for name in vars(primepods)["__all__"] if name.startswith("Async")]
    assert {name.removeprefix("Async") for name in names} <= set(vars(primepods)["__all__"])
    assert sorted(names) == sorted(theirs.__name__ for theirs, _ in PAIRS)


def test_on_change_differs_only_in_what_may_be_awaited() -> None:
    """The blocking side takes the same change."""
    assert typing.get_args(_blocking.OnChange)[0] == typing.get_args(waiting.OnChange)[0] == [PodChange]


def test_the_type_checkers_see_every_method_on_both_sides() -> None:
    """What is added to a client is added to the file that mypy and pyright read, in both halves."""
    path = Path(__file__).parent.parent / "typing" / "api.py"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for side, kind in ((0, ast.AsyncFunctionDef), (1, ast.FunctionDef)):
        functions = [node for node in tree.body if isinstance(node, kind)]
        seen = {node.attr for made in functions for node in ast.walk(made) if isinstance(node, ast.Attribute)}
        public = {name for pair in PAIRS for name in members(pair[side]) if not name.startswith("_")}
        assert public - seen == set()
