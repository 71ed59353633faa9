"""Whatever is passed for any parameter of either client: right, or refused before anything is sent."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import re
import shlex
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import attrgetter
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import primepods
from primepods import (
    AsyncAccountInfo,
    AsyncAvailability,
    AsyncClient,
    AsyncDisks,
    AsyncPods,
    AsyncSSHKeys,
    Client,
    PodState,
    RetryPolicy,
)
from primepods._utils.secret import Secret
from primepods.emulator import Emulator

pytestmark = pytest.mark.anyio

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


TEXT = st.text(max_size=30) | st.sampled_from(
    ["", " ", "a b", "a/b", "..", "status", "a\r\nX: y", "a\x00", "\x1b[31m", "\u202e", "\ud800", "x" * 600]
)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from([True, False, 0, -1, 10**5_000, -(10**400), 1e308, math.nan, math.inf, -math.inf, 0.5])
)
THINGS: st.SearchStrategy[Any] = (
    st.none()
    | NUMBERS
    | TEXT
    | st.binary(max_size=9)
    | st.lists(TEXT | NUMBERS, max_size=3)
    | st.dictionaries(TEXT, NUMBERS, max_size=2)
    | st.sampled_from([Dumb(), Loud(), object(), len, Loud, Secret("hidden"), 1j, {1, 2}, range(3)])
)


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and -sys.float_info.max <= value <= sys.float_info.max
    )


def _is_whole(low: int, high: float) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_seconds(low: float) -> Callable[[Any], bool]:
    return lambda value: _is_number(value) and value >= low and value > 0


def _is_grace(value: Any) -> bool:
    return _is_number(value) and value >= 0


def _is_id(value: Any) -> bool:
    return (
        isinstance(value, str)
        and re.fullmatch(r"[^\s/\\]{1,512}", value) is not None
        and value.isprintable()
        and value not in {".", ".."}
        and value.lower() not in {"status", "history"}
    )


def _are_ids(value: Any) -> bool:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__") or isinstance(value, type):
        return False
    return all(map(_is_id, value))


def _is_path(value: Any) -> bool:
    # Narrower than what is allowed: what is outside of this and not refused is not looked at.
    return isinstance(value, str) and value.startswith("/") and not value.startswith("//")


def _are_params(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    return all(isinstance(item, int | float) and abs(item) < 1e300 for item in value.values())


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except Exception:  # noqa: BLE001 - whatever a strange object does
        return False
    return True


def _is_url(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower().startswith(("http://", "https://"))


def _is_header(value: Any) -> bool:
    # Surrounding whitespace is stripped, also spaces outside of ASCII.
    text = value.strip() if isinstance(value, str) else ""
    return bool(text) and text.isascii() and text.isprintable()


def _is_team(value: Any) -> bool:
    return _is_header(value) and " " not in value.strip()


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and value == value.strip() != ""


def _are_texts(value: Any) -> bool:
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__") or isinstance(value, type):
        return False
    return all(map(_is_text, value))


def _is_text_or_texts(value: Any) -> bool:
    return _is_text(value) or (_are_texts(value) and any(True for _ in value))


def _is_state(value: Any) -> bool:
    if value is None or not _is_text_or_texts(value):
        return value is None
    words = [value] if isinstance(value, str) else value
    return all(PodState(word.upper()).is_known for word in words)


def _is_time(value: Any) -> bool:
    return value is None or (isinstance(value, datetime) and value.tzinfo is not None)


def _are_options(value: Any) -> bool:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return False
    # A word may be empty, or hold anything: `-o ''`.
    are_words = all(isinstance(word, str) for word in value)
    return are_words and "--" not in value and all(word.startswith("-") for word in value[:1])


def _are_headers(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str)
        and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        and isinstance(text, str)
        and text.isascii()
        and text.isprintable()
        for name, text in value.items()
    )


def _is_command(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(shlex.split(value))
    except ValueError:
        return False


def _is_none_or(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or right(value)


_SECONDS = _is_seconds(0)
_NUMBER = _is_whole(1, 2**31 - 1)
_LIMIT = _is_whole(1, 1_000)

Right = Callable[[Any], bool]

RIGHT: dict[str, Right] = {
    # Where, and how much of it.
    **dict.fromkeys(("offset", "node"), _is_whole(0, 2**31 - 1)),
    **dict.fromkeys(("limit", "page_size"), _LIMIT),
    "tail": _is_none_or(_NUMBER),
    "sort_by": lambda value: value in ("terminatedAt", "createdAt"),
    "sort_order": lambda value: value in ("asc", "desc"),
    # Which ones.
    **dict.fromkeys(("pod_id", "key_id", "disk_id", "account.members team_id"), _is_id),
    "pod_ids": _are_ids,
    "status": _is_state,
    **dict.fromkeys(("name", "gpu_type", "kind"), _is_none_or(_is_text_or_texts)),
    "since": _is_time,
    "prefix": lambda value: value is None or (isinstance(value, str) and value != ""),
    "only": lambda value: value is None,
    # For how long.
    **dict.fromkeys(("timeout", "deadline", "login_timeout", "ready_timeout", "release_timeout"), _SECONDS),
    "interval": _is_seconds(0.05),
    **dict.fromkeys(("appear_grace", "install_grace", "base_delay", "max_delay"), _is_grace),
    **dict.fromkeys(("older_than", "wait"), _is_none_or(_is_grace)),
    "until": callable,
    **dict.fromkeys(("on_change", "on_event"), _is_none_or(callable)),
    # What to order.
    **dict.fromkeys(("spec", "public_key"), lambda _: False),
    **dict.fromkeys(("max_hours", "max_spend", "max_price"), _is_none_or(_SECONDS)),
    **dict.fromkeys(("socket", "security", "data_center_id", "cloud_id", "provider"), _is_none_or(_is_text)),
    **dict.fromkeys(("regions", "disks"), _is_none_or(_are_texts)),
    "exclude_providers": _are_texts,
    "gpu_count": _is_none_or(_NUMBER),
    **dict.fromkeys(
        ("missing_ok", "login", "expired", "dry_run", "spot", "unavailable", "jitter"),
        lambda value: isinstance(value, bool),
    ),
    # How to get there.
    "ssh_options": _are_options,
    "ssh_command": _is_command,
    "method": lambda value: (
        isinstance(value, str)
        and value.upper() in {"GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"}
    ),
    "path": _is_path,
    "params": _is_none_or(_are_params),
    "json": _is_json,
    "retry": lambda value: value is None,
    "api_key": _is_team,
    "base_url": _is_none_or(_is_url),
    "team_id": _is_none_or(_is_team),
    "context": lambda value: value is None,
    **dict.fromkeys(("max_concurrency", "attempts"), _is_whole(1, math.inf)),
    "user_agent": _is_none_or(_is_header),
    **dict.fromkeys(("default_headers", "headers"), _is_none_or(_are_headers)),
    # The same names, where they mean something else.
    "pods.watch timeout": _is_none_or(_SECONDS),
    "pods.history until": _is_time,
    **{f"availability.{name} page_size": _is_whole(1, 100) for name in ("gpus", "multi_node", "disks")},
    **{
        f"availability.{name} gpu_type": _is_none_or(_is_text)
        for name in ("gpus", "multi_node", "find", "cheapest")
    },
    "availability.find limit": _is_none_or(_NUMBER),
    "ssh_keys.add name": _is_text,
    "disks.rename name": _is_text,
    "account.wallet limit": _is_none_or(_NUMBER),
    **{f"with_options {name}": _is_none_or(_SECONDS) for name in ("timeout", "deadline")},
    "AsyncClient retry": lambda _: False,
}
"""What is right for a parameter, by its name, or by that of its method and its own."""


def parameters(kind: type, prefix: str = "") -> dict[str, list[str]]:
    """The public methods of a class that have parameters, and these."""
    members = {name: member for name, member in vars(kind).items() if name[0] != "_" and callable(member)}
    found = {name: [*inspect.signature(member).parameters][1:] for name, member in members.items()}
    return {f"{prefix}{name}": names for name, names in found.items() if names}


CALLS = {
    **parameters(AsyncPods, "pods."),
    **parameters(AsyncAvailability, "availability."),
    **parameters(AsyncSSHKeys, "ssh_keys."),
    **parameters(AsyncDisks, "disks."),
    **parameters(AsyncAccountInfo, "account."),
    **parameters(AsyncClient),
}
OPTIONS = [name for name in inspect.signature(AsyncClient).parameters if name != "session"]


def is_right(method: str, name: str) -> Right:
    """The rule for a parameter; a parameter that is added needs one."""
    return RIGHT.get(f"{method} {name}") or RIGHT[name]


NEEDED: dict[str, Any] = {
    "spec": primepods.PodSpec(cloud_id="c", gpu_type="g", socket="s", gpu_count=1, provider="p"),
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
    "default_headers",
    "headers",
    *("pod_ids", "params", "json", "regions", "public_key"),
    *("disks", "exclude_providers", "spec", "ssh_options", "gpu_type", "kind", "name", "status"),
}
"""Parameters that are large, or may be a private key: not they are shown, but what is wrong in them."""
HIDDEN = {"api_key", "base_url", "team_id"}
"""Parameters of which text is not repeated where it could be the key, or hold a password."""

EACH = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def emulator() -> Iterator[Emulator]:
    """An API that must not hear of any of this."""
    with Emulator(pods=1, api_key=KEY) as emulator:
        yield emulator


def arguments(member: Callable[..., Any], name: str, value: Any) -> dict[str, Any]:
    """All that a call needs, with ``value`` for one of its parameters."""
    needed = {key: NEEDED[key] for key in inspect.signature(member).parameters if key in NEEDED}
    return {**needed, name: value}


def check(error: BaseException, name: str, value: Any, emulator: Emulator) -> None:
    """A refusal: before any request, in one line that names the parameter, the value and what is allowed."""
    assert not emulator.requests
    said = str(error)
    # As people write it: "The API key (argument api_key)", "pod_ids[3]", "RetryPolicy.attempts".
    assert name in said or name.replace("_", " ") in said, said
    assert said.isprintable(), said
    assert len(said) < 600
    assert re.search(r"must|Pass|Give|Copy|Correct|Save|[Rr]emove|Make|cannot be sent", said), said
    assert KEY not in said
    if name == "api_key":
        assert not isinstance(value, str | bytes) or len(value) < 4 or str(value) not in said
        assert not isinstance(value, bytes) or len(value) < 4 or repr(value)[2:-1] not in said
    elif name not in SHOWN_BY_PART and not (name in HIDDEN and isinstance(value, str)):
        assert found_in(value, said), said


def found_in(value: Any, said: str) -> bool:
    """Whether a message shows a value, or at least its kind."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - whatever a strange object does
        text = type(value).__name__
    if isinstance(value, str) and not value.strip():
        return "empty" in said or text in said
    if isinstance(value, str) and str.__repr__(value.strip())[:50] in said:
        # Also of a kind with another repr; what surrounds a setting is no part of it.
        return True
    start = "".join(char if char.isprintable() else " " for char in text[:60])
    return start in said


async def refused(call: Callable[[], Any]) -> BaseException | None:
    """What a call is refused with; ``None`` if it began to do something, which is then not waited for."""
    try:
        made = call()
        if isinstance(made, Awaitable):
            # What is refused is refused at once; what is not may wait for half an hour.
            async with asyncio.timeout(40):
                await made
    except REFUSALS as error:
        return error
    except (TimeoutError, primepods.APIError):
        # It was sent.
        pass
    return None


@EACH
@pytest.mark.parametrize(("method", "name"), [(method, name) for method in CALLS for name in CALLS[method]])
@given(value=THINGS)
async def test_no_call_is_sent_with_what_it_cannot_take(
    method: str, name: str, value: Any, emulator: Emulator
) -> None:
    """Every parameter of every method of a client and its parts, asynchronous and blocking."""
    assume(not is_right(method, name)(value))
    async with AsyncClient(KEY, base_url=emulator.url) as client:
        member = attrgetter(method)(client)
        error = await refused(lambda: member(**arguments(member, name, value)))
    if name == "params" and error is None:
        # What can be sent after all, such as text.
        emulator.requests.clear()
        return
    assert error is not None, "it was not refused"
    check(error, name, value, emulator)
    with Client(KEY, base_url=emulator.url) as blocking:
        # It would warn, rightly, that it blocks this loop.
        blocking._portal._has_warned = True
        member = attrgetter(method)(blocking)
        again = await refused(lambda: member(**arguments(member, name, value)))
    assert (type(again), str(again)) == (type(error), str(error))


@EACH
@pytest.mark.parametrize("kind", [AsyncClient, Client])
@pytest.mark.parametrize("name", OPTIONS)
@given(value=THINGS)
async def test_no_client_is_built_with_what_it_cannot_use(
    name: str, kind: type[AsyncClient | Client], value: Any, emulator: Emulator
) -> None:
    """Every option; where it is the key, without repeating it."""
    assume(not is_right("AsyncClient", name)(value))
    given_options: dict[str, Any] = {"api_key": KEY, "base_url": emulator.url, name: value}
    with pytest.raises(REFUSALS) as caught:
        kind(**given_options)
    check(caught.value, name, value, emulator)


@EACH
@pytest.mark.parametrize("kind", [AsyncClient, Client])
@given(value=THINGS)
async def test_no_session_but_aiohttps(
    kind: type[AsyncClient | Client], value: Any, emulator: Emulator
) -> None:
    """Anything else in its place, but for functions, is refused when the client is built."""
    assume(value is not None and not callable(value))
    with pytest.raises(TypeError) as caught:
        kind(KEY, base_url=emulator.url, session=value)
    check(caught.value, "session", value, emulator)


@EACH
@pytest.mark.parametrize("name", [field.name for field in attrs.fields(RetryPolicy)])
@given(value=THINGS)
async def test_no_policy_that_makes_no_sense(name: str, value: Any, emulator: Emulator) -> None:
    """Every field of `RetryPolicy`."""
    assume(not RIGHT[name](value))
    with pytest.raises((TypeError, ValueError)) as caught:
        RetryPolicy(**{name: value})
    check(caught.value, name, value, emulator)


async def test_one_bad_id_among_many_is_named(emulator: Emulator) -> None:
    """Nothing is sent for the good ones either: not even by a delete."""
    bad = ["a", "b", "c d"]
    async with AsyncClient(KEY, base_url=emulator.url) as client:
        for method in ("statuses", "delete_many", "wait"):
            error = await refused(lambda method=method: getattr(client.pods, method)(bad))  # type: ignore[misc]  # mypy does not type a default that is bound
            assert "pod_ids[2]" in str(error)
            assert "'c d'" in str(error)
    assert not emulator.requests
