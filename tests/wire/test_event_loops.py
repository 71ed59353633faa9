"""Loops that differ: with `asyncio.eager_task_factory`, whose tasks start at once, and those of uvloop."""

import asyncio
import sys
from collections.abc import Callable

import pytest

import primepods
from primepods.emulator import Emulator
from tests.renting.stage import spec_of
from tests.support.client import make_client
from tests.support.loops import eager_loop, uv_loop

eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")


@pytest.mark.parametrize("loop", [pytest.param(eager_loop, marks=eager_tasks), uv_loop])
def test_calls_work_in_other_loops(loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Statuses, waits, watches, lists and deletions find all pods, and a lease becomes ready and ends."""
    with Emulator(pods=120, boot_seconds=0, delete_seconds=0) as emu:
        ids = sorted(emu.pods)

        async def main() -> None:
            async with primepods.AsyncClient(emu.api_key, base_url=emu.url) as client:
                pods = client.pods
                assert [row.pod_id for row in await asyncio.gather(*map(pods.status, ids))] == ids
                assert list(await pods.statuses(ids)) == ids
                assert list(await pods.wait(ids, timeout=60)) == ids
                assert [row.pod_id for row in await asyncio.gather(*map(pods.wait_ready, ids))] == ids
                changes = aiter(pods.watch(ids, timeout=60))
                assert sorted([(await anext(changes)).pod_id for _ in ids]) == ids
                assert sorted([pod.id async for pod in pods.list(page_size=20)]) == ids
                spec = spec_of(await client.request("GET", "/api/v1/availability/gpus"))
                async with pods.lease(spec, interval=0.05) as pod:
                    assert pod.id not in ids
                assert list(await pods.delete_many(ids)) == ids

        with asyncio.Runner(loop_factory=loop) as runner:
            runner.run(main())


@eager_tasks
def test_a_closed_client_says_so_with_eager_tasks() -> None:
    """Tasks that fail before `create_task` returns end the call with their error, and only the call."""
    ids = [f"pod{number}" for number in range(250)]

    async def main() -> None:
        client = make_client("http://127.0.0.1:9")
        await client.aclose()
        pods = client.pods
        for call in (asyncio.gather(*map(pods.status, ids)), pods.statuses(ids), pods.wait(ids)):
            with pytest.raises(primepods.ClientClosedError):
                await call
            await asyncio.sleep(0)
        with pytest.raises(primepods.ClientClosedError):
            await anext(aiter(pods.list()))
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=eager_loop) as runner:
        runner.run(main())
