"""pytest fixtures: an emulator for every test, and clients that talk to it.

They come with the package: a test that asks for one of them by name has it. The emulator of each test has a
state and a key of its own, behind one socket that a whole session (or a worker of pytest-xdist) shares, so
that asking for one costs about a millisecond. `@pytest.mark.primepods(pods=5, boot_seconds=0)` says what the
emulator is like; the arguments are those of `primepods.emulator.Emulator`. By default time runs a hundred
times as fast as outside.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from . import AsyncClient, Client
    from .emulator import Emulator, Host

SPEED = 100.0
"""Emulated seconds per real second, unless the test says otherwise: a boot of 30 s takes a third of one."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known."""
    config.addinivalue_line(
        "markers",
        "primepods(**options): what the emulator behind primepods_emulator, primepods_client and "
        "primepods_async_client is like: the keyword arguments of primepods.emulator.Emulator.",
    )


@pytest.fixture(scope="session")
def primepods_emulator_host() -> Generator[Host]:
    """The thread and socket that the emulators of all tests share; not for tests."""
    # Imported here and below, so that sessions without these fixtures do not pay for a web server.
    from .emulator import Host  # noqa: PLC0415

    host = Host()
    host.start()
    yield host
    host.stop()


@pytest.fixture
def primepods_emulator(request: pytest.FixtureRequest, primepods_emulator_host: Host) -> Generator[Emulator]:
    """Give a `primepods.emulator.Emulator` that is this test's alone, with its control routes on.

    It begins without pods, at a hundred times the speed of real time; `@pytest.mark.primepods(...)` changes
    that. Whatever a test leaves behind is gone with it: pods, faults, requests, connections and key.
    """
    from .emulator import Emulator  # noqa: PLC0415

    options: dict[str, Any] = {"control": True, "api_key": f"emu_{secrets.token_hex(20)}"}
    for marker in reversed(list(request.node.iter_markers("primepods"))):
        options.update(marker.kwargs)
    if "clock" not in options:
        options.setdefault("speed", SPEED)
    with Emulator(**options).on(primepods_emulator_host) as emulator:
        yield emulator


@pytest.fixture
def primepods_client(primepods_emulator: Emulator) -> Generator[Client]:
    """Give a `primepods.Client` of this test's emulator; it is closed at the end."""
    from . import Client  # noqa: PLC0415

    with Client(primepods_emulator.api_key, base_url=primepods_emulator.url) as client:
        yield client


@pytest.fixture
async def primepods_async_client(primepods_emulator: Emulator) -> AsyncGenerator[AsyncClient]:
    """Give a `primepods.AsyncClient` of this test's emulator; it is closed at the end.

    The test has to run on asyncio by anyio's plugin (`@pytest.mark.anyio`), which is always installed, or by
    pytest-asyncio in its auto mode.
    """
    from . import AsyncClient  # noqa: PLC0415

    async with AsyncClient(primepods_emulator.api_key, base_url=primepods_emulator.url) as client:
        yield client
