"""What is shown of an answer: no key, no password, no control codes, and never much."""

import json
import pickle
import time
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods._http.response import Response, protocol_error
from primepods._utils import strict_json as _json
from tests.protocol.answers import KEY, PATH, ask, fail, outcome, refuse, respond, told
from tests.support.json_values import VALUES


def is_json(body: bytes) -> bool:
    """Whether bytes are JSON."""
    try:
        _json.loads(body)
    except ValueError:
        return False
    return True


def test_a_key_in_a_wrong_place_is_nowhere() -> None:
    """An answer whose JSON has not the promised shape is shown in part as well."""
    found = {"a": [str(KEY)], str(KEY): 1}
    error = protocol_error(ask(), f"expected a number, got '{KEY}'", KEY, found=found, path="data[0]")
    assert str(KEY) not in str(error)
    assert error.excerpt == '{"a": ["[redacted]"], "[redacted]": 1}'


PASSWORDS: dict[str, bytes] = {
    "a row that is cut": b'{"jupyterPassword": "hunter2", "a": ',
    "cut within": b'{"jupyterPassword": "hunter2',
    "cut after a backslash": b'{"jupyterPassword": "hunter2\\',
    "with a quote in it": b'{"jupyterPassword":"hun\\"ter2 hunter2" ',
    "a list": b'{"PASSWORD" : ["hunter2", "hunter2"]',
    "an object": b'{"password": {"x": "hunter2"}',
    "an object that is cut": b'{"password": {"x": "hunter2',
    "a nested object": b'{"password": {"a": {"x": 1}, "b": "hunter2"}',
    "a nested list": b'{"password": [["a"], "hunter2"]',
    "a bare word": b'{"db_password_old": hunter2}',
    "beyond what is looked at": b'{"a": "' + b"x" * 750 + b'", "password": "' + b"hunter2" * 50,
}


@pytest.mark.parametrize("name", PASSWORDS)
def test_passwords_are_not_in_an_excerpt(name: str) -> None:
    """Whatever the password is, and wherever the answer breaks off."""
    error = refuse(respond(200, PASSWORDS[name]))
    assert error.excerpt
    assert "hunter2" not in told(error)


def test_passwords_are_not_in_the_excerpt_of_a_value() -> None:
    """Neither as a field of what is shown nor as what is shown itself."""
    row = {"id": [], "jupyterPassword": "hunter2", "name": "x", "n": {"password": 5}}
    error = protocol_error(ask(), "is missing", KEY, found=row, path="data[0].gpuName")
    assert " The value begins: '{" in str(error)
    assert error.excerpt == (
        '{"id": [], "jupyterPassword": "[redacted]", "name": "x", "n": {"password": "[redacted]"}}'
    )
    error = protocol_error(
        ask(), "expected a string, got a list", KEY, found=["hunter2"], path="data[0].jupyterPassword"
    )
    assert (error.excerpt, error.path) == ("", "data[0].jupyterPassword")
    assert "hunter2" not in str(error)


def test_an_excerpt_is_short_and_one_line() -> None:
    """At most 200 characters, nothing that moves a cursor."""
    error = refuse(respond(200, b"line 1\r\n\x1b[2J\x07 line 2 " * 1_000))
    assert len(error.excerpt) == 200
    assert error.excerpt.isprintable()
    assert error.excerpt.startswith("line 1 ")
    assert len(str(error)) < 600


@given(
    st.text() | st.text(alphabet="\x1b[2J\r\n\t\x00\u202e\u2028 ab"), st.sampled_from([200, 400, 422, 500])
)
@example("\x1b]0;title\x07", 422)
def test_control_codes_reach_no_terminal(text: str, status: int) -> None:
    """Neither from JSON, from plain text nor from a web page."""
    bodies: list[Any] = [
        {"detail": text},
        {"errors": [{"param": text, "details": text}]},
        {"detail": [{"loc": [text], "msg": text}]},
        {text: text},
        text.encode(errors="replace"),
        b"<title>" + text.encode(errors="replace"),
    ]
    for body in bodies:
        error = outcome(respond(status, body))
        assert str(error).isprintable()
        assert getattr(error, "message", "").isprintable()
        assert all(part.isprintable() for pair in getattr(error, "errors", ()) for part in pair)


# --- Bodies without end ----------------------------------------------------------------------------

HUGE: Final[dict[str, tuple[bytes, bytes, bytes]]] = {
    "text": (b"", b"x", b""),
    "words": (b"", b"x ", b""),
    "blanks": (b"", b" ", b"x"),
    "angle brackets": (b"", b"<", b""),
    "titles": (b"", b"<title", b""),
    "tags": (b"", b"<a>", b""),
    "a string": (b'{"detail": "', b"x", b'"}'),
    "many complaints": (b'{"errors": [', b'"x",', b'"x"]}'),
    "one long complaint": (b'{"errors": [{"param": "', b"x", b'", "details": "y"}]}'),
    "passwords": (b"", b'"password', b""),
}
"""How each begins, what is repeated in it, and how it ends."""


@pytest.mark.parametrize("status", [200, 422, 502])
@pytest.mark.parametrize("name", HUGE)
def test_a_huge_body_takes_no_time_and_makes_no_long_message(name: str, status: int) -> None:
    """Seconds for a loop that nothing else can run on would be an outage of its own."""
    begin, middle, end = HUGE[name]
    body = begin + middle * (2_000_000 // len(middle)) + end
    started = time.process_time()
    error = outcome(Response(status=status, headers={"content-type": "text/plain"}, body=body))
    assert time.process_time() - started < 4
    assert len(str(error)) < 1_500


def nested(opening: bytes, closing: bytes, levels: int) -> bytes:
    """JSON of a depth that decoders accept, and beyond."""
    return opening * levels + b'"end"' + closing * levels


@pytest.mark.parametrize("levels", [5, 300, 480, 900, 1_000, 5_000])
@pytest.mark.parametrize("status", [400, 422])
def test_a_bottomless_body_is_an_error_like_any_other(status: int, levels: int) -> None:
    """No `RecursionError` comes out, wherever the depth is."""
    deep = nested(b"[", b"]", levels)
    bodies = [
        deep,
        nested(b'{"detail":', b"}", levels),
        b'{"errors": [{"param": ' + deep + b', "details": ' + deep + b"}]}",
        b'{"detail": [{"loc": [' + deep + b'], "msg": ' + deep + b"}]}",
    ]
    for body in bodies:
        error = fail(status, body)
        assert error.message
        assert len(str(error)) < 1_500
        pickle.dumps(str(error))


@given(st.binary() | VALUES.map(lambda value: json.dumps(value).encode()), st.integers(100, 999))
def test_no_answer_breaks_the_reading(body: bytes, status: int) -> None:
    """Whatever comes, with whatever status, the outcome is data or one of our errors, in printable words."""
    error = outcome(respond(status, body))
    assert (error is None) == (
        200 <= status < 300 and (is_json(body) or (status == 204 and not body.strip()))
    )
    assert error is None or str(error).isprintable()
    assert error is None or str(error).startswith(f"GET {PATH}: ")
