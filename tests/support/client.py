"""A client of a server in the same process, on a clock of the test's own."""

import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import attrs

import primepods
from primepods._http.transport import Transport
from primepods._utils.clock import Clock
from primepods.emulator import Emulator
from tests.support.server import Answer, Script, Server

KEY = "pit_wire_test_key+0123456789abcdef"
"""A key that stands nowhere else: whatever contains it has leaked it."""


def make_client(
    url: str,
    *,
    clock: Clock | None = None,
    session: aiohttp.ClientSession | None = None,
    api_key: str = KEY,
    **options: Any,
) -> primepods.AsyncClient:
    """A client of ``url``; ``clock`` is the one thing that its constructor does not take."""
    client = primepods.AsyncClient(api_key, base_url=url, session=session, **options)
    if clock is not None:
        settings = attrs.evolve(client._executor.settings, clock=clock)
        client._assemble(settings, Transport(settings, session), is_owner=True)
    return client


@asynccontextmanager
async def serve(
    script: Iterable[Answer] | Script | Server = (),
    *,
    default: Answer | None = None,
    tls: ssl.SSLContext | None = None,
    given: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[Server, primepods.AsyncClient]]:
    """A server, or one that answers as scripted, and a client of it with these options.

    With ``given``, the client uses a session of the caller's, made with these arguments.
    """
    made = script if isinstance(script, Server) else Server(script, default=default, tls=tls)
    async with made as server, AsyncExitStack() as stack:
        if given is not None:
            options["session"] = await stack.enter_async_context(aiohttp.ClientSession(**given))
        yield server, await stack.enter_async_context(make_client(server.url, **options))


@asynccontextmanager
async def emulated(
    client: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[tuple[Emulator, primepods.AsyncClient]]:
    """An emulator with these options, and a client of it with those of ``client``."""
    async with (
        Emulator(**options) as emulator,
        make_client(emulator.url, api_key=emulator.api_key, **(client or {})) as made,
    ):
        yield emulator, made
