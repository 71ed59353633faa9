"""aiohttp sessions: the client's own, opened at first use, or the caller's."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, suppress
from typing import Final

import aiohttp

from .._utils.clock import Timeout
from .._utils.text import quote
from ..errors import ConfigError

_KEEP_ALIVE: Final = 15.0
"""Seconds after which an idle connection is closed."""
_NO_KEEP_ALIVE: Final = 1e-9
"""Keep-alive, in seconds, of the session that opens a connection for each request.

Not 0: aiohttp would then start no timer that closes idle connections.
"""


class Sessions:
    """The sessions of a client in one event loop, with the rest of its state in that loop.

    Without a session of the caller, there are up to two: one reuses connections, the other opens a
    connection for each request.

    Args:
        given: A session of the caller, never closed here, or ``None``.
        max_concurrency: Max requests in flight.

    Attributes:
        loop: The event loop.
        slots: The limit on requests in flight.
        timeouts: The timeouts of the attempts in progress, as an ordered set; the values are unused.
        closing: Set when the client is closed in this loop.
    """

    def __init__(self, given: aiohttp.ClientSession | None, max_concurrency: int) -> None:
        self.loop: asyncio.AbstractEventLoop = asyncio.get_running_loop()
        self.slots: asyncio.Semaphore = asyncio.Semaphore(max_concurrency)
        self.timeouts: dict[Timeout, None] = {}
        self.closing: asyncio.Event = asyncio.Event()
        self._open_sessions = {} if given is None else dict.fromkeys((False, True), given)
        """The open sessions by ``fresh``, the argument of :meth:`get`."""
        self._stack = AsyncExitStack()
        self._closer: AsyncGenerator[None, None] | None = None

    async def get(self, *, fresh: bool) -> aiohttp.ClientSession:
        """Return the session for a request.

        Args:
            fresh: Whether the request needs a new connection, which only the client's own sessions guarantee.
        """
        if fresh not in self._open_sessions:
            if self._closer is None:
                # An async generator, because `asyncio.run` closes unfinished ones before it closes the loop.
                self._closer = _close_on_exit(self._stack)
                await anext(self._closer)
            # Do not use `force_close`, with which aiohttp adds a header to each request.
            keep_alive = _NO_KEEP_ALIVE if fresh else _KEEP_ALIVE
            self._open_sessions[fresh] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=keep_alive),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
            self._stack.push_async_callback(self._open_sessions[fresh].close)
        return self._open_sessions[fresh]

    async def let_next_send(self) -> None:
        """Let a caller that waits for the released slot send its request before this response is decoded."""
        if self.slots.locked():
            # One turn of the loop wakes it, the other lets it send.
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def aclose(self) -> None:
        """Close the sessions, except a session of the caller."""
        closer, self._closer = self._closer, None
        if closer is not None:
            await closer.aclose()

    def __del__(self) -> None:
        if self._closer is None or not self.loop.is_closed():
            return
        # The loop was closed without closing its generators. Nothing can be awaited in it any more.
        for session in set(self._open_sessions.values()):
            closing = session.close()
            with suppress(StopIteration, RuntimeError):
                closing.send(None)  # Its first step closes the sockets.
            closing.close()


def check_session(session: object) -> None:
    """Raise an error if requests cannot use the caller's session.

    Raises:
        TypeError: It is not an aiohttp session.
        ConfigError: It has an ``auth``, which would replace the API key.
    """
    if not isinstance(session, aiohttp.ClientSession):
        raise TypeError(f"session must be an aiohttp.ClientSession, got {quote(session)}")
    if session.auth is not None:
        raise ConfigError(
            "The session carries its own `auth`, which would replace the API key. Pass a session without it."
        )


def close_broken_connections(session: aiohttp.ClientSession, request: aiohttp.ClientRequest) -> bool:
    """Close the broken idle connections that aiohttp would try first; return whether it will reuse another.

    A connection that has received data while idle is also broken. aiohttp would read that data as the next
    response: if a server or proxy sent a response twice (imagined), each later request would get the response
    to the previous one.

    This reads private attributes of aiohttp. If a version lacks them, the result is ``False``.
    """
    with suppress(AttributeError, LookupError, TypeError, ValueError):
        connector = vars(session.connector)
        keep_alive = connector.get("_keepalive_timeout")
        expired_before = -math.inf if keep_alive is None else time.monotonic() - keep_alive
        for protocol, idle_since in connector["_conns"].get(request.connection_key, ()):
            if protocol.should_close:
                protocol.close()
            elif protocol.is_connected() and idle_since >= expired_before:
                # aiohttp will use this connection, the first one that is open and has not expired.
                return True
    return False


async def _close_on_exit(stack: AsyncExitStack) -> AsyncGenerator[None, None]:
    """Close ``stack`` when this generator is closed: by the client, or by `asyncio.run`."""
    try:
        yield
    finally:
        await stack.aclose()
