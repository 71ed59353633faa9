"""Answers: every error that was seen becomes a message to act on, and none of them shows a secret."""

from __future__ import annotations

import json
import logging
import pickle
import time
import traceback
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from primepods import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    FieldError,
    NotFoundError,
    PaymentRequiredError,
    PermissionDeniedError,
    PrimePodsError,
    ProtocolError,
    RateLimitError,
    ServerError,
    ValidationError,
)
from primepods._http import response as _answers
from primepods._http.request import PODS, Request
from primepods._http.response import Response, decipher, missing_row, protocol_error, read_retry_after
from primepods._utils import strict_json as _json
from primepods._utils.secret import Secret
from primepods._utils.text import one_line
from primepods.config import KEY_PAGE
from tests.fixtures import document
from tests.support.json_values import VALUES

KEY = Secret("pit_0123456789_secret_of_the_tests")
BASE_URL = "https://api.example.test"
NOW = datetime(2026, 11, 7, 5, 31, 56, tzinfo=UTC)
PATH = f"{PODS}/my_pod_id"
PACKAGE = Path(_answers.__file__).parent


def ask(method: str = "GET", path: str = PATH, *, text_allowed: bool = False) -> Request:
    """A request for one pod, or for something else."""
    return Request(method=method, path=path, text_allowed=text_allowed)


def respond(status: int, body: Any = b"", **headers: str) -> Response:
    """An answer with JSON, or with bytes."""
    return Response(
        status=status,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )


def read(response: Response, request: Request | None = None) -> Any:
    """The data of an answer."""
    return decipher(request or ask(), response, key=KEY, base_url=BASE_URL, now=NOW.timestamp())


def fail(status: int, body: Any = b"", request: Request | None = None, **headers: str) -> APIError:
    """The error of an answer."""
    with pytest.raises(APIError) as caught:
        read(respond(status, body, **headers), request)
    return caught.value


def refuse(response: Response, request: Request | None = None) -> ProtocolError:
    """The error of an answer that breaks the contract."""
    with pytest.raises(ProtocolError) as caught:
        read(response, request)
    return caught.value


def outcome(response: Response, request: Request | None = None) -> PrimePodsError | None:
    """The error of an answer, if it is one."""
    try:
        read(response, request)
    except PrimePodsError as error:
        return error
    return None


# --- Success ---------------------------------------------------------------------------------------


def encodes(value: Any) -> bool:
    """Whether a value is one of JSON's."""
    try:
        return bool(_json.loads(_json.dumps(value)) == value)
    except ValueError:
        return False


def is_json(body: bytes) -> bool:
    """Whether bytes are JSON."""
    try:
        _json.loads(body)
    except ValueError:
        return False
    return True


@given(VALUES.filter(encodes))
def test_the_data_of_a_success_is_its_json(value: Any) -> None:
    """Whatever it is, for every status from 200 to 299."""
    for status in (200, 201, 202, 299):
        assert read(respond(status, value)) == value


@pytest.mark.parametrize("body", [b"", b" \r\n"])
def test_an_empty_body_is_nothing_where_nothing_is_asked_for(body: bytes) -> None:
    """To a DELETE or POST it is an answer, to a GET only if the status says that it has none."""
    assert read(respond(200, body), ask("DELETE")) is None
    assert read(respond(202, body), ask("POST")) is None
    assert read(respond(204, body), ask("DELETE")) is None
    assert read(respond(204, body)) is None
    assert read(respond(200, body), ask(text_allowed=True)) is None
    error = refuse(respond(200, body))
    assert str(error).startswith(f"GET {PATH}: the API's answer is broken: an empty body. Check the base URL")
    assert error.excerpt == ""


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"OK", {}, "no JSON ("),
        (b'{"a": 1', {"content_type": "application/json"}, "no JSON ("),
        (b'{"a": NaN}', {}, "no JSON ("),
        (b'{"a": "\xff"}', {}, "no JSON ("),
        (b"[" * 100_000, {}, "no JSON ("),
        (b"<html><body>Log in</body></html>", {}, "HTML."),
        (b"  <!doctype html>", {}, "HTML."),
        (b"Log in", {"content_type": "Text/HTML; charset=utf-8"}, "HTML."),
    ],
)
def test_a_success_that_is_no_json_breaks_the_contract(
    body: bytes, headers: dict[str, str], reason: str
) -> None:
    """Says what was asked, what came back and how it begins, and suspects the base URL."""
    error = refuse(respond(200, body, **headers))
    assert str(error).startswith(f"GET {PATH}: the API's answer is broken: {reason}")
    assert "Check the base URL" in str(error)
    assert (error.method, error.url_path, error.path) == ("GET", PATH, "")
    assert error.excerpt
    assert repr(error.excerpt) in str(error)
    assert error.__context__ is None


def test_text_is_an_answer_where_text_is_allowed() -> None:
    """A log may begin with an angle bracket; a web page is none, though."""
    log = ask(path=f"{PATH}/log", text_allowed=True)
    assert read(respond(200, b"line 1\nline 2\xff\n"), log) == "line 1\nline 2\ufffd\n"
    assert read(respond(200, b"<frozen importlib>: x", content_type="text/plain; charset=utf-8"), log) == (
        "<frozen importlib>: x"
    )
    assert read(respond(200, ["line 1"]), log) == ["line 1"]
    for page in (respond(200, b"<html>"), respond(200, b"Log in", content_type="text/html")):
        assert "HTML" in str(refuse(page, log))


# --- Every error that was seen ---------------------------------------------------------------------

# Status and body of each sample, and the message that a user reads for it.
MESSAGES: list[tuple[type[APIError], str]] = [
    (AuthenticationError, "Invalid token."),
    (PermissionDeniedError, "Not authenticated."),
    (NotFoundError, "Pod not found."),
    (ValidationError, "gpuCount: Input should be greater than 0."),
    (ValidationError, "pod.gpuCount: Input should be greater than 0."),
    (BadRequestError, "Missing field: max_price not specified."),
    (PaymentRequiredError, "Insufficient funds."),
    (RateLimitError, "Too many requests."),
    (ServerError, "502 Bad Gateway."),
    (ServerError, "The answer has no text."),
]


@pytest.mark.parametrize("index", range(len(MESSAGES)))
def test_every_sample_of_an_error_is_readable(index: int) -> None:
    """Of the right class, with the API's own words, what was asked, the status, and what to do next."""
    samples = document("error_bodies")
    assert len(samples) == len(MESSAGES)
    sample, (kind, message) = samples[index], MESSAGES[index]
    headers = {name.lower(): value for name, value in sample.get("headers", {}).items()}
    body = json.dumps(sample["body"]).encode() if "body" in sample else sample["text"].encode()
    response = Response(status=sample["status"], headers=headers, body=body)
    with pytest.raises(kind) as caught:
        read(response)
    error = caught.value
    assert type(error) is kind
    assert error.message == message
    told = str(error)
    assert told.startswith(f"GET {PATH}: {sample['status']} ")
    assert f": {message} " in told
    assert told.endswith(".")
    assert len(told) > len(message) + 60
    assert error.body == (sample.get("body") or sample.get("text") or None)
    assert (error.status_code, error.method, error.path) == (sample["status"], "GET", PATH)
    assert (error.headers, error.attempts) == (headers, 1)
    assert pickle.loads(pickle.dumps(error)).body == error.body  # noqa: S301 - our own


def test_both_shapes_of_a_422_give_the_same_complaints() -> None:
    """The schema's and FastAPI's, and a mixture; the place without the word for where it was."""
    ours = fail(422, {"errors": [{"param": "a", "details": "b"}, {"param": "c", "details": "d"}]})
    theirs = fail(422, {"detail": [{"loc": ["body", "a"], "msg": "b"}, {"loc": ["query", "c"], "msg": "d"}]})
    assert isinstance(ours, ValidationError)
    assert isinstance(theirs, ValidationError)
    assert ours.errors == theirs.errors == (FieldError("a", "b"), FieldError("c", "d"))
    assert ours.errors[0].param == "a"
    assert ours.message == theirs.message == "a: b; c: d."
    many = fail(422, {"errors": [{"param": str(n), "details": "d"} for n in range(5_000)]})
    assert isinstance(many, ValidationError)
    assert len(many.errors) == 1_000
    mixed = fail(
        422, {"errors": [{"param": "a", "details": "b"}], "detail": ["x", {"loc": ["y", 0], "msg": "z"}]}
    )
    assert isinstance(mixed, ValidationError)
    assert mixed.errors == (("a", "b"), ("", "x"), ("y.0", "z"))
    assert mixed.message == "a: b; x; y.0: z."


@pytest.mark.parametrize(
    ("body", "errors", "message"),
    [
        ({"detail": "no"}, (), "no."),
        ({"errors": []}, (), '{"errors": []}.'),
        ({"errors": [{}]}, (("", "{}"),), "{}."),
        ({"errors": [{"param": None, "details": None}]}, (("", '{"param": null, "details": null}'),), None),
        ({"errors": [{"param": 5, "message": "m"}]}, (("5", "m"),), "5: m."),
        ({"errors": [5, None]}, (), "[5, null]."),
        ({"errors": {"a": "b"}}, (), '{"a": "b"}.'),
        ({"detail": [{"loc": ["body"], "msg": "m"}]}, (("body", "m"),), "body: m."),
        ({"detail": [{"loc": [], "msg": "m"}]}, (("", "m"),), "m."),
        ({"detail": [{"loc": [["x"], {"y": 1}], "msg": ["m"]}]}, (('["x"].{"y": 1}', '["m"]'),), None),
        ([{"param": "a"}], (), '[{"param": "a"}].'),
    ],
)
def test_odd_complaints_are_told_as_well(body: Any, errors: tuple[Any, ...], message: str | None) -> None:
    """What has not the shape is shown as it is, and nothing raises."""
    error = fail(422, body)
    assert isinstance(error, ValidationError)
    assert error.errors == errors
    assert message is None or error.message == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"message": "m"}, "m."),
        ({"error": "m"}, "m."),
        ({"error": {"message": "m!", "code": 5}}, "m!"),
        ({"detail": {"error": {"msg": "m?"}}}, "m?"),
        ({"title": "m…"}, "m…"),
        ({"detail": "", "message": "m"}, "m."),
        ({"detail": None}, '{"detail": null}.'),
        ({"code": 5}, '{"code": 5}.'),
        ("m", "m."),
        (["m"], '["m"].'),
        (5, "5."),
        (True, "true."),
        (None, "The answer has no text."),
        ({}, "The answer has no text."),
        ([], "The answer has no text."),
        ("", "The answer has no text."),
        ({"detail": {"detail": {"detail": {"detail": {"detail": {"detail": "m"}}}}}}, '{"detail": "m"}.'),
        (b"upstream connect error\nor reset", "upstream connect error or reset."),
        (b"\xff\xfe", "\ufffd\ufffd."),
        (b" \n", "The answer has no text."),
        (
            b"<html><head><title>\n 504 Gateway </title><style>b{}</style></head><body>x</body></html>",
            "504 Gateway.",
        ),
        (b"<h1>Bad&nbsp;Gateway &lt;nginx&gt;</h1><hr>", "Bad Gateway <nginx>."),
        (b"<title></title><p>Words", "Words."),
        (b"<?xml version='1.0'?><Error><Message>Words</Message></Error>", "Words."),
        (b"<br><br>", "The answer has no text."),
        (b"a < b", "a < b."),
    ],
)
def test_a_message_is_found_in_any_body(body: Any, message: str) -> None:
    """In whatever JSON, text or web page it is wrapped, in one line that ends as a sentence."""
    error = fail(500, body)
    assert error.message == message
    assert f": {message} The API or a gateway" in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (400, BadRequestError, "Correct the request."),
        (402, PaymentRequiredError, "Add funds to the wallet."),
        (
            404,
            NotFoundError,
            "a terminated pod leaves list, get and status and is found in `pods.history()`.",
        ),
        (405, APIError, "See the API's message."),
        (409, ConflictError, "Look at the state of the pod with `pods.get()`, then try again."),
        (413, APIError, "Send less at once."),
        (418, APIError, "See the API's message."),
        (422, ValidationError, "Correct the parameters named."),
        (429, RateLimitError, "Ask less often, or share one client."),
        (500, ServerError, "try later."),
        (503, ServerError, "try later."),
        (599, ServerError, "try later."),
        (302, APIError, "See the API's message."),
        (304, APIError, "See the API's message."),
        (100, APIError, "See the API's message."),
    ],
)
def test_each_status_has_its_class_and_a_remedy(status: int, kind: type[APIError], remedy: str) -> None:
    """Also those that nobody has seen yet."""
    error = fail(status, {"detail": "Words"})
    assert type(error) is kind
    assert str(error).startswith(f"GET {PATH}: {status}")
    assert str(error).endswith(remedy)


@pytest.mark.parametrize("status", range(400, 600))
def test_what_passes_is_transient(status: int) -> None:
    """Too many, too early, timed out, and failures of a server or gateway; nothing else that is JSON."""
    passes = status in {408, 421, 425, 429} or (status >= 500 and status not in {501, 505})
    assert fail(status, {"detail": "Words"}).transient == passes


@pytest.mark.parametrize("body", [b"", b"error code: 1020", b"<html><title>Sign in</title></html>"])
def test_a_refusal_that_is_not_json_is_transient(body: bytes) -> None:
    """A gateway's page says nothing of the key or the pod, whatever its content type."""
    for status, kind in ((401, AuthenticationError), (403, PermissionDeniedError)):
        error = fail(status, body)
        assert (type(error), error.transient) == (kind, True)
    for content_type in ("text/html", "text/plain", "application/json"):
        missing = refuse(respond(404, body, content_type=content_type))
        assert missing.transient
        assert "with the status 404" in str(missing)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("method", "need"), [("GET", "Read"), ("DELETE", "Read and Write"), ("POST", "Read and Write")]
)
def test_what_a_key_lacks_is_said(status: int, method: str, need: str) -> None:
    """The permission for what was asked, and where keys come from."""
    told = str(fail(status, {"detail": "no"}, ask(method)))
    assert KEY_PAGE in told
    assert f"the permission Instances: {need}" in told
    assert ("Write" in told) == (need != "Read")
    assert ("missing, wrong or expired" in told) == (status == 401)
    assert ("for pods of another team" in told) == (status == 403)
    other = str(fail(status, {"detail": "no"}, ask(method, "/api/v1/ssh_keys/")))
    assert KEY_PAGE in other
    assert "Instances" not in other


def test_what_a_404_means_depends_on_what_was_asked() -> None:
    """An id may be wrong; a list is always there, unless the base URL is wrong."""
    for path in (f"{PODS}/", f"{PODS}/status", f"{PODS}/history"):
        told = str(fail(404, {"detail": "Not Found"}, ask(path=path)))
        assert f"There is no such list at {BASE_URL}: check the base URL" in told
    assert "check the base URL" not in str(fail(404, {"detail": "no"}))
    other = str(fail(404, {"detail": "no"}, ask(path="/api/v1/ssh_keys/x")))
    assert other.endswith(f"Check the path, the ids in it and the base URL {BASE_URL}.")


@pytest.mark.parametrize("status", [200, 404, 408, 500, 503])
def test_a_post_that_failed_may_have_been_carried_out(status: int) -> None:
    """Its error says so, and how to see; for what can be repeated without harm that is no question."""
    for method, uncertain in (("POST", True), ("PATCH", True), ("GET", False), ("DELETE", False)):
        error = outcome(respond(status, b"<html>"), ask(method))
        assert (f"the {method} may have been carried out" in str(error)) == uncertain
        assert ("`pods.list()`" in str(error)) == uncertain


def test_a_post_that_was_rate_limited_was_not_carried_out() -> None:
    """Nor is it repeated: advice about waits between attempts would not apply."""
    told = str(fail(429, {"detail": "slow"}, ask("POST")))
    assert told.endswith("Nothing was done, and a POST is not repeated: send it again later.")


def test_a_missing_row_is_not_found() -> None:
    """The same class as a 404, with what was asked and where terminated pods go."""
    error = missing_row("GET", f"{PODS}/status", "a\x1bb")
    assert isinstance(error, NotFoundError)
    assert (error.status_code, error.method, error.path) == (404, "GET", f"{PODS}/status")
    assert (error.body, error.headers) == (None, {})
    assert str(error).startswith(f"GET {PODS}/status: The API has no pod 'a\\x1bb'. Check the id")
    assert "pods.history()" in str(error)


# --- Retry-After -----------------------------------------------------------------------------------

DATE = format_datetime(NOW, usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2", 2.0),
        (" 2 ", 2.0),
        ("0", 0.0),
        ("1.5", 1.5),
        ("86400", 86_400.0),
        ("Sat, 07 Nov 2026 05:32:26 GMT", 30.0),
        ("Sat, 07 Nov 2026 07:32:26 +0200", 30.0),
        ("Sat, 07 Nov 2026 05:32:26 -0000", 30.0),
        ("Saturday, 07-Nov-26 05:32:26 GMT", 30.0),
        ("Sat Nov  7 05:32:26 2026", 30.0),
        ("Sat, 07 Nov 2026 05:31:26 GMT", 0.0),
        (str(int(NOW.timestamp()) + 30), 30.0),
        (str(int(NOW.timestamp()) - 30), 0.0),
        *((garbage, None) for garbage in ("", "soon", "-5", "+5", "nan", "inf", "1e3", "1_0", "0x1", "٣")),
        *((garbage, None) for garbage in ("9" * 400, "2, 3", "\x00", "2026-11-07T05:32:26Z")),
        ("Sat, 99 Nov 2026 05:32:26 GMT", None),
        ("Sat, 07 Nov 2026 05:32:26 +9999", None),
        ("Sat, 07 Nov 99999 05:32:26 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """Or seconds since the epoch; what lies in the past is now; anything else is nothing."""
    assert fail(503, b"", retry_after=value).retry_after == seconds
    # The answer's own clock, however wrong, is the one that its date is meant by.
    off = timedelta(days=3)
    headers = {"retry-after": value, "date": DATE}
    assert read_retry_after(headers, now=(NOW - off).timestamp()) == seconds
    assert read_retry_after(headers | {"date": "yesterday"}, now=NOW.timestamp()) == seconds


@given(st.integers(-(10**6), 10**9), st.integers(-1439, 1439))
def test_every_date_is_counted_from_the_answers_own(seconds: int, minutes: int) -> None:
    """In whatever zone it is written."""
    moment = (NOW + timedelta(seconds=seconds)).astimezone(timezone(timedelta(minutes=minutes)))
    headers = {"retry-after": format_datetime(moment), "date": DATE}
    assert read_retry_after(headers, now=0.0) == max(0, seconds)


PARTS = ["Sat,", "07", "Nov", "2026", "05:32:26", "+0000", "GMT", "-", ":", "9999", "0"]
HEADER_TEXTS = st.text() | st.lists(st.sampled_from(PARTS)).map(" ".join)


@given(HEADER_TEXTS, HEADER_TEXTS, st.floats(0, 4e9))
def test_no_header_breaks_the_reading(value: str, date: str, now: float) -> None:
    """Whatever a server sends, the outcome is a finite number of seconds or nothing."""
    seconds = read_retry_after({"retry-after": value, "date": date}, now=now)
    assert seconds is None or 0 <= seconds < float("inf")


# --- Secrets and control codes ---------------------------------------------------------------------


def told(error: PrimePodsError) -> str:
    """All that anybody could see of an error: text, attributes, pickle, log record, locals of our frames."""
    record = logging.LogRecord("x", logging.ERROR, "x", 1, "%s %r", (error, error), None)
    pickled = pickle.dumps(error, protocol=0).decode("latin-1")
    frames = traceback.TracebackException.from_exception(error, capture_locals=True).stack
    ours = [frame for frame in frames if Path(frame.filename).is_relative_to(PACKAGE)]
    assert ours
    shown = [str(frame.locals) for frame in ours]
    return "\n".join([str(error), repr(error), repr(vars(error)), record.getMessage(), pickled, *shown])


def unicode_escapes(text: str) -> bytes:
    """JSON that spells every character by its number."""
    return b'"' + b"".join(b"\\u%04x" % ord(char) for char in text) + b'"'


ECHOES: dict[str, bytes] = {
    "text": f"your key {KEY} is bad".encode(),
    "a web page": f"<title>{KEY}</title><p>{KEY}</p>".encode(),
    "a web page without a title": f"<p>Bearer {KEY}</p>".encode(),
    "detail": json.dumps({"detail": f"key {KEY}"}).encode(),
    "elsewhere": json.dumps({"detail": "no", "request": {"headers": [f"Bearer {KEY}"]}}).encode(),
    "a name": json.dumps({"detail": {str(KEY): 1}}).encode(),
    "a parameter": json.dumps({"errors": [{"param": str(KEY), "details": f"{KEY}"}]}).encode(),
    "a place": json.dumps(
        {"detail": [{"loc": ["body", str(KEY)], "msg": str(KEY), "input": str(KEY)}]}
    ).encode(),
    "escapes": b'{"detail": ' + unicode_escapes(KEY) + b"}",
    "no UTF-8": b"\xff" + KEY.encode() + b"\xff",
    "cut short": b'{"detail": "' + KEY.encode(),
    "half of it at the end of what is shown": b" " * 790 + KEY.encode(),
    "half of it at the end of what is looked at": b"\n" * 19_990 + KEY.encode(),
}


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize("status", [401, 422])
def test_a_key_that_the_server_repeats_is_nowhere(echo: str, status: int) -> None:
    """Not in message, body, headers, complaints, pickle, nor among the locals of a traceback."""
    headers = {"x-echo": f"Bearer {KEY}", "x-request-id": str(KEY), "content-type": "text/plain"}
    with pytest.raises(APIError) as caught:
        read(Response(status=status, headers=headers, body=ECHOES[echo]))
    assert KEY[:12] not in told(caught.value)
    assert caught.value.headers["x-echo"] == "Bearer [redacted]"
    assert caught.value.request_id == "[redacted]"


@pytest.mark.parametrize(
    "echo", ["text", "a web page", "no UTF-8", "cut short", "half of it at the end of what is shown"]
)
def test_a_key_in_a_broken_answer_is_nowhere(echo: str) -> None:
    """Not in the excerpt, also where that ends in the middle of it."""
    assert KEY[:12] not in told(refuse(Response(status=200, headers={}, body=ECHOES[echo])))


def test_a_key_in_a_wrong_place_is_nowhere() -> None:
    """An answer whose JSON has not the promised shape is shown in part as well."""
    found = {"a": [str(KEY)], str(KEY): 1}
    error = protocol_error(ask(), f"expected a number, got '{KEY}'", found, KEY, path="data[0]")
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
    error = protocol_error(ask(), "is missing", row, KEY, path="data[0].gpuName")
    assert error.excerpt == (
        '{"id": [], "jupyterPassword": "[redacted]", "name": "x", "n": {"password": "[redacted]"}}'
    )
    error = protocol_error(
        ask(), "expected a string, got a list", ["hunter2"], KEY, path="data[0].jupyterPassword"
    )
    assert (error.excerpt, error.path) == ("", "data[0].jupyterPassword")
    assert "hunter2" not in str(error)


def test_the_place_of_a_wrong_shape_is_in_the_message() -> None:
    """With what stood there, as the API wrote it, and what to do."""
    error = protocol_error(
        ask(), "expected an integer, got 'many'", "many", KEY, path="data[3].gpuCount", remedy="Do."
    )
    assert str(error) == (
        f"GET {PATH}: the API's answer is broken at data[3].gpuCount: expected an integer, got 'many'. "
        "The answer begins: '\"many\"'. Do."
    )
    assert (error.path, error.url_path, error.excerpt) == ("data[3].gpuCount", PATH, '"many"')
    assert "begins" not in str(protocol_error(ask(), "is missing", None, KEY))


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


@given(st.text())
def test_one_line_is_one_printable_line(text: str) -> None:
    """All words stay, in their order."""
    line = one_line(text)
    assert line.isprintable()
    assert "".join(line.split()) == "".join(char for char in "".join(text.split()) if char.isprintable())


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
    body = begin + middle * (5_000_000 // len(middle)) + end
    started = time.process_time()
    error = outcome(Response(status=status, headers={"content-type": "text/plain"}, body=body))
    assert time.process_time() - started < 10
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
