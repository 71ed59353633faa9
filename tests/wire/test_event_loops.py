"""Loops that differ: with `asyncio.eager_task_factory`, whose tasks start at once, and those of uvloop."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest

import primepods
from primepods.emulator import Emulator
from tests.renting.stage import spec_of
from tests.support.client import make_client
from tests.support.loops import eager_loop, uv_loop

eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")

_Call = Callable[[primepods.AsyncClient, list[str]], Awaitable[list[str]]]


async def _status(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    return [status.pod_id for status in await asyncio.gather(*map(client.pods.status, ids))]


async def _statuses(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    return list(await client.pods.statuses(ids))


async def _wait(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    return list(await client.pods.wait(ids, timeout=60))


async def _wait_for_each(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    return [status.pod_id for status in await asyncio.gather(*map(client.pods.wait_ready, ids))]


async def _watch(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    changes = aiter(client.pods.watch(ids, timeout=60))
    return sorted([(await anext(changes)).pod_id for _ in ids])


async def _list(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    return sorted([pod.id async for pod in client.pods.list(page_size=20)])


async def _delete(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    return list(await client.pods.delete_many(ids))


async def _rent(client: primepods.AsyncClient, ids: list[str]) -> list[str]:
    spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
    async with client.pods.lease(spec, interval=0.05) as pod:
        assert pod.id not in ids
    return ids


@pytest.mark.parametrize("loop", [pytest.param(eager_loop, marks=eager_tasks), uv_loop])
@pytest.mark.parametrize("call", [_status, _statuses, _wait, _wait_for_each, _watch, _list, _delete, _rent])
def test_calls_work_in_other_loops(call: _Call, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Statuses, waits, watches, lists and deletions find all pods, and a lease becomes ready and ends."""
    with Emulator(pods=120, boot_seconds=0, delete_seconds=0) as emu:
        ids = sorted(emu.pods)

        async def main() -> list[str]:
            async with primepods.AsyncClient(emu.api_key, base_url=emu.url) as client:
                return await call(client, ids)

        with asyncio.Runner(loop_factory=loop) as runner:
            assert runner.run(main()) == ids


@eager_tasks
@pytest.mark.parametrize("call", [_status, _statuses, _wait, _list])
def test_a_closed_client_says_so_with_eager_tasks(call: _Call) -> None:
    """Tasks that fail before `create_task` returns end the call with their error, and only the call."""

    async def main() -> None:
        client = make_client("http://127.0.0.1:9")
        await client.aclose()
        with pytest.raises(primepods.ClientClosedError):
            await call(client, [f"pod{number}" for number in range(250)])
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=eager_loop) as runner:
        runner.run(main())
