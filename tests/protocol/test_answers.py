"""Answers: every error that was seen becomes a message to act on, and none of them shows a secret."""

import json
import pickle
import time
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from hypothesis import given
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
    RateLimitError,
    ServerError,
    ValidationError,
)
from primepods._http.request import PODS
from primepods._http.response import Response, read_retry_after
from primepods.config import KEY_PAGE
from tests.fixtures import document
from tests.protocol.answers import BASE_URL, NOW, PATH, ask, fail, read, refuse, respond

# --- Success ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (b"OK", {}, "not JSON ("),
        (b'{"a": 1', {"content_type": "application/json"}, "not JSON ("),
        (b'{"a": NaN}', {}, "not JSON ("),
        (b'{"a": "\xff"}', {}, "not JSON ("),
        (b"[" * 100_000, {}, "not JSON ("),
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
    assert str(error).startswith(f"GET {PATH}: the API's response is invalid: {reason}")
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
    (ServerError, "The response has no text."),
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
    assert pickle.loads(pickle.dumps(error)).body == error.body


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
        ({"detail": [{"loc": ["body"], "msg": "Value error, m"}]}, (("body", "m"),), "body: m."),
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
        (None, "The response has no text."),
        ({}, "The response has no text."),
        ([], "The response has no text."),
        ("", "The response has no text."),
        ({"detail": {"detail": {"detail": {"detail": {"detail": {"detail": "m"}}}}}}, '{"detail": "m"}.'),
        (b"upstream connect error\nor reset", "upstream connect error or reset."),
        (b"\xff\xfe", "\ufffd\ufffd."),
        (b" \n", "The response has no text."),
        (
            b"<html><head><title>\n 504 Gateway </title><style>b{}</style></head><body>x</body></html>",
            "504 Gateway.",
        ),
        (b"<h1>Bad&nbsp;Gateway &lt;nginx&gt;</h1><hr>", "Bad Gateway <nginx>."),
        (b"<title></title><p>Words", "Words."),
        (b"<?xml version='1.0'?><Error><Message>Words</Message></Error>", "Words."),
        (b"<br><br>", "The response has no text."),
        (b"a < b", "a < b."),
    ],
)
def test_a_message_is_found_in_any_body(body: Any, message: str) -> None:
    """In whatever JSON, text or web page it is wrapped, in one line that ends as a sentence."""
    error = fail(500, body)
    assert error.message == message
    assert f": {message} The API, or a gateway" in str(error)


@pytest.mark.parametrize(
    ("status", "kind", "remedy"),
    [
        (400, BadRequestError, "Correct what the API's message names: the same request would fail again."),
        (402, PaymentRequiredError, "Add funds to the wallet."),
        (404, NotFoundError, "A terminated pod is no longer listed: see `pods.history()`."),
        (405, APIError, "See the API's message."),
        (409, ConflictError, "Look at the state of the pod with `pods.get()`, then try again."),
        (413, APIError, "Send fewer ids, or a smaller body."),
        (418, APIError, "See the API's message."),
        (422, ValidationError, "Correct the parameters that the API's message names."),
        (429, RateLimitError, "Send fewer requests, or share one client."),
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


def test_what_passes_is_transient() -> None:
    """Too many, too early, timed out, and failures of a server or gateway; nothing else that is JSON."""
    passing = {408, 421, 425, 429, *range(500, 600)} - {501, 505}
    statuses = range(400, 600)
    assert {status for status in statuses if fail(status, {"detail": "Words"}).transient} == passing


@pytest.mark.parametrize("body", [b"", b"error code: 1020", b"<html><title>Sign in</title></html>"])
def test_a_refusal_that_is_not_json_is_transient(body: bytes) -> None:
    """A gateway's page says nothing of the key or the pod, whatever its content type."""
    for status, kind in ((401, AuthenticationError), (403, PermissionDeniedError)):
        error = fail(status, body)
        assert (type(error), error.transient) == (kind, True)
        assert "not from the API" in str(error)
    for content_type in ("text/html", "text/plain", "application/json"):
        missing = refuse(respond(404, body, content_type=content_type))
        assert missing.transient
        assert "with status 404" in str(missing)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize(
    ("method", "need"), [("GET", "Read"), ("DELETE", "Read and Write"), ("POST", "Read and Write")]
)
def test_what_a_key_lacks_is_said(status: int, method: str, need: str) -> None:
    """The permission for what was asked, and where keys come from."""
    told = str(fail(status, {"detail": "no"}, ask(method)))
    assert KEY_PAGE in told
    assert f"the permission Instances ({need})" in told
    assert ("Write" in told) == (need != "Read")
    assert ("The API key (environment variable PRIME_API_KEY) is wrong" in told) == (status == 401)
    assert ("the pod is another team's" in told) == (status == 403)
    other = str(fail(status, {"detail": "no"}, ask(method, "/api/v1/ssh_keys/")))
    assert KEY_PAGE in other
    assert "Instances" not in other


def test_what_a_404_means_depends_on_what_was_asked() -> None:
    """An id may be wrong; a list and the path of orders exist, unless the base URL is wrong."""
    for method, path in (("GET", f"{PODS}/status"), ("GET", f"{PODS}/history"), ("POST", f"{PODS}/")):
        told = str(fail(404, {"detail": "Not Found"}, ask(method, path)))
        assert f"The path does not exist at {BASE_URL}: check the base URL" in told
    assert "check the base URL" not in str(fail(404, {"detail": "no"}))
    other = str(fail(404, {"detail": "no"}, ask(path="/api/v1/ssh_keys/x")))
    assert other.endswith(f"Check the path, the ids in it and the base URL {BASE_URL}.")


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


def test_a_date_without_a_zone_is_in_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever this machine is; ``-0000`` is how mail says that it knows no zone."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC+5")
        time.tzset()
        headers = {"retry-after": DATE.replace("GMT", "-0000")}
        waited = read_retry_after(headers, now=NOW.timestamp() - 60)
    time.tzset()
    assert waited == 60


PARTS = ["Sat,", "07", "Nov", "2026", "05:32:26", "+0000", "GMT", "-", ":", "9999", "0"]
HEADER_TEXTS = st.text() | st.lists(st.sampled_from(PARTS)).map(" ".join)


@given(HEADER_TEXTS, HEADER_TEXTS, st.floats(0, 4e9))
def test_no_header_breaks_the_reading(value: str, date: str, now: float) -> None:
    """Whatever a server sends, the outcome is a finite number of seconds or nothing."""
    seconds = read_retry_after({"retry-after": value, "date": date}, now=now)
    assert seconds is None or 0 <= seconds < float("inf")
