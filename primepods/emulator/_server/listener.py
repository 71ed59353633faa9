"""A server that closes all its connections when it stops."""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from .app import App

# Off by default, since a line per request would flood test logs; level INFO enables it.
ACCESS_LOG = logging.getLogger("primepods.emulator.access")
ACCESS_LOG.setLevel(logging.WARNING)

MAX_LINE = 8190
"""Max size of a request line or header in bytes, as in common servers and proxies."""

MAX_ACCEPT_ITERATIONS = 5
"""Max loop iterations between accepting a connection and its ``connection_made``."""


class Listener:
    """Server for an app, in the running loop."""

    def __init__(self, app: App) -> None:
        self.app = app
        self._server: asyncio.Server | None = None
        self._web_server: web.Server | None = None
        # A dict in place of a set, so that a seed of a simulated world is one order of steps.
        self._tasks: dict[asyncio.Task[None], None] = {}

    async def start(self, host: str, port: int) -> int:
        """Bind to ``host`` and ``port`` (0 for any free port), and return the port."""
        loop = asyncio.get_running_loop()
        web_server = web.Server(self._serve)
        self._web_server = web_server
        self._server = await loop.create_server(
            lambda: _Connection(self.app, web_server, loop), host, port, backlog=1024
        )
        address = self._server.sockets[0].getsockname()
        return int(address[1])

    async def stop(self) -> None:
        """Stop listening, abandon requests in flight, and close all connections."""
        if self._server is None or self._web_server is None:
            return
        # asyncio leaks a connection that it accepts in the loop iteration in which the server is closed.
        # After a sleep, a task runs before connections are accepted, so `close` comes first.
        await asyncio.sleep(0.001)
        self._server.close()
        # Connections of earlier iterations get their `connection_made` in the next ones. Wait for it.
        for _ in range(MAX_ACCEPT_ITERATIONS):
            await asyncio.sleep(0)
        self._web_server.pre_shutdown()
        # Repeatedly: clients may connect again meanwhile.
        while self._tasks or self._web_server.connections:
            for task in self._tasks:
                task.cancel()
            for connection in self._web_server.connections:
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        await self._web_server.shutdown(0.1)
        await self._server.wait_closed()
        self._server = self._web_server = None

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks[task] = None
        try:
            return await self.app.handle(request)
        finally:
            self._tasks.pop(task, None)


class _Connection(RequestHandler):
    """A connection that responds with JSON even to invalid HTTP."""

    __slots__ = ("_app",)

    def __init__(self, app: App, web_server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(
            web_server, loop=loop, access_log=ACCESS_LOG, max_line_size=MAX_LINE, max_field_size=MAX_LINE
        )
        self._app = app

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        if status >= web.HTTPInternalServerError.status_code:
            self.log_exception("The emulator failed to handle %s", request.path, exc_info=exc)
        response = self._app.refuse_invalid(status, message or "Bad Request")
        response.force_close()
        return response
