"""pytest fixtures: an emulator for every test, and clients that talk to it.

They come with the package: a test that asks for one of them by name has it. The emulator of each test has a
state and a key of its own, behind one socket that a whole session (or a worker of pytest-xdist) shares, so
that asking for one costs about a millisecond. ``@pytest.mark.primepods(pods=5, boot_seconds=0)`` says what
the emulator is like; the arguments are those of ``primepods.emulator.Emulator``. By default time runs a
hundred times as fast as outside.
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
    from .emulator import Emulator, Host

_ASYNCIO_FIXTURES = "primepods.pytest_plugin.asyncio"

SPEED = 100.0
"""Emulated seconds per real second, unless the test says otherwise: a boot of 30 s takes a third of one."""


def pytest_configure(config: pytest.Config) -> None:
    """Make the marker known, and fixtures that pytest-asyncio runs, if it is in use."""
    config.addinivalue_line(
        "markers",
        "primepods(**options): what the emulator behind primepods_emulator, primepods_client and "
        "primepods_async_client is like: the keyword arguments of primepods.emulator.Emulator.",
    )
    if _has_pytest_asyncio(config):
        # Versions of pytest-asyncio differ. With one that cannot make these fixtures, only tests that ask for
        # them fail: others must not notice that this plugin is installed.
        with suppress(Exception):
            config.pluginmanager.register(_asyncio_fixtures(), _ASYNCIO_FIXTURES)


@pytest.fixture(scope="session")
def primepods_emulator_host() -> Generator[Host]:
    """The thread and socket that the emulators of all tests share; not for tests."""
    # Imported here and below, so that sessions without these fixtures do not pay for a web server.
    from .emulator import Host  # noqa: PLC0415 - only runs that use it wait for it

    host = Host()
    host.start()
    yield host
    host.stop()


@pytest.fixture
def primepods_emulator(
    request: pytest.FixtureRequest,
    primepods_emulator_host: Host,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[Emulator]:
    """Give a ``primepods.emulator.Emulator`` that is this test's alone, with its control routes on.

    It begins without pods, at a hundred times the speed of real time; ``@pytest.mark.primepods(...)`` changes
    that. A ``ManualClock`` in the mark is a pattern: each test has its own, to be moved with
    ``primepods_emulator.advance``. Whatever a test leaves behind is gone with it: pods, faults, requests,
    connections and key. Files of leases go to a folder of the test's own, which PRIMEPODS_STATE_DIR names.
    """
    from .emulator import Emulator  # noqa: PLC0415 - only runs that use it wait for it

    # Named, not made: most tests rent nothing.
    leases = tmp_path_factory.getbasetemp() / "primepods-leases" / os.urandom(8).hex()
    monkeypatch.setenv("PRIMEPODS_STATE_DIR", str(leases))
    with Emulator(**_options(request)).on(primepods_emulator_host) as emulator:
        yield emulator


@pytest.fixture
def primepods_client(primepods_emulator: Emulator) -> Generator[Client]:
    """Give a ``primepods.Client`` of this test's emulator; it is closed at the end."""
    from . import Client  # noqa: PLC0415 - only runs that use it wait for it

    with Client(primepods_emulator.api_key, base_url=primepods_emulator.url) as client:
        yield client


@pytest.fixture
def primepods_async_client(request: pytest.FixtureRequest) -> AsyncClient:
    """Give a ``primepods.AsyncClient`` of this test's emulator; it is closed at the end.

    The test has to run on asyncio, by anyio's plugin (``@pytest.mark.anyio``), which is always installed, or
    by pytest-asyncio 0.24 or newer (``@pytest.mark.asyncio``, or its auto mode).
    """
    # An asynchronous fixture must be run by the plugin, and in the loop, that runs the test.
    marker = request.node.get_closest_marker("asyncio")
    if marker is not None and _has_pytest_asyncio(request.config):
        name = f"_primepods_asyncio_client_{_loop_scope(marker, request.config)}"
    elif "anyio_backend" in request.fixturenames:
        name = "_primepods_anyio_client"
    else:
        pytest.fail(
            "primepods_async_client is for asynchronous tests: mark it with @pytest.mark.anyio, or with "
            "@pytest.mark.asyncio if you have pytest-asyncio; for others, use primepods_client",
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
            "primepods_async_client needs pytest-asyncio 0.24 or newer; this one is older, or unknown to "
            "primepods: install another, or mark the test with @pytest.mark.anyio",
            pytrace=False,
        )
    default = "function"
    with suppress(ValueError):  # before pytest-asyncio 0.26 there is no such option
        default = config.getini("asyncio_default_test_loop_scope")
    scope: str = marker.kwargs.get("loop_scope", marker.kwargs.get("scope", default))
    return scope


def _open_client() -> Callable[[Emulator], AsyncGenerator[AsyncClient]]:
    """A function of its own for each plugin and loop: pytest-asyncio leaves its marks on it."""

    async def client_of(primepods_emulator: Emulator) -> AsyncGenerator[AsyncClient]:
        from . import AsyncClient  # noqa: PLC0415 - only runs that use it wait for it

        async with AsyncClient(primepods_emulator.api_key, base_url=primepods_emulator.url) as client:
            yield client

    return client_of


_primepods_anyio_client = pytest.fixture(_open_client(), name="_primepods_anyio_client")


def _asyncio_fixtures() -> ModuleType:
    """The same fixture for pytest-asyncio, once for every scope that the loop of a test can have."""
    fixture = importlib.import_module("pytest_asyncio").fixture
    module = ModuleType(_ASYNCIO_FIXTURES)
    for scope in ("function", "class", "module", "package", "session"):
        name = f"_primepods_asyncio_client_{scope}"
        setattr(module, name, fixture(_open_client(), loop_scope=scope, name=name))
    return module


def _options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The emulator's arguments: what all tests have in common, changed by marks, the nearest one last."""
    from .emulator import ManualClock  # noqa: PLC0415 - only runs that use it wait for it

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
