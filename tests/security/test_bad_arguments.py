"""Whatever is passed for any parameter of either client: right, or refused before anything is sent."""

import asyncio
import inspect
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from operator import attrgetter
from typing import Any, Final

import attrs
import pytest

import primepods
from primepods import (
    AsyncAccountInfo,
    AsyncAvailability,
    AsyncClient,
    AsyncDisks,
    AsyncPods,
    AsyncSSHKeys,
    Client,
    RetryPolicy,
)
from primepods.emulator import Emulator
from primepods.resources.availability import OfferCriteria, OfferFilters

KEY = "pit_key_of_these_tests_0123456789"
REFUSALS = (TypeError, ValueError, primepods.ConfigError)


class Dumb:
    """Something whose `repr` breaks."""

    def __repr__(self) -> str:
        msg = "no repr"
        raise RuntimeError(msg)


class Loud:
    """Something whose `repr` would take over a terminal."""

    def __repr__(self) -> str:
        return "\x1b[31m\r\n" * 5_000


GROUPS: Final[dict[str, list[Any]]] = {
    "none": [None],
    "flag": [True, False],
    "zero": [0],
    "count": [1, 7],
    "many": [1_001],
    "fraction": [0.5, 1e308],
    "large": [2**31],
    "huge": [10**5_000],
    "negative": [-1, -0.5, -(10**400)],
    "number": [math.nan, math.inf, -math.inf, 1j],
    "empty": [""],
    "blank": [" "],
    "id": ["abc"],
    "long": ["x" * 600],
    "words": ["a b"],
    "path": ["a/b", "..", "status"],
    "text": ["a\r\nX: y", "a\x00", "\x1b[31m", "\u202e"],
    "surrogate": ["\ud800"],
    "bytes": [b"ab"],
    "ids": [["abc"]],
    "list": [["a b"]],
    "lists": [[7], ["abc", ""], ["\x00"]],
    "iterable": [{1, 2}, range(3)],
    "nothing": [[]],
    "mapping": [{}],
    "numbers": [{"a": 1}],
    "nan": [{"a": math.nan}],
    "function": [len, Loud],
    "object": [Dumb(), Loud(), object(), datetime(2026, 1, 1)],
}
"""Values, in groups that are right or wrong together."""

_MAX_HOURS = ("max_hours", "max_spend", "max_price")
_PAUSES = ("appear_grace", "install_grace", "base_delay", "max_delay", "wind_down")
_TIMEOUTS = (
    "timeout",
    "deadline",
    "login_timeout",
    "ready_timeout",
    "release_timeout",
    "interval",
    "check_timeout",
)
_FILTERS = ("socket", "security", "data_center_id", "cloud_id", "provider", "user_agent")
_FLAGS = ("missing_ok", "login", "expired", "dry_run", "spot", "unavailable", "jitter", "multi_node")
_TEXT = "id long words path"
_JSON = "ids list nothing mapping numbers"
_TEXTS = f"{_JSON} nan"

RIGHT: Final[dict[str, str]] = {
    # Where, and how much of it.
    **dict.fromkeys(("offset", "node"), "zero count many"),
    **dict.fromkeys(("limit", "page_size"), "count"),
    **dict.fromkeys(
        ("tail", "gpu_count", "availability.find limit", "account.wallet limit"), "none count many"
    ),
    **dict.fromkeys(("max_concurrency", "attempts", "size"), "count many large huge"),
    "retries": "zero count many large huge",
    # Which ones.
    **dict.fromkeys(("pod_id", "key_id", "disk_id", "account.members team_id"), "id"),
    "pod_ids": "ids nothing mapping numbers nan",
    **dict.fromkeys(("name", "gpu_type", "kind"), f"none {_TEXT} ids list numbers nan"),
    **dict.fromkeys(("ssh_keys.add name", "disks.rename name"), _TEXT),
    **{
        f"availability.{name} gpu_type": f"none {_TEXT}"
        for name in ("gpus", "multi_node", "find", "cheapest")
    },
    **dict.fromkeys(_FILTERS, f"none {_TEXT}"),
    **dict.fromkeys(("regions", "disks"), f"none {_TEXTS}"),
    "exclude_providers": _TEXTS,
    "prefix": f"none blank {_TEXT} text surrogate",
    # For how long, and for how much.
    **dict.fromkeys(_TIMEOUTS, "count many fraction large"),
    **dict.fromkeys(_PAUSES, "zero count many fraction large"),
    **dict.fromkeys(("older_than", "wait"), "none zero count many fraction large"),
    **dict.fromkeys((*_MAX_HOURS, "pods.watch timeout"), "none count many fraction large"),
    **dict.fromkeys(("with_options timeout", "with_options deadline"), "none count many fraction large"),
    # What is called, and what is switched.
    "until": "function",
    **dict.fromkeys(("on_change", "on_event", "on_progress", "setup"), "none function"),
    "session": "none",
    **dict.fromkeys(_FLAGS, "flag"),
    # What runs there, and how to get there.
    "check": f"none {_TEXT} text surrogate ids list lists",
    "ssh_options": "nothing",
    "ssh_command": f"{_TEXT} text surrogate",
    "api_key": "id long path",
    "team_id": "none id long path",
    "params": "none nothing mapping numbers nan",
    "json": f"none flag zero count many fraction large huge negative empty blank {_TEXT} text lists {_JSON}",
    # Of what they take there is nothing here, but for the default.
    **dict.fromkeys(
        ("status", "only", "since", "pods.history until", "retry", "base_url", "context", "watchdog"), "none"
    ),
    **dict.fromkeys(
        ("spec", "sort_by", "sort_order", "public_key", "method", "path", "AsyncClient retry"), ""
    ),
    **dict.fromkeys(("Client retry",), ""),
}
"""The groups that are right for a parameter, by its name, or by that of its method and its own."""


KEYWORDS: Final[dict[str, Iterable[str]]] = {
    "Unpack[LeaseArguments]": (),  # those of `pods.lease`
    "Unpack[OfferFilters]": OfferFilters.__annotations__,
    "Unpack[OfferCriteria]": OfferCriteria.__annotations__,
}
"""The parameters that a dict stands for."""


def names(method: Callable[..., Any]) -> list[str]:
    """The parameters of a method, but for `self`."""
    _, *found = inspect.signature(method).parameters.values()
    return [name for each in found for name in KEYWORDS.get(each.annotation, [each.name])]


def parameters(kind: type, prefix: str = "") -> list[tuple[str, str]]:
    """The public methods of a class, each with each of its parameters."""
    members = {name: member for name, member in vars(kind).items() if name[0] != "_" and callable(member)}
    found = {name: names(member) for name, member in members.items()}
    return [(f"{prefix}{method}", name) for method, names in found.items() for name in names]


CALLS = [
    *parameters(AsyncPods, "pods."),
    *parameters(AsyncAvailability, "availability."),
    *parameters(AsyncSSHKeys, "ssh_keys."),
    *parameters(AsyncDisks, "disks."),
    *parameters(AsyncAccountInfo, "account."),
    *parameters(AsyncClient),
]
OPTIONS: list[tuple[type, str]] = [
    *((kind, name) for kind in (AsyncClient, Client) for name in inspect.signature(kind).parameters),
    *((RetryPolicy, field.name) for field in attrs.fields(RetryPolicy)),
]


def wrong(method: str, name: str) -> list[Any]:
    """What is wrong for a parameter; a parameter that is added needs a line above."""
    right = RIGHT.get(f"{method} {name}", RIGHT.get(name)).split()  # type: ignore[union-attr]  # a KeyError's equal
    return [value for group, values in GROUPS.items() if group not in right for value in values]


NEEDED: dict[str, Any] = {
    "spec": primepods.PodSpec(name="n", cloud_id="c", gpu_type="g", socket="s", gpu_count=1, provider="p"),
    "pod_id": "abc",
    **dict.fromkeys(("disk_id", "team_id"), "abc"),
    "pod_ids": ["abc"],
    "method": "GET",
    "path": "/x",
    "name": "n",
    "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
}
"""What is right where a parameter has no default."""
SHOWN_BY_PART = {
    *("pod_ids", "params", "json", "regions", "public_key", "check"),
    *("disks", "exclude_providers", "spec", "ssh_options", "gpu_type", "kind", "name", "status"),
}
"""Parameters that are large, or may be a private key: not they are shown, but what is wrong in them."""
HIDDEN = {"api_key", "base_url", "team_id"}
"""Parameters of which text is not repeated where it could be the key, or hold a password."""


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An API that must not hear of any of this."""
    with Emulator(pods=1, api_key=KEY) as emulator:
        yield emulator


def check(error: BaseException | None, name: str, value: Any) -> None:
    """A refusal: in one line that names the parameter, the value and what is allowed."""
    assert error is not None, f"this was not refused: {value!r}"
    said = str(error)
    # As people write it: "The API key (argument api_key)", "pod_ids[3]", "RetryPolicy.attempts".
    assert name in said or name.replace("_", " ") in said, said
    assert said.isprintable(), said
    assert len(said) < 600
    assert re.search(r"must|Pass|Give|Copy|Correct|Create|Save|[Rr]emove|Make|cannot be sent", said), said
    assert KEY not in said
    if name == "api_key":
        assert not isinstance(value, str | bytes) or len(value) < 4 or str(value) not in said
        assert not isinstance(value, bytes) or repr(value)[2:-1] not in said
    elif name not in SHOWN_BY_PART and not (name in HIDDEN and isinstance(value, str)):
        assert found_in(value, said), said


def found_in(value: Any, said: str) -> bool:
    """Whether a message shows a value, or at least its kind."""
    try:
        text = repr(value)
    except Exception:
        text = type(value).__name__
    start = "".join(char if char.isprintable() else " " for char in text[:60])
    return start in said or (isinstance(value, str) and not value.strip() and "empty" in said)


def refused(call: Callable[[], Any]) -> BaseException | None:
    """What a call is refused with; ``None`` if it was sent."""

    async def run(made: Awaitable[object]) -> object:
        # What is refused is refused at once; what is not may wait for half an hour.
        async with asyncio.timeout(40):
            return await made

    try:
        made = call()
        if isinstance(made, Awaitable):
            asyncio.run(run(made))
    except REFUSALS as error:
        return error
    except (TimeoutError, primepods.APIError):
        pass
    return None


@pytest.mark.parametrize(("method", "name"), CALLS)
def test_no_call_is_sent_with_what_it_cannot_take(method: str, name: str, emulator: Emulator) -> None:
    """Every parameter of every method of a client and its parts, asynchronous and blocking."""
    theirs = attrgetter(method)(AsyncClient(KEY, base_url=emulator.url))
    needed = {key: NEEDED[key] for key in inspect.signature(theirs).parameters if key in NEEDED}
    with Client(KEY, base_url=emulator.url) as client:
        ours = attrgetter(method)(client)
        for value in wrong(method, name):
            error = refused(partial(theirs, **needed | {name: value}))
            check(error, name, value)
            again = refused(partial(ours, **needed | {name: value}))
            assert (type(again), str(again)) == (type(error), str(error))
    assert not emulator.requests


@pytest.mark.parametrize(("kind", "name"), OPTIONS)
def test_nothing_is_built_with_what_it_cannot_use(kind: type, name: str, emulator: Emulator) -> None:
    """Every option of a client, and every field of a policy; where it is the key, without repeating it."""
    needed = {} if kind is RetryPolicy else {"api_key": KEY, "base_url": emulator.url}
    for value in wrong(kind.__name__, name):
        with pytest.raises(REFUSALS) as caught:
            kind(**needed | {name: value})
        check(caught.value, name, value)


@pytest.mark.parametrize("method", ["statuses", "delete_many", "wait"])
def test_one_bad_id_among_many_is_named(method: str, emulator: Emulator) -> None:
    """Nothing is sent for the good ones either: not even by a delete."""
    client = AsyncClient(KEY, base_url=emulator.url)
    error = refused(lambda: getattr(client.pods, method)(["a", "b", "c d"]))
    assert "pod_ids[2]" in str(error)
    assert "'c d'" in str(error)
    assert not emulator.requests


@pytest.mark.parametrize("method", ["gpus", "multi_node", "find", "cheapest"])
def test_a_mistyped_criterion_is_refused(method: str, emulator: Emulator) -> None:
    """Not sent as a filter, which a server might ignore."""
    with Client(KEY, base_url=emulator.url) as client:
        for side in (client, AsyncClient(KEY, base_url=emulator.url)):
            error = refused(partial(getattr(side.availability, method), max_pric=2))
            assert isinstance(error, TypeError)
            assert "max_pric" in str(error)
    assert not emulator.requests
