"""What the tests of waiting start from."""

from collections.abc import AsyncIterator

import pytest

from tests.waiting.fleet import Fleet, Stage, stage


@pytest.fixture(name="stage")
async def _stage(anyio_backend: str) -> AsyncIterator[Stage]:
    """A clock, an API and clients; checks at the end that nothing was left behind."""
    async with stage() as made:
        yield made


@pytest.fixture
def fleet(stage: Stage) -> Fleet:
    """The stage's API."""
    return stage.fleet
