"""What is answered to requests that are right, nearly right, and wrong."""

import time
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

import pytest

from primepods.emulator import ManualClock, Status, WrongLength

from .caller import HISTORY, PODS, STATUS, Caller
from .conftest import Serve


def test_no_key_is_403_and_a_wrong_key_401(call: Caller) -> None:
    """As the API tells them apart."""
    missing = call("GET", PODS, headers={})
    wrong = call("GET", PODS, headers={"Authorization": "Bearer nope"})
    assert (missing.status, missing.json) == (403, {"detail": "Not authenticated"})
    assert (wrong.status, wrong.json) == (401, {"detail": "Invalid token"})


def test_unknown_pods_are_404(call: Caller) -> None:
    """In get, delete and log."""
    for method, path in (("GET", PODS + "x"), ("DELETE", PODS + "x"), ("GET", PODS + "x/log")):
        answer = call(method, path)
        assert (answer.status, answer.json) == (404, {"detail": "Pod not found"})


@pytest.mark.parametrize("path", ["/", "/x", "/api/v1/", "/api/v1/podsy", PODS + "a/b", "/api/v1/pods//log"])
def test_unknown_paths_are_404(call: Caller, path: str) -> None:
    """Also where an id would be empty."""
    answer = call("GET", path)
    assert (answer.status, answer.json) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", STATUS, "DELETE, GET"),
        ("PUT", PODS + "some-pod", "DELETE, GET"),
        ("POST", PODS + "some-pod/log", "GET"),
    ],
)
def test_wrong_methods_are_405_with_allow(call: Caller, method: str, path: str, allow: str) -> None:
    """`/pods/status` also reads as a pod's id, which can be deleted."""
    answer = call(method, path)
    assert (answer.status, answer.json) == (405, {"detail": "Method Not Allowed"})
    assert answer.headers["Allow"] == allow


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("/api/v1/pods", PODS),
        (STATUS + "/", STATUS),
        (HISTORY + "/", HISTORY),
        (PODS + "some-pod/", PODS + "some-pod"),
        (PODS + "some-pod/log/", PODS + "some-pod/log"),
    ],
)
def test_the_other_slash_spelling_is_redirected(call: Caller, wrong: str, right: str) -> None:
    """307, which keeps the method, with the query."""
    answer = call("GET", wrong, [("limit", "3"), ("pod_ids", "a")])
    assert answer.status == 307
    assert answer.headers["Location"] == f"{call.emulator.url}{right}?limit=3&pod_ids=a"
    assert answer.json


def test_a_redirect_names_the_host_as_the_request_did(call: Caller) -> None:
    """From one spelling of the host to another, clients drop the key."""
    host = f"localhost:{urlsplit(call.emulator.url).port}"
    answer = call("GET", "/api/v1/pods", headers={"Host": host})
    assert answer.headers["Location"] == f"http://{host}{PODS}"


@pytest.mark.parametrize("path", [PODS, "/api/v1/pods", "/_emulator/state"])
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.1", "a b<c>", "[::1%<c>]"]
)
def test_only_the_loopback_is_served(serve: Serve, host: str, path: str) -> None:
    """A web page whose name is made to point to this machine gets nothing, even with the key."""
    call = serve(control=True)
    answer = call("GET", path, headers={"Host": host, "Authorization": f"Bearer {call.emulator.api_key}"})
    assert (answer.status, "Location" in answer.headers) == (403, False)
    assert "localhost" in answer.json["detail"]


@pytest.mark.parametrize("host", ["LOCALHOST", "localhost:8080", "127.0.0.2:1", "[::1]", "[::1]:80", ""])
def test_every_name_of_the_loopback_is_served(call: Caller, host: str) -> None:
    """With or without a port; a request without the header is no browser's."""
    headers = {"Host": host, "Authorization": f"Bearer {call.emulator.api_key}"}
    assert call("GET", PODS, headers=headers).status == 200


def test_responses_are_dated_by_the_emulator_s_clock(serve: Serve) -> None:
    """Errors and answers that a fault cuts, too; in UTC, also if the clock's epoch is not."""
    kathmandu = timezone(timedelta(hours=5, minutes=45))
    call = serve(pods=1, clock=ManualClock(epoch=datetime(2030, 1, 1, 17, 45, tzinfo=kathmandu)))
    call.emulator.advance(90.7)
    call.emulator.faults.add(Status(503), times=1)
    call.emulator.faults.add(WrongLength(0), times=1)
    for _ in range(3):
        assert call("GET", PODS).headers["Date"] == "Tue, 01 Jan 2030 12:01:30 GMT"
    assert call.get(PODS)["data"][0]["createdAt"] == "2030-01-01T12:00:00Z"


@pytest.mark.parametrize("key", ["offset", "limit"])
@pytest.mark.parametrize("value", ["x", "", "1.5", "1e3", "+1", "1_0", "٣", str(2**63), "9" * 30, "9" * 500])
def test_values_that_are_no_integers_are_422(call: Caller, key: str, value: str) -> None:
    """In the schema's shape, naming the parameter."""
    for path in (PODS, HISTORY):
        answer = call("GET", path, [(key, value)])
        assert answer.status == 422
        [error] = answer.json["errors"]
        assert error["param"] == key
        assert error["details"]


@pytest.mark.parametrize(("key", "value"), [("sort_by", "name"), ("sort_order", "up"), ("sort_by", "")])
def test_unknown_sort_orders_are_422(call: Caller, key: str, value: str) -> None:
    """The explanation lists what there is."""
    answer = call("GET", HISTORY, [(key, value)])
    assert answer.status == 422
    assert " or " in answer.json["errors"][0]["details"]


def test_negative_paging_is_clamped(call: Caller) -> None:
    """The schema lets it in but not out."""
    page = call.get(PODS, ("offset", "-5"), ("limit", "-1"))
    assert (page["offset"], page["limit"], page["data"], page["total_count"]) == (0, 0, [], 10)


def test_pages_are_cut_to_the_server_s_own_limit(serve: Serve) -> None:
    """And say so."""
    call = serve(pods=10, max_page_size=4)
    page = call.get(PODS, ("limit", "100"))
    assert (page["limit"], len(page["data"])) == (4, 4)


def test_what_is_no_http_is_answered_in_json(call: Caller) -> None:
    """Down to the request line; it is in the log as UNKNOWN."""
    answer = call.raw(b"NONSENSE\r\n\r\n")
    assert answer.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert b"application/json" in answer
    assert (call.emulator.requests[-1].method, call.emulator.requests[-1].status) == ("UNKNOWN", 400)


def test_a_request_line_over_8190_bytes_is_refused(call: Caller) -> None:
    """As common servers do: about 200 ids of 32 characters."""
    query = [("pod_ids", f"{number:032x}") for number in range(250)]
    answer = call("GET", STATUS, query)
    assert answer.status == 400
    assert answer.json["detail"]


def test_status_rows_come_once_in_the_order_asked(call: Caller) -> None:
    """Ids that the API does not know have no row."""
    first, second = list(call.emulator.pods)[:2]
    rows = call.status(second, "unknown", first, second)
    assert [row["podId"] for row in rows] == [second, first]


def test_a_client_that_leaves_amid_its_body_is_no_error(
    call: Caller, caplog: pytest.LogCaptureFixture
) -> None:
    """It gets no answer, and the log of the process stays quiet."""
    with call.connect() as connection:
        connection.sendall(b"POST /api/v1/pods/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        while not call.emulator.requests:
            time.sleep(0.001)
    while call.get(PODS)["total_count"] != 10 or call.emulator.requests[-1].concurrency != 1:
        time.sleep(0.001)
    assert (call.emulator.requests[0].method, call.emulator.requests[0].status) == ("POST", None)
    assert not caplog.records
