"""Responses that no API should give, in the middle of a wait."""

from __future__ import annotations

import json
from typing import Any

import pytest

from primepods import RetryPolicy
from primepods._utils import strict_json as _json
from tests.support.client import serve
from tests.support.clock import ManualClock
from tests.support.server import Answer, Received, Reply, reply

pytestmark = pytest.mark.anyio

ROW = {"podId": "a", "providerType": "x", "status": "ACTIVE"}
DEEP = b"[" * 100_000 + b"]" * 100_000
NO_JSON = (
    *(
        b"<!doctype html><title>Sign in</title>",
        b"Service unavailable",
        b'{"data": [{"id": "a',
        b"\0" * 1_000,
    ),
    *(b'{"data": []} {"data": []}', b'{"data": [], "total_count": 1e999}', b'{"data": [{"id": "\xff\xfe"}]}'),
    *('{"data": []}'.encode("utf-16"), b'{"data": ' + DEEP + b"}"),
)


@pytest.mark.parametrize("decoder", ["orjson", "json"])
async def test_a_wait_outlives_all_of_them(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bad response tells a waiter that something has happened; then the true one comes."""
    if decoder == "json":
        monkeypatch.setattr(_json, "orjson", None)
    rows: list[Any] = [{}, [5], [{"podId": None}], [{**ROW, "podId": "other"}], None]
    rows.append([{**ROW, "new": json.loads("[" * 500 + "]" * 500)}])
    values: list[Any] = [[], "text", 5, {}, *({"data": data} for data in rows)]
    left: list[Answer] = [*(Reply(200, body) for body in NO_JSON), *map(reply, values)]
    ready = {**ROW, "installationStatus": "FINISHED", "ip": "1.2.3.4"}

    def answer(request: Received) -> Answer:
        if not request.path.endswith("/status"):
            return left.pop() if left else reply({"id": "a"})
        return left.pop(0) if left else reply({"data": [ready]})

    retry = RetryPolicy(attempts=2)
    async with serve(answer, clock=ManualClock(auto=True), retry=retry) as (_server, client):
        row = await client.pods.wait_ready("a", appear_grace=1e6)
    assert row.is_ready
    assert left == []
