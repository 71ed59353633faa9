"""Both clients have the same names; what the blocking one does not take over is the same, too."""

import inspect
import re
import typing
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import pytest

import primepods

PAIRS: Final[list[tuple[type, type]]] = [
    (getattr(primepods, name), getattr(primepods, name.removeprefix("Async")))
    for name in vars(primepods)["__all__"]
    if name.startswith("Async")
]

RENAMED: Final = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
}

PROTOCOL: Final = {"__repr__", "__reduce__", "__len__", "__call__", *RENAMED, *RENAMED.values()}

BLOCKING: Final = {
    "async for": "for",
    "async with": "with",
    "another task": "another thread",
    "AsyncClient": "Client",
    "for asyncio": "for scripts, notebooks and threads",
    "(not a session that you brought)": "and end the client's thread",
}
"""Where the words of a first sentence differ."""


def members(kind: type) -> dict[str, Any]:
    """What a user can call or read: public names, and the special ones that a protocol is made of."""
    found = inspect.get_annotations(kind)
    for base in reversed(kind.__mro__):
        found |= vars(base) if base.__module__.startswith("primepods.") else {}
    return {name: member for name, member in found.items() if not name.startswith("_") or name in PROTOCOL}


def counterparts() -> list[Any]:
    """Every member that is written twice: of the asynchronous side, and of the blocking one."""
    found = [
        pytest.param(theirs, members(pair[1])[RENAMED.get(name, name)], id=f"{pair[1].__name__}.{name}")
        for pair in PAIRS
        for name, theirs in members(pair[0]).items()
        if RENAMED.get(name, name) in vars(pair[1])
    ]
    return [pair for pair in found if not hasattr(pair.values[1], "__wrapped__")]


def signature(member: Any) -> str:
    """Name, kind, default and type of each parameter, and the type of the result."""
    function: Any = member.fget if isinstance(member, property) else getattr(member, "func", member)
    return str(inspect.signature(function))


def first_sentence(documentation: str | None) -> str:
    """The first sentence in one line, without its full stop."""
    return re.split(r"\.(?: |$)", " ".join((documentation or "").split()))[0]


@pytest.mark.parametrize(("theirs", "ours"), PAIRS, ids=lambda kind: kind.__name__)
def test_neither_side_has_a_name_of_its_own(theirs: type, ours: type) -> None:
    """A new public method, property or attribute on one side only fails here."""
    assert {RENAMED.get(name, name) for name in members(theirs)} == set(members(ours))


@pytest.mark.parametrize(
    ("theirs", "ours"), [*counterparts(), pytest.param(primepods.AsyncClient, primepods.Client, id="Client")]
)
def test_signatures_are_the_same(theirs: Any, ours: Any) -> None:
    """Names, order, kinds, defaults and types of the parameters, and the type of the result."""
    assert type(theirs) is type(ours)
    # A session belongs to a loop of its maker's: the blocking client takes none.
    # The work of a pool is an async function there, and its items may be asynchronous.
    expected = signature(theirs).replace("session: 'aiohttp.ClientSession | None' = None, ", "")
    expected = expected.replace("Async", "")
    expected = expected.replace("Awaitable[R]", "R").replace("Iterable[T] | Iterator[T]", "Iterable[T]")
    assert signature(ours) == expected


@pytest.mark.parametrize(
    ("theirs", "ours"), [*counterparts(), *(pytest.param(*pair, id=pair[1].__name__) for pair in PAIRS)]
)
def test_first_sentences_are_the_same(theirs: Any, ours: Any) -> None:
    """But for the words about asynchronous things; what is public says something."""
    expected = first_sentence(theirs.__doc__)
    for words, ours_words in BLOCKING.items():
        expected = expected.replace(words, ours_words)
    assert first_sentence(ours.__doc__) == expected
    assert ours.__doc__ or ours.__name__.startswith("_")


@pytest.mark.parametrize(
    "method",
    [
        member
        for _, ours in PAIRS
        for name, member in members(ours).items()
        if name[0] != "_" and not isinstance(member, str | property | cached_property)
    ],
)
def test_docstrings_of_methods_suit_a_blocking_caller(method: Callable[..., object]) -> None:
    """None shows asynchronous code; all explain each parameter, under Args, where editors look."""
    documentation = method.__doc__ or ""
    assert not re.search(r"async (for|with)|await|asyncio", documentation)
    for name, parameter in inspect.signature(method).parameters.items():
        if name == "self" or parameter.kind is parameter.VAR_KEYWORD:
            continue
        assert re.search(rf"Args:\n.*^ +{name}: ", documentation, re.MULTILINE | re.DOTALL), name


def test_methods_show_their_own_names_and_results() -> None:
    """`help()`, tracebacks and documentation name the blocking class and method, and what it returns."""
    for _, kind in PAIRS:
        for name, member in vars(kind).items():
            assert not hasattr(member, "__wrapped__") or member.__name__ == name
    listing = primepods.Pods.list
    assert (listing.__qualname__, listing.__module__) == ("Pods.list", primepods.Pods.__module__)
    assert inspect.signature(listing).return_annotation == "Pager[Pod]"
    assert typing.get_type_hints(listing)["return"] == primepods.Pager[primepods.Pod]
    assert not inspect.iscoroutinefunction(primepods.Pods.get)


def test_the_constructors_describe_the_same_settings() -> None:
    """Each setting is documented on both sides."""
    for kind in (primepods.Client, primepods.AsyncClient):
        for name in inspect.signature(kind).parameters:
            assert re.search(rf"^ +{name}: ", kind.__doc__ or "", re.MULTILINE), name
