"""One call: what is tried again, how long it waits, when it gives up, and what it says then."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

import primepods
from primepods import RetryPolicy
from tests.support.client import KEY, make_client, serve
from tests.support.clock import EarlyClock, ManualClock, settle
from tests.support.server import Answer, Close, Hang, Held, Raw, Reply, Reset, Server, refused_url, reply

PATH = "/api/v1/things"
OK = reply({"ok": True})

# Every way in which an attempt can fail that may go better the next time.
TRANSIENT: dict[str, Answer] = {
    "429": reply({"detail": "slow down"}, 429),
    "500": reply({"detail": "oops"}, 500),
    "502 of a gateway": Reply(
        502, b"<html><h1>Bad Gateway</h1></html>", headers={"Content-Type": "text/html"}
    ),
    "503": Reply(503),
    "504": Reply(504, b"upstream"),
    "reset": Reset(),
    "closed": Close(),
    "cut head": Raw(b"HTTP/1.1 200 OK\r\nContent-"),
    "cut body": Reply(200, b'{"ok": true}', cut=5),
    "body shorter than said": Reply(200, b'{"ok": true}', length=20),
    "cut chunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n{"),
    "no chunk": Raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n{}\r\n"),
    "chunks without an end": Reply(200, b'{"ok": true}', chunked=True, cut=12),
    "no HTTP": Raw(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "no JSON": Reply(200, b'{"ok": tr', headers={"Content-Type": "application/json"}),
    "no UTF-8": Reply(200, b'{"ok": "\xff\xfe"}'),
    "a web page": Reply(200, b"<!doctype html><p>Log in", headers={"Content-Type": "text/html"}),
    "a gateway's 403": Reply(403, b"<html>Forbidden</html>", headers={"Content-Type": "text/html"}),
    "an ingress's 404": Reply(404, b"404 page not found", headers={"Content-Type": "text/plain"}),
    "421": reply({"detail": "misdirected"}, 421),
    "never": Hang(),
}
# And those after which the same request would only fail the same way.
FINAL: dict[str, tuple[Answer, type[primepods.PrimePodsError]]] = {
    "400": (reply({"detail": "no"}, 400), primepods.BadRequestError),
    "401": (reply({"detail": "no"}, 401), primepods.AuthenticationError),
    "402": (reply({"detail": "no"}, 402), primepods.PaymentRequiredError),
    "403": (reply({"detail": "no"}, 403), primepods.PermissionDeniedError),
    "404": (reply({"detail": "no"}, 404), primepods.NotFoundError),
    "409": (reply({"detail": "no"}, 409), primepods.ConflictError),
    "418": (reply({"detail": "no"}, 418), primepods.APIError),
    "422": (reply({"errors": [{"param": "a", "details": "b"}]}, 422), primepods.ValidationError),
    "501": (Reply(501), primepods.ServerError),
}


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("kind", TRANSIENT)
async def test_what_may_go_better_is_tried_again(method: str, kind: str) -> None:
    """GET and DELETE survive each passing failure, twice in a row, with growing pauses in between."""
    clock = ManualClock(auto=True, chance=0.5)
    async with serve([TRANSIENT[kind]] * 2 + [OK], clock=clock, timeout=10) as (server, client):
        assert await client.request(method, PATH) == {"ok": True}
    assert [request.method for request in server.requests] == [method] * 3
    assert clock.sleeps == [0.25, 0.5]


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("failure", [kind for kind in TRANSIENT if kind != "429"])
async def test_what_may_have_been_done_is_not_sent_twice(method: str, failure: str) -> None:
    """A POST that the server may have received goes out once, whatever became of it."""
    clock = ManualClock(auto=True)
    async with serve([OK, TRANSIENT[failure], OK], clock=clock, timeout=10) as (server, client):
        await client.request("GET", PATH)
        with pytest.raises(primepods.PrimePodsError) as caught:
            await client.request(method, PATH, json={"name": "costly"})
    assert len(server.requests) == 2
    assert clock.sleeps == []
    if isinstance(caught.value, primepods.TransportError):
        assert caught.value.maybe_received


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST"])
@pytest.mark.parametrize(("failure", "kind"), FINAL.values(), ids=FINAL.keys())
async def test_what_is_final_is_raised_at_once(
    method: str, failure: Answer, kind: type[primepods.PrimePodsError]
) -> None:
    """An answer that would only be the same again is not asked for again."""
    clock = ManualClock(auto=True)
    async with Server([failure, OK]) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(kind) as caught:
            await client.request(method, PATH)
    assert type(caught.value) is kind
    assert len(server.requests) == 1
    assert clock.sleeps == []


@pytest.mark.parametrize("method", ["GET", "DELETE", "POST", "PATCH"])
async def test_a_refused_connection_is_tried_again_with_any_method(method: str) -> None:
    """Who could not even connect has sent nothing: then a POST, too, is repeated, and arrives once."""
    clock = ManualClock()
    url = refused_url()
    async with make_client(url, clock=clock) as client:
        task = asyncio.create_task(client.request(method, PATH, json={"name": "costly"}))
        await settle()
        assert clock.timers == 1
        async with Server([OK], port=int(url.rpartition(":")[2])) as server:
            await clock.advance(1)
            assert await task == {"ok": True}
    assert [request.method for request in server.requests] == [method]


async def test_a_connection_reset_at_once_may_have_carried_the_request() -> None:
    """A server that resets what it accepted may have read it: a GET is repeated, a POST is not."""
    clock = ManualClock(auto=True)
    async with Server(default=OK) as server, make_client(server.url, clock=clock) as client:
        server.reset_connections = 4
        assert await client.request("GET", PATH) == {"ok": True}
    async with Server(default=OK) as server, make_client(server.url, clock=clock) as client:
        server.reset_connections = 100
        with pytest.raises(primepods.TransportError) as caught:
            await client.with_options(retry=RetryPolicy(attempts=2)).request("DELETE", PATH)
        assert caught.value.maybe_received
    async with Server(default=OK) as server, make_client(server.url, clock=clock) as client:
        server.reset_connections = 1
        with pytest.raises(primepods.TransportError) as caught:
            await client.request("POST", PATH)
        assert caught.value.maybe_received
        assert caught.value.attempts == 1
        assert server.requests == []


async def test_refused_to_the_end_was_never_received() -> None:
    """After refused connections only, the error says that the server has got nothing, and counts attempts."""
    clock = ManualClock(auto=True, chance=1.0)
    url = refused_url()
    async with make_client(url, clock=clock) as client:
        with pytest.raises(primepods.TransportError, match=r"5 attempts") as caught:
            await client.request("POST", PATH)
    assert caught.value.attempts == 5
    assert not caught.value.maybe_received
    assert clock.sleeps == [0.5, 1.0, 2.0, 4.0]
    assert url in str(caught.value)
    assert not isinstance(caught.value, TimeoutError)
    # What the operating system said, without its frames.
    cause = caught.value.__cause__
    assert type(cause) is ConnectionRefusedError
    assert (cause.__traceback__, cause.__cause__, cause.__context__) == (None, None, None)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_only_a_deletion_can_have_worked_unseen(method: str) -> None:
    """A 404 behind a failed attempt of anything but a DELETE is a 404."""
    clock = ManualClock(auto=True)
    script = [Reply(500), Reset(), Reply(404, b"" if method == "HEAD" else b"{}")]
    async with Server(script) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.NotFoundError):
            await client.request(method, PATH)
    assert len(server.requests) == 3


async def test_received_once_is_received_for_good() -> None:
    """One attempt that the server may have read counts, even when the later ones were refused."""
    clock = ManualClock()
    async with Server([Reset()] * 2) as server, make_client(server.url, clock=clock) as client:
        task = asyncio.create_task(client.request("DELETE", PATH))
        await settle()
        await server.stop()
        await clock.advance(100)
        with pytest.raises(primepods.TransportError) as caught:
            await task
    assert caught.value.maybe_received
    assert caught.value.attempts == 5


@pytest.mark.parametrize(("attempts", "pauses"), [(1, []), (2, [0.5]), (7, [0.5, 1.0, 2.0, 4.0, 4.0, 4.0])])
async def test_the_last_failure_is_the_one_that_is_raised(attempts: int, pauses: list[float]) -> None:
    """The policy's number of attempts is kept, pauses double up to the longest, and the error counts them."""
    clock = ManualClock(auto=True, chance=0.01)
    policy = RetryPolicy(attempts=attempts, base_delay=0.5, max_delay=4.0, jitter=False)
    script = [reply({"detail": f"number {n}"}, 503) for n in range(1, 20)]
    async with Server(script) as server, make_client(server.url, clock=clock, retry=policy) as client:
        with pytest.raises(primepods.ServerError, match=f"number {attempts}") as caught:
            await client.request("GET", PATH)
    assert caught.value.attempts == attempts == len(server.requests)
    assert clock.sleeps == pauses


@pytest.mark.parametrize(
    ("method", "path", "answer", "advice"),
    [
        ("GET", "/api/v1/pods/", reply({"detail": "Not Found"}, 404), "check the base URL"),
        ("POST", PATH, Reset(), "The POST may still have been carried out. Look for its effect before you"),
        ("POST", "/api/v1/pods/", Reset(), "Look for its effect in `pods.list()` before you send it again."),
        ("POST", "/api/v1/disks/", Reset(), "Look for its effect in `disks.list()` before"),
        ("POST", "/api/v1/ssh_keys/", Reset(), "Look for its effect in `ssh_keys.list()` before"),
        ("PATCH", "/api/v1/disks/d", Reset(), "Look for its effect before you send it again."),
        ("DELETE", "/api/v1/disks/d", reply({"detail": "no"}, 409), "Look at the current state, then"),
        ("POST", PATH, Hang(), "The POST may still have been carried out. Look for its effect"),
        ("POST", PATH, Reply(503), "the POST may still have been carried out. Look for its effect"),
        ("POST", PATH, Reply(200, b"{", length=9), "the POST may still have been carried out."),
        ("POST", PATH, Reply(429), "has no text. The request was not carried out: send it again later."),
    ],
)
async def test_an_error_says_what_to_do_about_it(method: str, path: str, answer: Answer, advice: str) -> None:
    """Where a list is missing, and where nobody knows what became of a POST."""
    clock = ManualClock(auto=True)
    async with Server(default=answer) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.PrimePodsError) as caught:
            await client.request(method, path)
        assert server.url in str(caught.value) or method != "GET"
    assert advice in str(caught.value)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("as_date", [False, True])
async def test_retry_after_is_waited_for(*, status: int, as_date: bool) -> None:
    """Seconds or a date: the next attempt comes no sooner, and not all clients come back together."""
    clock = ManualClock(auto=True, chance=0.5)
    # The server's clock is a day ahead, which its `Date` tells.
    now = datetime.fromtimestamp(clock.wall() + 86_400, UTC)
    value = format_datetime(now + timedelta(seconds=7), usegmt=True) if as_date else "7"
    headers = {"Retry-After": value, "Date": format_datetime(now, usegmt=True)}
    script = [Reply(status, headers=headers), OK]
    async with Server(script) as server, make_client(server.url, clock=clock) as client:
        assert await client.request("GET", PATH) == {"ok": True}
    assert clock.sleeps == [7 + 0.5 * 0.5]


async def test_a_retry_after_that_is_too_long_is_the_callers_business() -> None:
    """Above `max_delay` nothing is waited for: the error comes at once and carries the number."""
    clock = ManualClock(auto=True)
    script = [reply({"detail": "tomorrow"}, 429, headers={"Retry-After": "31"}), OK]
    async with Server(script) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.RateLimitError, match="tomorrow") as caught:
            await client.request("GET", PATH)
    assert caught.value.retry_after == 31
    assert "31 s" in "".join(caught.value.__notes__)
    assert clock.sleeps == []


@pytest.mark.parametrize(("status", "seconds"), [(503, 1), (403, 60)])
async def test_a_retry_after_that_is_not_the_reason_is_not_named(status: int, seconds: int) -> None:
    """No attempt is left, or the error is permanent: a longer `max_delay` would change nothing."""
    answer = reply({"detail": "no"}, status, headers={"Retry-After": str(seconds)})
    async with serve(default=answer, clock=ManualClock(auto=True)) as (_server, client):
        with pytest.raises(primepods.APIError) as caught:
            await client.request("GET", PATH)
    assert caught.value.retry_after == seconds
    assert not hasattr(caught.value, "__notes__")


async def test_a_dripping_answer_counts_against_the_timeout() -> None:
    """The timeout is for the attempt as a whole: a byte now and then does not extend it."""
    clock = ManualClock(auto=True)
    drip = Reply(200, b'{"ok": true}', drip=3.0, clock=clock)
    retry = RetryPolicy(attempts=1)
    async with serve([drip], clock=clock, timeout=10, retry=retry) as (_server, client):
        with pytest.raises(primepods.RequestTimeoutError) as caught:
            await client.request("GET", PATH)
    assert clock.elapsed == 10
    assert caught.value.limit == "timeout"


async def test_an_error_tells_what_failed_before() -> None:
    """A timeout after a 503 is another story than a timeout: the error names the attempt before it."""
    clock = ManualClock(auto=True)
    script = [reply({"detail": "no room"}, 503), Hang()]
    retry = RetryPolicy(attempts=2)
    async with Server(script) as server, make_client(server.url, clock=clock, retry=retry) as client:
        with pytest.raises(
            primepods.RequestTimeoutError, match=r"the previous attempt failed with status 503"
        ):
            await client.request("GET", PATH)


@pytest.mark.parametrize(
    ("timeout", "deadline", "limit", "attempts"),
    [(10, 25, "deadline", 3), (25, 10, "deadline", 1), (10, 100, "timeout", 5)],
)
async def test_a_timeout_names_the_limit_that_ended_the_attempt(
    timeout: float, deadline: float, limit: str, attempts: int
) -> None:
    """Also where the loop calls timers early, so that the deadline has not quite come."""
    clock = EarlyClock(auto=True, chance=0.0)
    async with serve(default=Hang(), clock=clock, timeout=timeout, deadline=deadline) as (_server, client):
        with pytest.raises(primepods.RequestTimeoutError) as caught:
            await client.request("GET", PATH)
    assert (caught.value.limit, caught.value.attempts) == (limit, attempts)
    assert f"{limit} of {min(timeout, deadline) if attempts != 3 else deadline} s" in str(caught.value)
    assert not hasattr(caught.value, "__notes__")


@pytest.mark.parametrize(("method", "retry_after"), [("GET", "20"), ("POST", "13")])
async def test_no_pause_is_begun_that_would_pass_the_deadline(method: str, retry_after: str) -> None:
    """Where the next attempt would come too late the failure is raised at once, and says why."""
    clock = ManualClock(auto=True, chance=0.0)
    script = [reply({"detail": "later"}, 429, headers={"Retry-After": retry_after}), OK]
    async with Server(script) as server, make_client(server.url, clock=clock, deadline=15) as client:
        with pytest.raises(primepods.RateLimitError) as caught:
            await client.request(method, PATH)
    assert clock.elapsed == 0
    assert "would pass the deadline of 15 s" in caught.value.__notes__[0]


async def test_waiting_for_a_slot_counts_against_the_deadline() -> None:
    """A call that gets its turn too late for a response ends at its deadline, without having been sent."""
    clock = ManualClock()
    event = asyncio.Event()
    async with serve([Held(event, OK), OK], clock=clock, max_concurrency=1, timeout=100) as (server, client):
        first = asyncio.create_task(client.request("GET", PATH))
        await settle()
        second = asyncio.create_task(client.with_options(deadline=5).request("POST", PATH))
        await clock.advance(4)
        event.set()
        assert await first == {"ok": True}
        await clock.advance(0.9)
        assert not second.done()
        await clock.advance(0.1)
        with pytest.raises(primepods.RequestTimeoutError, match="max_concurrency other requests") as caught:
            await second
        assert caught.value.limit == "deadline"
        assert not caught.value.maybe_received
        assert len(server.requests) == 1
        assert await client.request("GET", PATH) == {"ok": True}


@given(
    kinds=st.lists(st.sampled_from(sorted(TRANSIENT)), max_size=8),
    attempts=st.integers(1, 6),
    jitter=st.booleans(),
)
async def test_a_call_gives_the_answer_or_ends_in_time(
    *, kinds: list[str], attempts: int, jitter: bool
) -> None:
    """Any series of failures leads to the right answer or to an error of ours, by the deadline."""
    clock = ManualClock(auto=True)
    policy = RetryPolicy(attempts=attempts, jitter=jitter)
    async with serve(
        [TRANSIENT[kind] for kind in kinds], default=OK, clock=clock, timeout=10, deadline=30, retry=policy
    ) as (server, client):
        try:
            assert await client.request("GET", PATH) == {"ok": True}
            assert len(server.requests) == len(kinds) + 1
        except primepods.PrimePodsError:
            limited = 0 if attempts == 1 else kinds[: len(server.requests)].count("429")
            failures = len(server.requests) - limited
            # A connection that ended after it had served others may have been replaced, uncounted.
            assert attempts <= failures <= 2 * attempts or clock.elapsed > 10
    assert clock.elapsed <= 30
    assert clock.timers == 0


async def test_the_escape_hatch_sends_what_it_is_given() -> None:
    """`client.request` reaches any endpoint, in the spelling given, with the key and a JSON body."""
    async with (
        Server(default=OK) as server,
        make_client(f"{server.url}/prefix/api/v1/", team_id="team-1") as client,
    ):
        params = {"a": [1, 2], "b": None, "c": True, "d": "x y/ä"}
        assert await client.request("post", "/a%20b/ä/", params=params, json={"ä": 1.5}) == {"ok": True}
    (request,) = server.requests
    sent = "/prefix/a%20b/%C3%A4/?a=1&a=2&c=true&d=x+y%2F%C3%A4"
    assert (request.method, request.target) == ("POST", sent)
    assert request.body == '{"ä":1.5}'.encode()
    assert request.headers["content-type"] == "application/json"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.headers["x-prime-team-id"] == "team-1"
    assert request.headers["accept"] == "application/json"
    assert request.headers["user-agent"].startswith("primepods/")
    assert "cookie" not in request.headers


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"])
async def test_an_empty_answer_is_none(method: str) -> None:
    """Where no data is promised, an empty body is an answer; also where HEAD announces one."""
    length = 5_000 if method == "HEAD" else None
    async with Server([Reply(200, length=length)]) as server, make_client(server.url) as client:
        assert await client.request(method, PATH) is None
    assert len(server.requests) == 1


async def test_an_empty_answer_to_a_get_is_asked_for_again() -> None:
    """A GET promises data: without any it is a `ProtocolError`, after all attempts."""
    clock = ManualClock(auto=True)
    async with Server(default=Reply(200)) as server, make_client(server.url, clock=clock) as client:
        with pytest.raises(primepods.ProtocolError, match="an empty body"):
            await client.request("GET", PATH)
    assert len(server.requests) == 5


async def test_a_view_has_its_own_limits_and_the_same_connections() -> None:
    """`with_options` changes what it is given, for the view and its views; all share connection and end."""
    clock = ManualClock(auto=True, chance=0.0)
    async with Server([OK, OK, Hang(), Hang(), OK]) as server:
        client = make_client(server.url, clock=clock, timeout=8)
        view = client.with_options(timeout=2).with_options(retry=RetryPolicy(attempts=1))
        assert await client.request("GET", PATH) == await view.request("GET", PATH)
        assert server.connections == 1
        with pytest.raises(primepods.RequestTimeoutError, match=r"timeout of 2 s \(1 attempt\)"):
            await view.request("GET", PATH)
        assert clock.elapsed == 2
        assert await client.request("GET", PATH) == {"ok": True}
        assert clock.elapsed == 10
        async with view:
            pass
        assert "closed" not in repr(client)
        await client.aclose()
        with pytest.raises(primepods.ClientClosedError):
            await view.request("GET", PATH)


async def test_silent_unless_asked(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Without a logging set-up nothing is printed, and no record of ours is above INFO."""
    clock = ManualClock(auto=True)
    async with serve([Reset(), Reply(503), OK], clock=clock) as (_server, client):
        await client.request("GET", PATH)
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
    assert logging.getLogger("primepods").handlers == []


async def test_a_line_a_request_and_a_line_a_retry(caplog: pytest.LogCaptureFixture) -> None:
    """DEBUG has one line a request (method, path, status, bytes, time, attempt), INFO one a retry and why."""
    clock = ManualClock(auto=True)
    caplog.set_level(logging.DEBUG, "primepods")
    async with serve([Reset(), reply({"detail": "no room"}, 503), OK], clock=clock) as (_server, client):
        await client.request("GET", PATH, params={"secret": "x"})
    lines = [
        (record.levelname, record.getMessage()) for record in caplog.records if record.name == "primepods"
    ]
    assert [level for level, _ in lines] == ["DEBUG", "INFO", "DEBUG", "INFO", "DEBUG"]
    assert lines[0][1].endswith("Connection reset by peer, 0.0 ms, attempt 1")
    assert lines[1][1].startswith("retrying GET /api/v1/things in 0.25 s: ClientOSError")
    assert lines[2][1] == "GET /api/v1/things: 503, 21 bytes, 0.0 ms, attempt 2"
    assert lines[3][1] == "retrying GET /api/v1/things in 0.50 s: status 503 (attempt 3)"
    assert lines[4][1] == "GET /api/v1/things: 200, 12 bytes, 0.0 ms, attempt 3"
