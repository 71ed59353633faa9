"""Answers that no API should give, to every operation: `ProtocolError` with the place, or tolerated."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import primepods
from primepods import AsyncClient, RetryPolicy
from primepods._utils import strict_json as _json
from tests.support.client import make_client
from tests.support.clock import ManualClock
from tests.support.server import Answer, Received, Reply, Server, reply

pytestmark = pytest.mark.anyio

Call = Callable[[AsyncClient], Awaitable[Any]]

POD = {"id": "a", "gpuName": "H100", "gpuCount": 1, "priceHr": 1.0, "providerType": "x", "status": "ACTIVE"}
ROW = {"podId": "a", "providerType": "x", "status": "ACTIVE"}
RECORD = {**POD, "type": "Instance", "totalBilledPrice": 2.0, "createdAt": "2026-01-01T00:00:00Z"}


async def _list(client: AsyncClient) -> list[Any]:
    return [pod async for pod in client.pods.list()]


async def _history(client: AsyncClient) -> list[Any]:
    return [record async for record in client.pods.history()]


async def _statuses_of_b(client: AsyncClient) -> None:
    """Of many pods, one of which is in trouble: that is no error of the call."""
    raise (await client.pods.statuses(["a", "b"])).errors["b"]


LISTINGS: dict[str, tuple[Call, Any]] = {
    "page": (lambda client: client.pods.page(), POD),
    "list": (_list, POD),
    "statuses": (lambda client: client.pods.statuses(["a", "b"]), ROW),
    "status": (lambda client: client.pods.status("a"), ROW),
    "history_page": (lambda client: client.pods.history_page(), RECORD),
    "history": (_history, RECORD),
}
"""Operations whose answer has rows, with a good one."""
OBJECTS: dict[str, tuple[Call, Any]] = {
    "get": (lambda client: client.pods.get("a"), POD),
    "delete": (lambda client: client.pods.delete("a"), {"status": "DELETING"}),
}
"""Operations whose answer is one object."""
CALLS = {name: call for name, (call, _) in (LISTINGS | OBJECTS).items()}


@pytest.fixture(params=["orjson", "json"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With orjson, and as where it is not installed."""
    if request.param == "json":
        monkeypatch.setattr(_json, "orjson", None)
    else:
        pytest.importorskip("orjson", reason="needs the extra `speed`")
    return str(request.param)


async def answer_of(call: Call, answer: Answer | Callable[[Received], Answer]) -> Any:
    """What a call makes of a server that always answers the same."""
    script = answer if callable(answer) else lambda _: answer
    clock = ManualClock(auto=True)
    retry = RetryPolicy(attempts=2)
    async with Server(script) as server, make_client(server.url, clock=clock, retry=retry) as client:
        return await call(client)


async def refusal_of(call: Call, answer: Answer) -> primepods.ProtocolError:
    """The error with which a call refuses an answer; a line for people, with a short excerpt."""
    with pytest.raises(primepods.ProtocolError) as caught:
        await answer_of(call, answer)
    error = caught.value
    assert str(error).isprintable()
    assert len(str(error)) < 900
    assert len(error.excerpt) <= 200
    assert error.url_path in str(error)
    return error


DEEP = b"[" * 100_000 + b"]" * 100_000
NO_JSON: dict[str, bytes] = {
    "HTML": b"<!doctype html><title>Sign in</title>",
    "text": b"Service unavailable",
    "cut": b'{"data": [{"id": "a',
    "two": b'{"data": []} {"data": []}',
    "NaN": b'{"data": [{"id": "a", "priceHr": NaN}]}',
    "Infinity": b'{"data": [], "total_count": -Infinity}',
    "1e999": b'{"data": [], "total_count": 1e999}',
    "bad UTF-8": b'{"data": [{"id": "\xff\xfe"}]}',
    "UTF-16": '{"data": []}'.encode("utf-16"),
    "half a surrogate": b'{"data": [], "x": "\\ud800"}',
    "control code": b'{"data": [], "x": "\x1b[31m"}',
    "nested": DEEP,
    "nested in an object": b'{"data": ' + DEEP + b"}",
    "nested in a row": b'{"data": [{"id": ' + b'{"x":' * 100_000 + b"1" + b"}" * 100_000 + b"}]}",
    "NUL": b"\x00" * 1_000,
}


@pytest.mark.parametrize("body", NO_JSON.values(), ids=NO_JSON.keys())
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_what_is_no_json_is_refused(call: Call, body: bytes, decoder: str) -> None:
    """With 200 and whatever content type: not guessed at, not half understood."""
    for kind in ("application/json", "text/html"):
        error = await refusal_of(call, Reply(200, body, headers={"Content-Type": kind}))
        assert error.path == ""
        assert error.excerpt or not body.strip(b"\x00")


@pytest.mark.parametrize("value", [[], "text", 5, 1.5, True, [POD], [[]]], ids=repr)
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())
async def test_a_wrong_top_level_is_refused(call: Call, value: Any, decoder: str) -> None:
    """A list, text or number in place of the object."""
    error = await refusal_of(call, reply(value))
    assert "expected an object" in str(error)
    assert error.excerpt


@pytest.mark.parametrize("name", LISTINGS)
async def test_wrong_rows_are_refused_where_they_are(name: str, decoder: str) -> None:
    """Data that is no list, rows that are no objects, a row without its id, a number in place of text."""
    call, good = LISTINGS[name]
    call = {"statuses": _statuses_of_b, "status": lambda client: client.pods.status("b")}.get(name, call)
    key = "podId" if name.startswith("status") else "id"
    lacking = {field: value for field, value in good.items() if field != key}
    cases: dict[str, Any] = {
        "data": {"a": good},
        "data[1]": [good, 5],
        "data[0]": [None],
        f"data[1].{key}": [good, lacking],
        f"data[0].{key}": [{**good, key: {"x": 1}}],
        "data[2].providerType": [good, good, {**good, key: "b", "providerType": ["x"]}],
    }
    for path, data in cases.items():
        error = await refusal_of(call, reply({"data": data, "total_count": 9}))
        assert error.path == path
        assert path in str(error)


async def test_wrong_objects_are_refused_where_they_are(decoder: str) -> None:
    """The same of the answers that are one object; and of another pod's."""
    get = OBJECTS["get"][0]
    assert (await refusal_of(get, reply({**POD, "gpuCount": "many"}))).path == "gpuCount"
    assert (await refusal_of(get, reply({}))).path == "gpuName"
    assert (await refusal_of(get, reply({**POD, "id": "b"}))).path == "id"


async def test_what_the_field_notes_saw_is_tolerated(decoder: str) -> None:
    """Unknown words and fields, numbers as text, null data, blanks around it, an id that is missing."""

    async def of(name: str, value: Any) -> Any:
        return await answer_of((LISTINGS | OBJECTS)[name][0], reply(value))

    assert (await of("get", {**POD, "id": None, "priceHr": "1.5", "gpuCount": "8"})).gpu_count == 8
    assert (await of("page", {"data": None})).data == ()
    assert await of("list", {"data": None, "total_count": 0}) == []
    strange = await of("status", {"data": [{**ROW, "status": "HIBERNATING", "new": {"deep": [1]}}]})
    assert (strange.status, strange.status.is_known) == ("HIBERNATING", False)
    assert strange.extra == {"new": {"deep": [1]}}
    assert (await answer_of(CALLS["page"], Reply(200, b'\n {"data": []} \n'))).data == ()


async def test_rows_that_nobody_asked_for_and_rows_that_come_twice(decoder: str) -> None:
    """A status answer is reduced to the ids asked; a listing yields each id once, whatever a page repeats."""
    rows = [{**ROW, "podId": one} for one in ("x", "a", "y", "b", "a")]
    rows[-1]["status"] = "STOPPED"
    statuses = await answer_of(CALLS["statuses"], reply({"data": rows}))
    assert list(statuses) == ["a", "b"]
    assert statuses.missing == ()
    assert (await answer_of(CALLS["status"], reply({"data": rows}))).pod_id == "a"
    pods = [{**POD, "id": one} for one in ("a", "b", "a", "b", "c")]
    answer = reply({"data": pods, "total_count": 5, "offset": 0, "limit": 100})
    assert [pod.id for pod in await answer_of(CALLS["list"], answer)] == ["a", "b", "c"]


async def test_a_wait_outlives_all_of_them(decoder: str) -> None:
    """Who waits is told by no bad answer that something has happened; then the true one comes."""
    rows: list[Any] = [{}, [5], [{"podId": None}], [{**ROW, "podId": "other"}]]
    rows.append([{**ROW, "new": json.loads("[" * 500 + "]" * 500)}])
    values: list[Any] = [[], "text", 5, {}, *({"data": data} for data in rows)]
    answers = [*(Reply(200, body) for body in NO_JSON.values()), *map(reply, values)]
    ready = {**ROW, "installationStatus": "FINISHED", "ip": "1.2.3.4"}
    left = list(answers)

    def answer(request: Received) -> Answer:
        if not request.path.endswith("/status"):
            return left.pop() if left else reply(POD)
        return left.pop(0) if left else reply({"data": [ready]})

    row = await answer_of(lambda client: client.pods.wait_ready("a", appear_grace=1e6), answer)
    assert row.is_ready
    assert left == []


async def test_what_kept_failing_is_named(decoder: str) -> None:
    """A wait that saw nothing else ends in its time, and says what was wrong."""
    for answer in (Reply(200, b"<html>"), reply({"data": [5]})):
        with pytest.raises(primepods.WaitTimeoutError, match=r"Requests kept failing: .*response is invalid"):
            await answer_of(lambda client: client.pods.wait(["a"], timeout=60), answer)


@pytest.mark.parametrize("first", [307, 301])
async def test_a_whim_of_a_gateway_teaches_nothing(first: int) -> None:
    """A redirect to a spelling that the API does not have is a 404 once, not the end of the pod for good."""
    asked: list[str] = []

    def answer(request: Received) -> Answer:
        asked.append(request.path)
        if len(asked) == 1:
            return Reply(first, headers={"Location": f"{request.path}/"})
        return reply({"detail": "Not Found"}, 404) if request.path.endswith("/") else reply(POD)

    async with Server(answer) as server, make_client(server.url) as client:
        with pytest.raises(primepods.NotFoundError):
            await client.pods.get("a")
        assert (await client.pods.get("a")).id == "a"
    path = "/api/v1/pods/a"
    assert asked == [path, f"{path}/", path]
