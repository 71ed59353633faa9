"""trio: the asynchronous client says what it needs; RECIPES.md shows the blocking one in trio's threads."""

import pytest
import trio

import primepods


def test_the_asynchronous_client_says_that_it_needs_asyncio() -> None:
    """At the beginning of the block, or at the first call without one."""

    async def main() -> None:
        client = primepods.AsyncClient(api_key="key", base_url="http://127.0.0.1:9")
        with pytest.raises(RuntimeError, match=r"needs a running asyncio loop.*under trio"):
            await client.__aenter__()
        with pytest.raises(RuntimeError, match=r"needs a running asyncio loop.*under trio"):
            await client.pods.page()

    trio.run(main)
