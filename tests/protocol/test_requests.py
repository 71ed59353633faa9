"""Requests before they are sent: what cannot be right is refused, and what is sent goes where it should."""

import re
from itertools import pairwise
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods._http.request import PODS, free_request, item_path
from primepods._http.status_batches import MAX_IDS_PER_REQUEST, MAX_REQUEST_LINE, chunk_ids, status_request
from primepods._utils.arguments import MAX_ID_LENGTH, check_id, check_ids, check_seconds
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


def test_ids_are_checked_and_escaped() -> None:
    """An id is opaque: it arrives as sent, or is refused with the reason and where ids come from."""
    for pod_id in ODD_IDS:
        with pytest.raises(ValueError, match=r"^pod_id (is|holds|would) .*`pods\.list\(\)`") as caught:
            item_path(pod_id)
        assert len(str(caught.value)) < 250
        assert str(caught.value).isprintable()
    for pod_id in FINE_IDS:
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


def test_seconds_have_a_minimum() -> None:
    """The message says what was given."""
    with pytest.raises(ValueError, match=r"^interval .* at least 0\.05, got 0\.04$"):
        check_seconds("interval", 0.04, minimum=0.05)


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


@given(ANY_TEXT | st.text(alphabet="/.\\%2eE5cCfF?#@: \nab").map("/{}".format))
@example("https://evil.example.com/x")
@example("@evil.example.com")
@example(".evil.example.com")
@example("/a/../b")
@example("/a/.%2E/b")
@example("/..%2fx")
@example("/a%5C..\\b")
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
    assert not {".", ".."} & set(re.split(r"[/\\]", unquote(request.path)))


@pytest.mark.parametrize("method", ["", "CONNECT", "TRACE", "GET ", "GET\r\n", "FETCH", "\uff27ET"])
def test_methods_are_those_of_an_api(method: str) -> None:
    """Nothing that a proxy would take for its own, and nothing made up."""
    with pytest.raises(ValueError, match=r"^method must be one of DELETE, GET, "):
        free_request(method, "/a", None, None)


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


@pytest.mark.parametrize(
    "params",
    [
        *({"a": "\ud800"}, {"a": ["b", "\udfff"]}, {"\ud800": 1}, {"a": 10**5_000}, {"a": [float("nan")]}),
        *({"a": b"xy"}, {"a": {"b": 1}}, {"a": [[1]]}, {"a": [b"x"]}, {5: 1}, "a=1"),
    ],
)
def test_parameters_that_cannot_be_sent_are_named(params: Any) -> None:
    """Half a surrogate pair, a number that Python does not write out, or what a query cannot hold."""
    with pytest.raises((TypeError, ValueError), match=r"^params(\[.*\])? must (be|have) .*, got "):
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
