"""The client as a whole: where its settings come from, who shares it, what others see of it, how it ends."""

import asyncio
import gc
import json
import warnings
from pathlib import Path

import pytest

import primepods
from primepods.emulator import Emulator
from tests.support.client import make_client
from tests.support.clock import settle
from tests.support.server import Server, reply

OK = reply({"ok": True})
PATH = "/api/v1/things"


async def test_async_with_closes_whatever_happens() -> None:
    """The block's exception comes through, the connections do not outlive it, and the client is spent."""
    async with Server(default=OK) as server:

        async def fail(client: primepods.AsyncClient) -> None:
            async with client as same:
                assert same is client
                await client.request("GET", PATH)
                raise ZeroDivisionError

        client = make_client(server.url)
        with pytest.raises(ZeroDivisionError):
            await fail(client)
        await settle()
        assert server.open == 0
        async with client:
            with pytest.raises(primepods.ClientClosedError):
                await client.request("GET", PATH)


def test_a_program_that_closes_its_client_leaves_no_warning() -> None:
    """Calls, a listing that is left, failures and the end of the loop: no resource is reported unclosed."""

    async def main() -> None:
        async with Emulator(pods=300, seed=1) as emu, make_client(emu.url, api_key=emu.api_key) as client:
            async for pod in client.pods.list(page_size=20):
                await client.pods.status(pod.id)
                if pod.id == list(emu.pods)[30]:
                    break
            with pytest.raises(primepods.NotFoundError):
                await client.pods.get("nobody")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main(), debug=True)
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


async def test_settings_go_over_the_wire(clean_environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Key, team and address of the official command's file, of the environment, and of arguments."""
    folder = clean_environment / ".prime"
    folder.mkdir()
    async with Server(default=OK) as server:
        config = {"api_key": "key-of-file", "team_id": "team-of-file", "base_url": f"{server.url}/api/v1/"}
        (folder / "config.json").write_text(json.dumps(config))
        async with primepods.AsyncClient() as client:
            await client.request("GET", PATH)
        monkeypatch.setenv("PRIME_API_KEY", "key-of-environment")
        monkeypatch.setenv("PRIME_TEAM_ID", "team-of-environment")
        async with primepods.AsyncClient() as client:
            await client.request("GET", PATH)
        async with primepods.AsyncClient("key-of-argument", team_id="team-of-argument") as client:
            await client.request("GET", PATH)
    for request, source in zip(server.requests, ("file", "environment", "argument"), strict=True):
        assert request.target == PATH
        assert request.headers["authorization"] == f"Bearer key-of-{source}"
        assert request.headers["x-prime-team-id"] == f"team-of-{source}"
