"""SSH keys: listed, added once, deleted, made primary."""

import json
from typing import Any

import pytest

import primepods
from primepods import RetryPolicy
from primepods.emulator import Edit, Emulator, Reset, Status
from tests.support.client import emulated, make_client
from tests.support.clock import ManualClock
from tests.support.server import Received, Reply, Server, reply
from tests.support.server import Reset as ResetConnection

BODY = "AAAAC3NzaC1lZDI1NTE5AAAAIHZv0pP7rY1J1mGm3vJ0v0Jx1Jx1Jx1Jx1Jx1Jx1Jx1J"
KEY = f"ssh-ed25519 {BODY} me@host"


async def test_keys_live_and_die() -> None:
    """Added, listed, primary, deleted, against an API that keeps them."""
    async with Emulator() as emulator, make_client(emulator.url, api_key=emulator.api_key) as client:
        first = await client.ssh_keys.add("laptop", KEY)
        second = await client.ssh_keys.add("desk", KEY.replace("HZv", "HZw") + "\n")
        assert (first.name, first.public_key, second.name) == ("laptop", KEY, "desk")
        assert first.created_at is not None
        await client.ssh_keys.set_primary(second.id)
        keys = [key async for key in client.ssh_keys.list(page_size=1)]
        assert [(key.id, key.is_primary) for key in keys] == [(first.id, False), (second.id, True)]
        await client.ssh_keys.delete(first.id)
        assert [key.id async for key in client.ssh_keys.list()] == [second.id]
        for call in (client.ssh_keys.delete, client.ssh_keys.set_primary):
            with pytest.raises(primepods.NotFoundError, match="Check"):
                await call(first.id)


@pytest.mark.parametrize("again", [KEY, f"  ssh-ed25519 {BODY} another@comment\n", f"ssh-ed25519 {BODY}"])
async def test_an_equal_key_is_reused(again: str) -> None:
    """Whatever the comment; its name stays, and nothing is sent twice."""
    async with Emulator() as emulator, make_client(emulator.url, api_key=emulator.api_key) as client:
        first = await client.ssh_keys.add("laptop", KEY)
        assert await client.ssh_keys.add("other", again) == first
        assert [request.method for request in emulator.requests].count("POST") == 1


async def test_a_row_that_cannot_be_read_prevents_no_key() -> None:
    """Whose key it has is unknown: the new one is added, and one that can be read is still found."""
    async with Emulator() as emulator, make_client(emulator.url, api_key=emulator.api_key) as client:
        await client.ssh_keys.add("old", KEY.replace("HZv", "HZw"))
        emulator.faults.add(Edit(put={"data.0.publicKey": [1]}), on="ssh_keys")
        added = await client.ssh_keys.add("laptop", KEY)
        assert await client.ssh_keys.add("again", KEY) == added


async def test_where_nothing_can_be_looked_up_the_key_may_have_been_added() -> None:
    """The error of the POST says so."""
    empty = reply({"total_count": 0, "offset": 0, "limit": 100, "data": []})  # is asked for twice

    def answer(request: Received) -> Reply:
        return empty if request.number < 2 else reply({"detail": "busy"}, 500)

    async with Server(answer) as server, make_client(server.url, retry=RetryPolicy(attempts=1)) as client:
        with pytest.raises(primepods.ServerError) as told:
            await client.ssh_keys.add("laptop", KEY)
    assert told.value.method == "POST"
    assert "The key may have been added" in told.value.__notes__[-1]


@pytest.mark.parametrize("acted", [True, False])
async def test_a_lost_answer_is_settled_by_looking(*, acted: bool) -> None:
    """The key is there, or the error of the POST is raised; it is never added twice."""
    clock = ManualClock(auto=True)
    async with emulated({"clock": clock}) as (emulator, client):
        emulator.faults.add(Reset(acted=acted), on="ssh_key_upload", times=1)
        if acted:
            assert (await client.ssh_keys.add("laptop", KEY)).name == "laptop"
        else:
            with pytest.raises(primepods.TransportError):
                await client.ssh_keys.add("laptop", KEY)
        await client.ssh_keys.add("laptop", KEY)
        assert len([key async for key in client.ssh_keys.list()]) == 1


async def test_a_repeated_delete_that_finds_nothing_has_worked() -> None:
    """The first one was carried out, and only its answer was lost."""
    clock = ManualClock(auto=True)
    async with emulated({"clock": clock}) as (emulator, client):
        key = await client.ssh_keys.add("laptop", KEY)
        emulator.faults.add(Status(503, acted=True), on="ssh_key_delete", times=1)
        await client.ssh_keys.delete(key.id)
        assert [key async for key in client.ssh_keys.list()] == []


async def test_a_refusal_is_raised_without_looking_again() -> None:
    """In the API's own words it is one."""

    def answer(request: Received) -> Reply:
        if request.method == "GET":
            return reply({"total_count": 0, "offset": 0, "limit": 100, "data": []})
        return reply({"detail": "no"}, 400)

    async with Server(answer) as server, make_client(server.url) as client:
        with pytest.raises(primepods.BadRequestError):
            await client.ssh_keys.add("laptop", KEY)
    assert [request.method for request in server.requests][-1] == "POST"


PRIVATE = (
    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU\n-----END OPENSSH PRIVATE KEY-----"
)


@pytest.mark.parametrize(
    ("public_key", "kind"),
    [
        (PRIVATE, ValueError),
        ("", ValueError),
        (BODY, ValueError),
        ("ssh-ed25519", ValueError),
        (f"{KEY}\n{KEY}", ValueError),
        ("~/.ssh/id_ed25519.pub", ValueError),
        (b"ssh-ed25519", TypeError),
    ],
)
async def test_what_is_no_public_key_is_never_sent(public_key: Any, kind: type[Exception]) -> None:
    """Nor is it repeated in the message: it may be a private one."""
    async with Server() as server, make_client(server.url) as client:
        with pytest.raises(kind, match="public_key") as caught:
            await client.ssh_keys.add("laptop", public_key)
    assert server.requests == []
    assert "b3Blbn" not in str(caught.value)


async def test_making_primary_says_so_in_the_body() -> None:
    """The schema allows nothing but true."""
    answer = reply({"message": "ok", "updated_fields": {}})
    async with Server([answer, ResetConnection()]) as server, make_client(server.url) as client:
        await client.ssh_keys.set_primary("k/1".replace("/", "-"))
        assert json.loads(server.requests[0].body) == {"isPrimary": True}
        assert server.targets == ["PATCH /api/v1/ssh_keys/k-1"]
        with pytest.raises(primepods.TransportError):
            await client.with_options(retry=RetryPolicy(attempts=3)).ssh_keys.set_primary("k")
        assert len(server.requests) == 2
