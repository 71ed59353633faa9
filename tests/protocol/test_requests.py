"""Requests before they are sent: what cannot be right is refused, and what is sent goes where it should."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods._http.request import PODS, free_request, item_path
from primepods._http.status_batches import MAX_IDS_PER_REQUEST, MAX_REQUEST_LINE, chunk_ids, status_request
from primepods._utils.arguments import MAX_ID_LENGTH, check_count, check_id, check_ids, check_seconds
from tests.support.json_values import ANY_TEXT

BASE = "https://api.example.com/prefix"
ODD_IDS = [
    *("", " ", "a b", "a\tb", "a\n", "\x00", "a\x7f", "a\u00a0b", "a\u2028b", "a\u202eb", "\ud800"),
    *(".", "..", "/", "a/b", "../x", "a\\b", "status", "history", "Status", "HISTORY"),
    "x" * (MAX_ID_LENGTH + 1),
]
FINE_IDS = [
    *("b8b3f3c0d2a54e0fb5a6e4f0a0a5c111", "my_first_pod_id", "...", "a.b", "-", "log", "status2"),
    *("%2e%2e", "%2F", "a?b=c", "a#b", "a&b=c", "a;b", "a+b", "ünïcødé", "x" * MAX_ID_LENGTH),
]


def is_id(pod_id: str) -> bool:
    """Whether a text is a pod id."""
    try:
        check_id(pod_id)
    except ValueError:
        return False
    return True


# --- Ids -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pod_id", ODD_IDS)
def test_what_cannot_be_an_id_is_refused(pod_id: str) -> None:
    """With the reason, the offender (in part, if it is long) and where ids come from."""
    for check in (check_id, item_path):
        with pytest.raises(ValueError, match=r"^pod_id (is|holds|would) .*`pods\.list\(\)`") as caught:
            check(pod_id)
        assert len(str(caught.value)) < 250
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("pod_id", FINE_IDS)
def test_what_could_be_an_id_is_escaped(pod_id: str) -> None:
    """An id is opaque: whatever its characters mean in a URL, they arrive as sent."""
    assert check_id(pod_id) is pod_id
    assert unquote(item_path(pod_id).removeprefix(f"{PODS}/")) == pod_id


PLAIN_ID = "b8b3f3c0d2a54e0fb5a6e4f0a0a5c111"


@given(st.lists(st.sampled_from([*FINE_IDS, PLAIN_ID, "abcdefgh", *ODD_IDS]) | ANY_TEXT, max_size=4))
def test_many_ids_are_checked_as_one_is(pod_ids: list[str]) -> None:
    """All pass exactly if each would."""
    try:
        found = check_ids(pod_ids)
    except ValueError:
        assert not all(map(is_id, pod_ids))
        return
    assert all(map(is_id, pod_ids))
    assert found == list(dict.fromkeys(pod_ids))


# --- Chunks ----------------------------------------------------------------------------------------


IDS = st.lists(st.text(min_size=1, max_size=MAX_ID_LENGTH).filter(is_id), unique=True)


def request_line(chunk: list[str], prefix: str) -> bytes:
    """The line that goes over the wire."""
    request = status_request(chunk)
    return f"{request.method} {prefix}{request.target} HTTP/1.1\r\n".encode()


@given(IDS, st.sampled_from(["", "/prefix", "/" + "p" * 1_000]))
@example([f"{n:032d}" for n in range(1_234)], "")
@example([*(f"{n:032d}" for n in range(150)), "a,b", "é"], "")
@example([f"{n:02d}" + "é" * (MAX_ID_LENGTH - 2) for n in range(30)], "")
@example([f"{n:02d}" + "é" * (MAX_ID_LENGTH - 2) for n in range(30)], "/" + "p" * 1_000)
def test_chunks_lose_nothing_and_fit(pod_ids: list[str], prefix: str) -> None:
    """All ids in their order, at most 100 a request and 8,000 bytes of request line, the prefix included."""
    check_chunks(pod_ids, prefix)


def check_chunks(pod_ids: list[str], prefix: str) -> None:
    """Nothing lost, nothing too long, and no request wasted."""
    chunks = list(chunk_ids(pod_ids, prefix=prefix))
    assert [pod_id for chunk in chunks for pod_id in chunk] == pod_ids
    for chunk in chunks:
        assert 1 <= len(chunk) <= MAX_IDS_PER_REQUEST == 100
        assert len(request_line(chunk, prefix)) <= MAX_REQUEST_LINE == 8_000
    for chunk, following in pairwise(chunks):
        # No request is wasted: with the next id it would have been too long, give or take a separator.
        assert len(chunk) == 100 or len(request_line([*chunk, following[0]], prefix)) >= MAX_REQUEST_LINE - 1


# --- Numbers ---------------------------------------------------------------------------------------


def test_counts_are_integers_in_range() -> None:
    """Both ends included; a bool or float is no count."""
    assert [check_count("limit", n, minimum=1, maximum=3) for n in (1, 2, 3)] == [1, 2, 3]
    for value in (0, 4, -1):
        with pytest.raises(ValueError, match=f"^limit must be from 1 to 3, got {value}$"):
            check_count("limit", value, minimum=1, maximum=3)
    wrong: list[Any] = [True, 1.0, "1", None]
    for value in wrong:
        with pytest.raises(TypeError, match=r"^limit must be an integer, got "):
            check_count("limit", value, minimum=1, maximum=3)


def test_seconds_are_numbers() -> None:
    """Returned as floats; a minimum may be nought, and text is no number."""
    assert check_seconds("timeout", 2) == 2.0
    assert type(check_seconds("timeout", 2)) is float
    assert check_seconds("timeout", 1e-9) == 1e-9
    assert check_seconds("grace", 0, minimum=0) == 0.0
    with pytest.raises(ValueError, match=r"at least 0\.05, got 0\.04$"):
        check_seconds("interval", 0.04, minimum=0.05)
    wrong: list[Any] = ["2", True, None, [2]]
    for value in wrong:
        with pytest.raises(TypeError, match=r"^timeout must be a number of seconds, got "):
            check_seconds("timeout", value)


# --- Any other request -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("/api/v1/ssh_keys/", "/api/v1/ssh_keys/"),
        ("/api/v1/availability/gpus", "/api/v1/availability/gpus"),
        ("/", "/"),
        ("/a/ünï", "/a/%C3%BCn%C3%AF"),
        ("/a/%C3%BC", "/a/%C3%BC"),
        ("/a/b:c@d,e;f=g", "/a/b:c@d,e;f=g"),
        ('/a/"<>^`{|}', "/a/%22%3C%3E%5E%60%7B%7C%7D"),
        ("/a/...", "/a/..."),
        ("/a/..b", "/a/..b"),
    ],
)
def test_a_path_is_sent_as_given(path: str, sent: str) -> None:
    """Escapes that are there stay; what a URL cannot hold is escaped."""
    request = free_request("get", path, None, None)
    assert (request.method, request.path, request.target, request.body) == ("GET", sent, sent, None)


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "api/v1/pods",
            "https://evil.example.com/x",
            "@evil.example.com",
            ":443/x",
            ".evil.example.com",
        ),
        *("/a?b=c", "/a#b", "/\ud800"),
        *("/.", "/..", "/a/../b", "/a/./b", "/a/..", "/a/%2e%2e/b", "/a/.%2E/b", "/a/%2e"),
    ],
)
def test_a_path_stays_within_the_api(path: str) -> None:
    """No other host, no way up, no query in disguise."""
    with pytest.raises(ValueError, match=r"^path must be .*Give it like") as caught:
        free_request("GET", path, None, None)
    assert str(caught.value).isprintable()


@given(ANY_TEXT | st.text(alphabet="/.\\%2eE5cCfF?#@: \nab").map("/{}".format))
def test_no_path_leaves_the_api(path: str) -> None:
    """Whatever is given is refused, or requested from the same host with nothing taken away or added."""
    try:
        request = free_request("GET", path, None, None)
    except ValueError:
        return
    parts = urlsplit(BASE + request.target)
    assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("https", "api.example.com", "", "")
    assert parts.path == f"/prefix{request.path}"
    assert request.path.isascii()
    assert request.path.isprintable()
    assert " " not in request.path
    assert unquote(request.path) == unquote(path)
    assert not {".", ".."} & set(re.sub("%2e", ".", request.path, flags=re.IGNORECASE).split("/"))


@pytest.mark.parametrize("method", ["", "CONNECT", "TRACE", "GET ", "GET\r\n", "FETCH", "\uff27ET"])
def test_methods_are_those_of_an_api(method: str) -> None:
    """Nothing that a proxy would take for its own, and nothing made up."""
    with pytest.raises(ValueError, match=r"^method must be one of DELETE, GET, "):
        free_request(method, "/a", None, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, "/a"), r"^method must be a string, got None$"),
        (("GET", None), r"^path must be a string, got None$"),
        (("GET", b"/a"), r"^path must be a string, got b'/a'$"),
        (("GET", "/a", [("a", 1)]), r"^params must be a mapping, got \[\('a', 1\)\]$"),
        (("GET", "/a", "a=1"), r"^params must be a mapping, got 'a=1'$"),
        (("GET", "/a", []), r"^params must be a mapping, got \[\]$"),
        (
            ("GET", "/a", {"a": b"xy"}),
            r"^params\['a'\] must be strings, numbers or lists of them, got b'xy'$",
        ),
        (("GET", "/a", {5: 1}), r"^params must have strings for keys, got 5$"),
        (("GET", "/a", {"a": {"b": 1}}), r"^params\['a'\] must be "),
        (("GET", "/a", {"a": object()}), r"^params\['a'\] must be "),
        (("GET", "/a", {"a": [[1]]}), r"^params\['a'\] must be "),
        (("GET", "/a", {"a": [b"x"]}), r"^params\['a'\] must be "),
        (("POST", "/a", None, {"a": {1}}), r"^json cannot be sent: .*set"),
        (("POST", "/a", None, object()), r"^json cannot be sent: "),
    ],
)
def test_arguments_of_the_wrong_type_are_named(arguments: tuple[Any, ...], message: str) -> None:
    """A `TypeError` before anything is sent, in words of the call's own parameters."""
    with pytest.raises(TypeError, match=message):
        free_request(*(*arguments, None, None)[:4])


def test_a_body_that_is_no_json_is_named() -> None:
    """NaN, half a surrogate pair, a circle, a bottomless well."""
    circle: list[Any] = []
    circle.append(circle)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for body in (float("nan"), [float("inf")], "\ud800", circle, deep):
        with pytest.raises(ValueError, match=r"^json cannot be sent: "):
            free_request("POST", "/a", None, body)


@pytest.mark.parametrize("params", [{"a": "\ud800"}, {"a": ["b", "\udfff"]}, {"\ud800": 1}, {"a": 10**5_000}])
def test_parameters_that_cannot_be_sent_are_named(params: dict[str, Any]) -> None:
    """Half a surrogate pair, or a number that Python does not write out."""
    with pytest.raises(ValueError, match=r"^params\[.*\] must be text in UTF-8, or a shorter number, got "):
        free_request("GET", "/a", params, None)


def test_parameters_are_repeated_and_left_out() -> None:
    """Lists repeat their key, `None` is left out, truth is spelt as in JSON, all is escaped."""
    params: dict[str, Any] = {
        "a": 1,
        "b": ["x", None, "y"],
        "c": None,
        "d": True,
        "e": [],
        "f": ("ü&=", 1.5, False),
        "g h": "",
    }
    request = free_request("GET", "/a", params, None)
    assert request.query == "a=1&b=x&b=y&d=true&f=%C3%BC%26%3D&f=1.5&f=false&g+h="
    assert free_request("GET", "/a", {}, None).target == "/a"
