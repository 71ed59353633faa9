"""The aiohttp sessions of a client: its own, opened at first use, or the caller's."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Final, TypeAlias

import aiohttp

from .._utils.text import quote
from ..errors import ConfigError

_KEEP_ALIVE: Final = 15.0
"""Seconds for which an idle connection is kept."""
_AT_ONCE: Final = 1e-9
SessionFactory: TypeAlias = Callable[[], aiohttp.ClientSession | Awaitable[aiohttp.ClientSession]]


class Sessions:
    """The sessions of a client in the running event loop.

    Of its own it has two: one keeps connections alive; the other opens one for each request, for those that
    must not be lost on a connection that the server has just closed.

    Args:
        given: The caller's own session, never closed here, or a function that makes one, or ``None``.
    """

    def __init__(self, given: aiohttp.ClientSession | SessionFactory | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._given = given
        self._opening = asyncio.Lock()
        self._open: dict[bool, aiohttp.ClientSession] = {}
        self._stack = AsyncExitStack()
        self._closer: AsyncGenerator[None, None] | None = None
        self._closed = False
        if isinstance(given, aiohttp.ClientSession):
            self._open = dict.fromkeys((False, True), given)

    async def get(self, *, fresh: bool) -> aiohttp.ClientSession:
        """Return the session for a request; ``fresh`` asks for a connection that has served no other.

        Raises:
            TypeError: The caller's function returned something else.
            ConfigError: It returned a session that would replace the API key.
        """
        return self._open.get(fresh) or await self._make(fresh=fresh)

    async def aclose(self) -> None:
        """Close the sessions that were opened here."""
        self._closed = True
        closer, self._closer = self._closer, None
        if closer is not None:
            await closer.aclose()

    async def _make(self, *, fresh: bool) -> aiohttp.ClientSession:
        async with self._opening:
            if fresh in self._open:
                return self._open[fresh]
            if self._closer is None:
                # A generator, because `asyncio.run` closes those that are left when the loop ends.
                self._closer = _close_on_exit(self._stack)
                await anext(self._closer)
            if callable(self._given):
                http = await _call_factory(self._given)
                self._open = dict.fromkeys((False, True), http)
            else:
                self._open[fresh] = http = _own_session(fresh=fresh)
            self._stack.push_async_callback(http.close)
            if self._closed:
                # Closed while the caller's function was at work.
                await self._stack.aclose()
            return http

    def __del__(self) -> None:
        if self._closer is None or not self._loop.is_closed():
            return
        # A loop that was closed without its generators: nothing can be awaited in it any more.
        for http in set(self._open.values()):
            closing = http.close()
            with suppress(StopIteration, RuntimeError):
                closing.send(None)
            closing.close()


def check_session(session: object) -> aiohttp.ClientSession:
    """Return ``session`` if requests can be sent with it."""
    if not isinstance(session, aiohttp.ClientSession):
        raise TypeError(
            f"The function given as session must return an aiohttp.ClientSession, not {quote(session)}"
        )
    if session.auth is not None:
        raise ConfigError(
            "The session carries its own `auth`, which would replace the API key. Pass a session without it."
        )
    return session


def will_reuse_connection(http: aiohttp.ClientSession, wire: aiohttp.ClientRequest) -> bool:
    """Tell whether a request that is sent now gets a connection that has served others.

    Only aiohttp's own attributes tell. Where a version has other ones, the answer is ``False``: a request
    whose connection has died while it was idle then counts as an attempt.
    """
    try:
        connector = vars(http.connector)
        opened_after = time.monotonic() - connector["_keepalive_timeout"]
        idle = connector["_conns"].get(wire.connection_key, ())
        return any(protocol.is_connected() and since >= opened_after for protocol, since in idle)
    except (AttributeError, LookupError, TypeError, ValueError):
        return False


def close_spoiled_connections(http: aiohttp.ClientSession, wire: aiohttp.ClientRequest) -> None:
    """Close idle connections on which anything has come: aiohttp would take it for the next response.

    A server or proxy that sends a response twice would so answer each later request with the one before.
    """
    with suppress(AttributeError, LookupError, TypeError, ValueError):  # as in will_reuse_connection
        for protocol, _ in vars(http.connector)["_conns"].get(wire.connection_key, ()):
            if not protocol.should_close:
                break  # it is the one that is used next
            protocol.close()


async def _call_factory(factory: SessionFactory) -> aiohttp.ClientSession:
    made = factory()
    http = await made if inspect.isawaitable(made) else made
    try:
        return check_session(http)
    except ConfigError:
        await http.close()
        raise


def _own_session(*, fresh: bool) -> aiohttp.ClientSession:
    # Not `force_close`, for which aiohttp adds a header to each request.
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_AT_ONCE if fresh else _KEEP_ALIVE),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    )


async def _close_on_exit(stack: AsyncExitStack) -> AsyncGenerator[None, None]:
    """Close ``stack`` when this is closed: by the client, or by `asyncio.run` at the end of the loop."""
    try:
        yield
    finally:
        await stack.aclose()
