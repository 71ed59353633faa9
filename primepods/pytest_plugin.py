"""pytest fixtures: an emulator for each test, and clients for it.

Installing the package makes these fixtures available. The emulator of a test has a new state, key and
port; it costs about two milliseconds.
``@pytest.mark.primepods(pods=5, boot_seconds=0)`` configures the emulator with arguments of
``primepods.emulator.Emulator``. By default, time runs 100 times as fast as real time.
"""

from __future__ import annotations

import importlib
import os
from contextlib import suppress
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from . import AsyncClient, Client
    from .emulator import Emulator

_ASYNCIO_FIXTURES = "primepods.pytest_plugin.asyncio"

SPEED = 100.0
"""Default number of emulated seconds per real second: a boot of 30 s takes 0.3 s."""


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker and, if pytest-asyncio is in use, fixtures for it."""
    config.addinivalue_line(
        "markers",
        "primepods(**options): keyword arguments of primepods.emulator.Emulator, for the emulator of "
        "primepods_emulator, primepods_client and primepods_async_client.",
    )
    if _has_pytest_asyncio(config):
        # If this version of pytest-asyncio cannot create the fixtures, other tests must still run.
        with suppress(Exception):
            config.pluginmanager.register(_asyncio_fixtures(), _ASYNCIO_FIXTURES)


@pytest.fixture
def primepods_emulator(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Emulator]:
    """Provide a new ``primepods.emulator.Emulator`` for this test, with control routes enabled.

    The emulator starts without pods, at 100 times real time; ``@pytest.mark.primepods(...)`` changes that. If
    the mark has a ``ManualClock``, each test gets a new one with the same epoch; move it with
    ``primepods_emulator.advance``. The state, the key and the connections are discarded after the test.
    PRIMEPODS_STATE_DIR is set to a new folder for lease files.
    """
    # Import here and below, so that sessions without these fixtures do not load a web server.
    from .emulator import Emulator

    # The folder is not created here: most tests rent nothing.
    leases = tmp_path_factory.getbasetemp() / "primepods-leases" / os.urandom(8).hex()
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(leases))
    with Emulator(**_options(request)) as emulator:
        yield emulator


@pytest.fixture
def primepods_client(primepods_emulator: Emulator) -> Generator[Client]:
    """Provide a ``primepods.Client`` for this test's emulator; close the client after the test."""
    from . import Client

    with Client(primepods_emulator.api_key, base_url=primepods_emulator.url) as client:
        yield client


@pytest.fixture
def primepods_async_client(request: pytest.FixtureRequest) -> AsyncClient:
    """Provide a ``primepods.AsyncClient`` for this test's emulator; close the client after the test.

    The test must run on asyncio, with anyio's plugin (``@pytest.mark.anyio``), which is always installed, or
    with pytest-asyncio 0.24 or newer (``@pytest.mark.asyncio``, or its auto mode).
    """
    # An asynchronous fixture must run in the same plugin and loop as the test.
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None and _has_pytest_asyncio(request.config):
        name = f"_primepods_asyncio_client_{_loop_scope(marker, request.config)}"
    elif "anyio_backend" in request.fixturenames:
        name = "_primepods_anyio_client"
    else:
        pytest.fail(
            "primepods_async_client needs an asynchronous test: mark the test with @pytest.mark.anyio (or "
            "@pytest.mark.asyncio, with pytest-asyncio), or use primepods_client",
            pytrace=False,
        )
    client: AsyncClient = request.getfixturevalue(name)
    return client


def _has_pytest_asyncio(config: pytest.Config) -> bool:
    return any(config.pluginmanager.has_plugin(name) for name in ("asyncio", "pytest_asyncio.plugin"))


def _loop_scope(marker: pytest.Mark, config: pytest.Config) -> str:
    """Return the scope of the loop in which pytest-asyncio runs the test."""
    if not config.pluginmanager.has_plugin(_ASYNCIO_FIXTURES):
        pytest.fail(
            "primepods_async_client cannot be used with the installed version of pytest-asyncio. Install "
            "0.24 or newer, or mark the test with @pytest.mark.anyio",
            pytrace=False,
        )
    default = "function"
    with suppress(ValueError):  # pytest-asyncio before 0.26 does not have this option
        default = config.getini("asyncio_default_test_loop_scope")
    scope: str = marker.kwargs.get("loop_scope", marker.kwargs.get("scope", default))
    return scope


def _new_fixture_function() -> Callable[[Emulator], AsyncGenerator[AsyncClient]]:
    """Return a new fixture function. It cannot be shared, since pytest-asyncio modifies it."""

    async def open_client(primepods_emulator: Emulator) -> AsyncGenerator[AsyncClient]:
        from . import AsyncClient

        async with AsyncClient(primepods_emulator.api_key, base_url=primepods_emulator.url) as client:
            yield client

    return open_client


_primepods_anyio_client = pytest.fixture(_new_fixture_function(), name="_primepods_anyio_client")


def _asyncio_fixtures() -> ModuleType:
    """Return a module with the client fixture for pytest-asyncio, once for each loop scope."""
    fixture = importlib.import_module("pytest_asyncio").fixture
    module = ModuleType(_ASYNCIO_FIXTURES)
    for scope in ("function", "class", "module", "package", "session"):
        name = f"_primepods_asyncio_client_{scope}"
        setattr(module, name, fixture(_new_fixture_function(), loop_scope=scope, name=name))
    return module


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Return the emulator's arguments; those of closer marks override the others and the defaults."""
    from .emulator import ManualClock

    options: dict[str, Any] = {"control": True, "api_key": f"emu_{os.urandom(20).hex()}"}
    for marker in reversed(list(request.node.iter_markers("primepods"))):
        if marker.args:
            given = ", ".join(map(repr, marker.args))
            pytest.fail(
                f"@pytest.mark.primepods takes keyword arguments, as in primepods(pods=5), not {given}",
                pytrace=False,
            )
        options.update(marker.kwargs)
    clock = options.get("clock")
    if clock is None:
        options.setdefault("speed", SPEED)
    elif isinstance(clock, ManualClock):
        options["clock"] = ManualClock(epoch=clock.epoch)
    return options
