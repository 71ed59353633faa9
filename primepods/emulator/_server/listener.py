"""A loopback socket and the connections on it, with nothing left behind once it is closed."""

from __future__ import annotations

import asyncio
import logging

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from .app import App

# One line a request would drown the log of whoever tests with an emulator: the request log is for that.
# Set this logger to INFO to see them all the same.
ACCESS_LOG = logging.getLogger("primepods.emulator.access")
ACCESS_LOG.setLevel(logging.WARNING)

MAX_LINE = 8190
"""Longest request line and header that is read, in bytes: what common servers and proxies allow."""

ACCEPTING = 5
"""Turns of the loop, at most, from accepting a connection to its ``connection_made``."""


class Listener:
    """Serves an app on a loopback port from the running loop; without an app it answers 503."""

    def __init__(self, app: App | None = None) -> None:
        self._app = app
        self._server: asyncio.Server | None = None
        self._web: web.Server | None = None
        self._transports: dict[RequestHandler, asyncio.BaseTransport] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()

    async def start(self, host: str, port: int) -> int:
        """Bind to ``host`` and ``port`` (0: any free one) and return the port; ``OSError`` if it is taken."""
        loop = asyncio.get_running_loop()
        self._idle = asyncio.Event()
        manager = self._web = web.Server(self._serve)
        self._server = await loop.create_server(
            lambda: _Connection(self, manager, loop), host, port, backlog=1024
        )
        address = self._server.sockets[0].getsockname()
        return int(address[1])

    async def stop(self) -> None:
        """Stop listening, abandon what is in flight, cut every connection."""
        if self._server is None or self._web is None:
            return
        # asyncio loses (and leaks) a connection that is being accepted while its server closes. A timer fires
        # behind all that the same turn of the loop accepts, so what it wakes runs behind the last of them.
        await asyncio.sleep(0.001)
        self._server.close()
        # What was accepted last is made in one of the next turns: cut it too.
        for _ in range(ACCEPTING):
            await asyncio.sleep(0)
        self._web.pre_shutdown()
        await self._cut()
        await self._web.shutdown(0.1)
        await self._server.wait_closed()
        self._server = self._web = None

    async def mount(self, app: App | None) -> None:
        """Serve another app from now on, after cutting every connection of the one before."""
        self._app = None
        await self._cut()
        self._app = app

    def opened(self, connection: RequestHandler, transport: asyncio.BaseTransport) -> None:
        """Take note of a new connection."""
        self._transports[connection] = transport
        self._idle.clear()

    def closed(self, connection: RequestHandler) -> None:
        """Take note of a connection's end."""
        self._transports.pop(connection, None)
        if not self._transports:
            self._idle.set()

    def refused(self, status: int, message: str) -> web.Response:
        """Answer what was no HTTP that could be read, or what nobody is there to answer."""
        if self._app is not None:
            return self._app.refused(status, message)
        return web.json_response({"detail": "No emulator is served here at the moment"}, status=503)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if self._app is None:
            return self.refused(503, "")
        task = asyncio.current_task()
        if task is None:  # pragma: no cover  aiohttp runs every handler in a task
            return await self._app.handle(request)
        self._tasks.add(task)
        try:
            return await self._app.handle(request)
        finally:
            self._tasks.discard(task)

    async def _cut(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for transport in list(self._transports.values()):
            if isinstance(transport, asyncio.Transport):
                transport.abort()
        if self._transports:
            await self._idle.wait()


class _Connection(RequestHandler):
    """A connection that its listener can cut, and that answers in JSON even to what is no HTTP."""

    __slots__ = ("_listener",)

    def __init__(self, listener: Listener, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            manager, loop=loop, access_log=ACCESS_LOG, max_line_size=MAX_LINE, max_field_size=MAX_LINE
        )
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.opened(self, transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._listener.closed(self)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= web.HTTPInternalServerError.status_code:
            self.log_exception("The emulator failed to answer %s", request.path, exc_info=exc)
        response = self._listener.refused(status, message or "Bad Request")
        response.force_close()
        return response
