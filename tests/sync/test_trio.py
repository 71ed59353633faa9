"""trio: the blocking client works in its threads, the asynchronous one says what it needs."""

from __future__ import annotations

import pytest
import trio

import primepods
from primepods.emulator import Emulator


def test_the_blocking_client_works_in_trios_threads() -> None:
    """Several at once share a client; a cancelled scope leaves it usable."""

    async def main(client: primepods.Client) -> list[str]:
        found: list[str] = []

        async def wait(pod: primepods.Pod) -> None:
            found.append((await trio.to_thread.run_sync(client.pods.wait_ready, pod)).pod_id)

        pods = list(await trio.to_thread.run_sync(client.pods.page))
        with trio.move_on_after(0.05) as scope:
            await trio.to_thread.run_sync(
                lambda: client.pods.wait_gone(pods[0], timeout=1), abandon_on_cancel=True
            )
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            for pod in pods:
                nursery.start_soon(wait, pod)
        return found

    with (
        Emulator(pods=3, boot_seconds=0) as emulator,
        primepods.Client(api_key=emulator.api_key, base_url=emulator.url) as client,
    ):
        assert sorted(trio.run(main, client)) == sorted(emulator.pods)


def test_the_asynchronous_client_says_that_it_needs_asyncio() -> None:
    """At the beginning of the block, or at the first call without one."""

    async def main() -> None:
        client = primepods.AsyncClient(api_key="key", base_url="http://127.0.0.1:9")
        with pytest.raises(RuntimeError, match=r"needs a running asyncio loop.*under trio"):
            await client.__aenter__()
        with pytest.raises(RuntimeError, match=r"needs a running asyncio loop.*under trio"):
            await client.pods.page()

    trio.run(main)
