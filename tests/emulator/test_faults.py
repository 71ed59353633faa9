"""Everything that can go wrong, on the wire, as clients see it; and when it does."""

import asyncio
import http.client
import json
import math
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import primepods.emulator
from primepods.emulator import (
    BadChunk,
    Cut,
    Delay,
    Drip,
    Edit,
    Empty,
    EmptyData,
    Emulator,
    Fault,
    Html,
    LostDeletion,
    ManualClock,
    OtherPod,
    Redirect,
    Rename,
    Reset,
    Stale,
    Status,
    WrongLength,
)
from primepods.emulator.faults import KINDS, Response
from tests.support.eventually import eventually

from .caller import GPUS, HISTORY, PODS, STATUS, Caller, body_for, order, plain_offer
from .conftest import Serve

_COMPLAINT = {"param": "pod_ids", "details": "Input should be a valid string"}


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        (Status(401), 401, {"detail": "Invalid token"}),
        (Status(402), 402, {"detail": "Insufficient funds"}),
        (Status(403), 403, {"detail": "Not authenticated"}),
        (Status(404), 404, {"detail": "Pod not found"}),
        (Status(409), 409, {"detail": "Conflict"}),
        (Status(422), 422, {"errors": [_COMPLAINT]}),
        (Status(429), 429, {"message": "Too many requests"}),
        (Status(500, acted=True), 500, {"detail": "Internal Server Error"}),
        (Status(599), 599, {"detail": "Status 599"}),
        (Html(502, acted=True), 502, None),
        (Empty(), 200, None),
        (Redirect("http://example.com/x", 302), 302, None),
    ],
)
def test_a_response_comes_without_the_act_or_after_it(
    call: Caller, fault: Fault, status: int, body: Any
) -> None:
    """Errors with the API's bodies, a gateway's page, nothing at all, a way elsewhere."""
    call.emulator.faults.add(fault)
    pod_id = next(iter(call.emulator.pods))
    answer = call("DELETE", PODS + pod_id)
    assert (answer.status, answer.headers.get("Location")) == (status, getattr(fault, "location", None))
    assert body is None or answer.json == body
    assert call.emulator.pods[pod_id].status == ("DELETING" if fault.reaches else "PROVISIONING")


@pytest.mark.parametrize("text", ["404 page not found", ""])
def test_an_error_can_be_plain_text(call: Caller, text: str) -> None:
    """As of a router before the API, or nothing at all."""
    call.emulator.faults.add(Status(404, text=text))
    answer = call("GET", PODS)
    assert (answer.status, answer.headers["Content-Type"]) == (404, "text/plain")
    assert answer.body == text.encode()


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (2, "2"),
        (0.5, "0.5"),
        (1_800_000_000, "1800000000"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
    ],
)
def test_retry_after_is_a_number_or_a_date(call: Caller, given: float | str, sent: str) -> None:
    """Whatever the header allows."""
    call.emulator.faults.add(Status(429, retry_after=given))
    assert call("GET", PODS).headers["Retry-After"] == sent


@pytest.mark.parametrize(("acted", "state"), [(False, "PROVISIONING"), (True, "DELETING")])
def test_the_connection_is_reset_before_or_after_the_act(call: Caller, *, acted: bool, state: str) -> None:
    """The client cannot tell which; the log says that nothing was answered."""
    call.emulator.faults.add(Reset(acted=acted), on="delete")
    pod_id = next(iter(call.emulator.pods))
    with pytest.raises(ConnectionResetError) as error:
        call("DELETE", PODS + pod_id)
    # A reset, and not just an end without an answer, which is a subclass of it.
    assert error.type is ConnectionResetError
    assert call.emulator.pods[pod_id].status == state
    assert call.emulator.requests[-1].status is None
    assert call.emulator.requests[-1].faults == ["Reset"]


def test_a_cut_body_ends_early(call: Caller) -> None:
    """After the share of its bytes that is asked for."""
    whole = call("GET", PODS).body
    call.emulator.faults.add(Cut(0.25))
    with pytest.raises(http.client.IncompleteRead) as error:
        call("GET", PODS)
    assert error.value.partial == whole[: len(whole) // 4]
    assert call.emulator.requests[-1].status == 200


def test_a_wrong_length_is_more_or_less(call: Caller) -> None:
    """Too long: the body seems cut; too short: it is no JSON."""
    with call.emulator.faults.add(WrongLength()), pytest.raises(http.client.IncompleteRead):
        call("GET", PODS)
    with call.emulator.faults.add(WrongLength(-10)):
        answer = call("GET", PODS)
    with pytest.raises(json.JSONDecodeError):
        json.loads(answer.body)


def test_empty_data_is_an_answer_without_rows(call: Caller) -> None:
    """As a replica that lost its data gives: well-formed, and wrong."""
    pod_id = next(iter(call.emulator.pods))
    call.emulator.faults.add(EmptyData(), on=("list", "gpus", "get"))
    call.emulator.faults.add(EmptyData(null=True), on="status")
    assert call.get(PODS) == {"total_count": 0, "offset": 0, "limit": 100, "data": [], "status": None}
    assert call.get(STATUS, ("pod_ids", pod_id)) == {"data": None, "status": None}
    assert call.get(GPUS) == {"items": [], "totalCount": 0}
    assert call.get(PODS + pod_id)["id"] == pod_id


def test_fields_of_an_answer_are_set_and_removed(call: Caller) -> None:
    """At any place that there is; others are left alone."""
    page = call.get(PODS)
    edit = Edit(
        put={"total_count": 500, "data.0.status": 7, "data.1": None, "data.99.name": "x", "data.x": 1},
        drop=["offset", "data.2.id", "data.3", "nothing"],
    )
    with call.emulator.faults.add(edit, on="list"):
        edited = call.get(PODS)
    assert "offset" not in edited
    assert (edited["total_count"], edited["limit"]) == (500, page["limit"])
    assert edited["data"][0] == {**page["data"][0], "status": 7}
    assert edited["data"][1] is None
    assert "id" not in edited["data"][2]
    assert edited["data"][3:] == page["data"][4:]
    call.emulator.faults.add(Edit(drop="data"), on="status")
    assert call.get(STATUS) == {"status": None}


def test_pages_can_be_cut_short(call: Caller) -> None:
    """With the limit that was asked for, or another, in the answer; of pods as of offers."""
    ids = list(call.emulator.pods)
    with call.emulator.faults.add(Edit(rows=3)):
        page = call.get(PODS, ("limit", "5"))
        assert (page["limit"], [pod["id"] for pod in page["data"]]) == (5, ids[:3])
        assert len(call.get(GPUS)["items"]) == 3
        assert call.get("/api/v1/user/whoami")["data"]["id"]
    call.emulator.faults.add(Edit(rows=3, put={"limit": 3}))
    assert call.get(PODS, ("limit", "5"))["limit"] == 3


def test_a_stale_replica_deletes_what_it_knows(serve: Serve) -> None:
    """A pod that it has not seen yet is not found, and lives on; one that has gone is gone."""
    call = serve(delete_seconds=0)
    old = call.emulator.add_pod()
    call.emulator.advance(10)
    new = call.emulator.add_pod()
    call.emulator.delete_pod(old)
    call.emulator.advance(1)
    call.emulator.faults.add(Stale(5))
    assert call("DELETE", PODS + new).json == {"detail": "Pod not found"}
    assert call("DELETE", PODS + old).json == {"status": "TERMINATED"}
    assert call("GET", f"{PODS}{new}/log").status == 404
    assert list(call.emulator.pods) == [new]


def test_a_stale_replica_shows_the_past(serve: Serve) -> None:
    """In list, get, status and history: who was not born yet is missing, who is gone is there."""
    call = serve(delete_seconds=5.0)
    old = call.emulator.add_pod(boot_seconds=0)
    call.emulator.advance(10)
    new = call.emulator.add_pod(boot_seconds=0)
    call("DELETE", PODS + old)
    call.emulator.advance(6)
    assert [pod["id"] for pod in call.get(PODS)["data"]] == [new]
    with call.emulator.faults.add(Stale(8)):
        assert [pod["id"] for pod in call.get(PODS)["data"]] == [old]
        assert call("GET", PODS + new).status == 404
        assert call.status(old, new)[0]["status"] == "ACTIVE"
        assert call.get(HISTORY)["data"] == []
    with call.emulator.faults.add(Stale(2)):
        assert [row["status"] for row in call.status(old, new)] == ["DELETING", "ACTIVE"]
    assert call.get(HISTORY)["total_count"] == 1


def test_a_stale_replica_shows_who_is_gone_in_the_old_place(serve: Serve) -> None:
    """Between those who live."""
    call = serve(pods=5)
    before = [pod["id"] for pod in call.get(PODS)["data"]]
    call.emulator.advance(10)
    call.emulator.delete_pod(before[2])
    call.emulator.advance(10)
    call.emulator.faults.add(Stale(15))
    assert [pod["id"] for pod in call.get(PODS)["data"]] == before


def test_lags_add_up_with_what_follows(serve: Serve) -> None:
    """A stale answer can be cut, too."""
    call = serve()
    call.emulator.add_pod()
    call.emulator.advance(10)
    call.emulator.add_pod()
    call.emulator.faults.add(Stale(3))
    call.emulator.faults.add(Stale(4))
    call.emulator.faults.add(WrongLength(-1))
    answer = call("GET", PODS)
    assert json.loads(answer.body + b"}")["total_count"] == 1
    assert call.emulator.requests[-1].faults == ["Stale", "Stale", "WrongLength"]


def test_a_bad_chunk_breaks_the_body(call: Caller) -> None:
    """After a first one that is good."""
    call.emulator.faults.add(BadChunk())
    key = call.emulator.api_key
    request = f"GET {PODS} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n\r\n"
    received = call.raw(request.encode())
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked" in head
    size, _, rest = body.partition(b"\r\n")
    assert rest[int(size, 16) :].startswith(b"\r\nzz\r\n")
    assert BadChunk().outcome(Response(200, b"")).pieces[1] == b""
    with pytest.raises(http.client.HTTPException):
        call("GET", PODS)


@pytest.fixture
async def emu() -> AsyncIterator[Emulator]:
    """An emulator in this loop, on a manual clock."""
    async with Emulator(pods=3, clock=ManualClock()) as emulator:
        yield emulator


async def get(emu: Emulator) -> bytes:
    """The list, as aiohttp gets it."""
    headers = {"Authorization": f"Bearer {emu.api_key}"}
    async with aiohttp.ClientSession() as session, session.get(emu.url + PODS, headers=headers) as answer:
        return await answer.read()


async def test_a_delay_lasts_as_long_as_the_clock_says(emu: Emulator) -> None:
    """What comes in meanwhile is in flight together; then all is answered."""
    emu.faults.add(Delay(10))
    waiting = [asyncio.create_task(get(emu)) for _ in range(5)]
    await eventually(lambda: len(emu.requests) >= 5)
    assert [entry.concurrency for entry in emu.requests] == [1, 2, 3, 4, 5]
    emu.advance(9)
    assert {entry.status for entry in emu.requests} == {None}
    emu.advance(1)
    assert len(set(await asyncio.gather(*waiting))) == 1
    assert {entry.status for entry in emu.requests} == {200}


async def test_a_slow_body_drips(emu: Emulator) -> None:
    """A piece at once, the others as time goes by."""
    whole = await get(emu)
    emu.faults.add(Drip(8.0, pieces=4))
    dripping = asyncio.create_task(get(emu))
    await eventually(lambda: len(emu.requests) >= 2)
    for _ in range(3):
        await asyncio.sleep(0.01)
        assert not dripping.done()
        emu.advance(2)
    for _ in range(1_000):
        # Where the server's thread was late to wait for the last piece, once is not enough.
        emu.advance(2)
        await asyncio.sleep(0.01)
        if dripping.done():
            break
    assert await dripping == whole


def statuses(call: Caller, count: int) -> list[int]:
    """The statuses of so many lists."""
    return [call("GET", PODS).status for _ in range(count)]


def test_faults_strike_by_operation(call: Caller) -> None:
    """One, several, or all, what is no operation included."""
    rule = call.emulator.faults.add(Status(500), on="status")
    assert (call("GET", STATUS).status, call("GET", PODS).status) == (500, 200)
    rule.remove()
    rule.remove()
    call.emulator.faults.add(Status(500), on={"list", "history"})
    assert [call("GET", path).status for path in (STATUS, PODS, HISTORY)] == [200, 500, 500]
    call.emulator.faults.add(Status(503))
    assert call("GET", "/nowhere").status == 503


def test_faults_strike_by_path_and_pod(call: Caller) -> None:
    """In the path or among the ids."""
    first, second, *_ = call.emulator.pods
    call.emulator.faults.add(Status(500), pod_id=first)
    assert call("GET", PODS + first).status == 500
    assert call("GET", PODS + second).status == 200
    assert call("GET", STATUS, [("pod_ids", second), ("pod_ids", first)]).status == 500
    call.emulator.faults.clear()
    call.emulator.faults.add(Status(500), path="/api/v1/pods/*/log")
    assert (call("GET", f"{PODS}{first}/log").status, call("GET", PODS + first).status) == (500, 200)


def test_faults_strike_by_number(call: Caller) -> None:
    """Not the first so many, then so many times; the rule counts."""
    rule = call.emulator.faults.add(Status(500), skip=2, times=3)
    assert statuses(call, 8) == [200, 200, 500, 500, 500, 200, 200, 200]
    assert rule.hits == 3


def test_faults_strike_by_chance_and_the_seed_repeats_it(serve: Serve) -> None:
    """The same sequence for the same seed, also after clearing; another for another."""
    calls = [serve(seed=seed) for seed in (1, 1, 2)]
    for call in calls:
        call.emulator.faults.add(Status(500), probability=0.5)
    runs = [statuses(call, 40) for call in calls]
    assert runs[0] == runs[1] != runs[2]
    assert 10 < runs[0].count(500) < 30
    again = calls[2]
    again.emulator.faults.clear()
    again.emulator.faults.add(Status(500), probability=0.5)
    assert statuses(again, 40) == runs[2]


def test_faults_strike_by_time(call: Caller) -> None:
    """From then on, for so long."""
    call.emulator.advance(100)
    call.emulator.faults.add(Status(500), after=10, duration=5)
    seen: list[int] = []
    for seconds in (0, 9, 1, 4, 1):
        call.emulator.advance(seconds)
        seen += statuses(call, 1)
    assert seen == [200, 200, 500, 500, 200]


def test_faults_strike_what_is_too_much(call: Caller) -> None:
    """A rate limit: three in any ten seconds are let through."""
    call.emulator.faults.add(Status(429, retry_after=1), rate_limit=3, window=10)
    assert statuses(call, 5) == [200, 200, 200, 429, 429]
    call.emulator.advance(10)
    assert statuses(call, 4) == [200, 200, 200, 429]


def test_the_first_rule_that_fits_decides(call: Caller) -> None:
    """And the next one only counts what is left for it."""
    first = call.emulator.faults.add(Status(500), times=1)
    second = call.emulator.faults.add(Status(503))
    assert statuses(call, 2) == [500, 503]
    assert (first.hits, second.hits) == (1, 1)
    assert list(call.emulator.faults) == [first, second]
    assert len(call.emulator.faults) == 2
    assert "Status" in repr(first)


@pytest.mark.parametrize(
    "arguments",
    [
        {"on": "lists"},
        {"times": -1},
        {"probability": 1.5},
        {"after": -1},
        {"duration": math.nan},
        {"rate_limit": -1},
        {"skip": -1},
    ],
)
def test_rules_that_make_no_sense_are_refused(call: Caller, arguments: dict[str, Any]) -> None:
    """A mistyped operation must not become a fault that never strikes."""
    with pytest.raises(ValueError, match=r"there is no operation lists; there are list|must be"):
        call.emulator.faults.add(Status(500), **arguments)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Status, (99,)),
        (Status, ("500",)),
        (Delay, (-1,)),
        (Delay, (math.nan,)),
        (Delay, ("1",)),
        (Cut, (1.0,)),
        (WrongLength, (0.5,)),
        (Redirect, ("a\r\nb",)),
        (Redirect, ("x", 200)),
        (Drip, (1, 0)),
        (Stale, (None,)),
        (Edit, ("no function",)),
        (Reset, ("yes",)),
    ],
)
def test_faults_that_make_no_sense_are_refused(kind: type[Fault], arguments: tuple[Any, ...]) -> None:
    """When they are made."""
    with pytest.raises((ValueError, TypeError)):
        kind(*arguments)


def test_the_readme_names_all_faults_and_operations(call: Caller) -> None:
    """Whoever looks for one finds it there, and by its name over HTTP."""
    readme = (Path(primepods.emulator.__file__).parent / "README.md").read_text(encoding="utf-8")
    for name, kind in KINDS.items():
        assert f"`{kind.__name__}(" in readme
        assert name == re.sub("(?<!^)(?=[A-Z])", "_", kind.__name__).lower()
    with pytest.raises(ValueError, match="there are") as error:
        call.emulator.faults.add(Fault(), on="x")
    for operation in str(error.value).partition("there are ")[2].split(", "):
        assert operation in readme


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        (Rename(lower=True), " train-a "),
        (Rename(strip=True), "Train-A"),
        (Rename(length=4), " Tra"),
        (Rename(lower=True, strip=True, length=3), "tra"),
        (Rename(), " Train-A "),
    ],
)
def test_an_ordered_pod_can_get_another_name(call: Caller, fault: Fault, name: str) -> None:
    """In the answer and from then on."""
    call.emulator.faults.add(fault, on="create")
    pod = order(call, body_for(plain_offer(call), name=" Train-A ")).json
    assert (pod["name"], call.get(PODS + pod["id"])["name"]) == (name, name)
    assert order(call, b"{").status == 422
    assert order(call, body_for(plain_offer(call))).status == 200


def test_a_deletion_can_be_lost(call: Caller) -> None:
    """Accepted, seen for a while, then forgotten: the pod is ACTIVE again, and goes when asked again."""
    pod_id = call.emulator.add_pod(boot_seconds=0)
    call.emulator.faults.add(LostDeletion(5), on="delete", times=1)
    states = [call("DELETE", PODS + pod_id).json["status"]]
    for seconds in (4, 1, 1_000):
        call.emulator.advance(seconds)
        states.append(call.status(pod_id)[0]["status"])
    assert states == ["DELETING", "DELETING", "ACTIVE", "ACTIVE"]
    call("DELETE", PODS + pod_id)
    again = Emulator(clock=ManualClock())
    again.restore(call.emulator.snapshot())
    for emulator in (call.emulator, again):
        assert emulator.pods[pod_id].status == "DELETING"
        emulator.advance(5)
        assert pod_id not in emulator.pods


@pytest.mark.parametrize("method", ["POST", "DELETE", "GET"])
def test_an_answer_can_be_about_another_pod(call: Caller, method: str) -> None:
    """Whatever was asked, which the API has done all the same."""
    asked, other = list(call.emulator.pods)[:2]
    path, body = (PODS, body_for(plain_offer(call), name="new")) if method == "POST" else (PODS + asked, None)
    call.emulator.faults.add(OtherPod(other))
    assert call.json(method, path, body=body)["id"] == other
    names = {pod.name for pod in call.emulator.pods.values()}
    assert ("new" in names) == (method == "POST")
    assert (call.emulator.pods[asked].status == "DELETING") == (method == "DELETE")


def test_empty_data_leaves_alone_what_is_no_data(call: Caller) -> None:
    """Redirects and other answers without rows."""
    call.emulator.faults.add(EmptyData())
    assert call("GET", "/api/v1/pods").status == 307
    assert call.get("/api/v1/user/whoami")["data"]["id"]
