"""The compared asynchronous clients: ours, the floor, and hand-written ones."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import aiohttp
from yarl import URL

import primepods

from .server import KEY

BATCH_SIZE = 100
MAX_IN_FLIGHT = 16
_PODS = "/api/v1/pods"


class Floor:
    """Minimal client: aiohttp and orjson, with the same batches and concurrency.

    No types, checks, retries or timeouts; the query is built once and not encoded again.
    """

    def __init__(self, url: str) -> None:
        try:
            self._loads: Callable[[bytes], Any] = importlib.import_module("orjson").loads
        except ModuleNotFoundError:
            self._loads = importlib.import_module("json").loads
        self._url = url + _PODS
        self._session: aiohttp.ClientSession | None = None

    async def _get_json(self, target: str) -> Any:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Authorization": f"Bearer {KEY}"},
            )
        async with self._session.get(URL(self._url + target, encoded=True)) as response:
            assert response.status == 200
            return self._loads(await response.read())

    async def statuses(self, ids: list[str]) -> int:
        """Request the status of many pods."""
        found: dict[str, Any] = {}

        async def fetch(batch: list[str]) -> None:
            data = await self._get_json("/status?pod_ids=" + "&pod_ids=".join(batch))
            for row in data["data"]:
                found[row["podId"]] = row

        await run_limited(fetch, batches(ids))
        return len(found)

    async def list(self) -> int:
        """Read the whole list."""
        first = await self._get_json(f"/?offset=0&limit={BATCH_SIZE}")
        pages = {0: first["data"]}

        async def fetch(offset: int) -> None:
            pages[offset] = (await self._get_json(f"/?offset={offset}&limit={BATCH_SIZE}"))["data"]

        await run_limited(fetch, range(BATCH_SIZE, first["total_count"], BATCH_SIZE))
        return sum(len(rows) for rows in pages.values())

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


class Naive(Floor):
    """Typical first script: aiohttp, one pod after another, and `json()`."""

    async def statuses(self, ids: list[str]) -> int:
        """Request one pod after another."""
        found = {}
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {KEY}"}) as session:
            for pod_id in ids:
                async with session.get(f"{self._url}/{pod_id}") as response:
                    response.raise_for_status()
                    found[pod_id] = await response.json()
        return len(found)


class Ours:
    """primepods.AsyncClient with its defaults."""

    def __init__(self, url: str) -> None:
        self.client = primepods.AsyncClient(KEY, base_url=url, max_concurrency=MAX_IN_FLIGHT)

    async def statuses(self, ids: list[str]) -> int:
        """Request the status of many pods."""
        return len(await self.client.pods.statuses(ids))

    async def list(self) -> int:
        """Read the whole list."""
        pods = [pod async for pod in self.client.pods.list()]
        return len(pods)

    async def aclose(self) -> None:
        """Close the connections."""
        await self.client.aclose()


class Httpx:
    """httpx.AsyncClient, with the same batches and concurrency."""

    def __init__(self, url: str) -> None:
        httpx = importlib.import_module("httpx")
        self._http = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {KEY}"}, limits=httpx.Limits(max_connections=MAX_IN_FLIGHT)
        )
        self._url = url + _PODS

    async def _get_json(self, path: str, params: dict[str, Any]) -> Any:
        response = await self._http.get(self._url + path, params=params)
        response.raise_for_status()
        return response.json()

    async def statuses(self, ids: list[str]) -> int:
        """Request the status of many pods."""
        found: dict[str, Any] = {}

        async def fetch(batch: list[str]) -> None:
            for row in (await self._get_json("/status", {"pod_ids": batch}))["data"]:
                found[row["podId"]] = row

        await run_limited(fetch, batches(ids))
        return len(found)

    async def list(self) -> int:
        """Read the whole list."""
        first = await self._get_json("/", {"offset": 0, "limit": BATCH_SIZE})
        pages = {0: first["data"]}

        async def fetch(offset: int) -> None:
            pages[offset] = (await self._get_json("/", {"offset": offset, "limit": BATCH_SIZE}))["data"]

        await run_limited(fetch, range(BATCH_SIZE, first["total_count"], BATCH_SIZE))
        return sum(len(rows) for rows in pages.values())

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def batches(ids: list[str]) -> list[list[str]]:
    """Split ids into batches."""
    return [ids[at : at + BATCH_SIZE] for at in range(0, len(ids), BATCH_SIZE)]


async def run_limited(fetch: Callable[[Any], Awaitable[None]], items: Any) -> None:
    """Call ``fetch`` for all items, with limited concurrency."""
    queue: Iterator[Any] = iter(items)

    async def worker() -> None:
        for item in queue:
            await fetch(item)

    await asyncio.gather(*(worker() for _ in range(MAX_IN_FLIGHT)))
