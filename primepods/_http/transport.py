"""Sender of single attempts, through aiohttp."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import platform
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

import aiohttp
from yarl import URL

from .._utils.clock import ServerClock
from .._utils.secret import Secret
from .._version import __version__
from ..config import Settings
from ..errors import ClientClosedError
from .backoff import RetryBudget, is_idempotent
from .failure import CONNECT_TIMEOUT, BodyTooLargeError, FailedAttempt, LostConnectionError, translate
from .pace import Pace, shared_pace
from .request import Request
from .response import Response
from .sessions import Sessions, check_session, close_broken_connections

_Handler: TypeAlias = Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]]
# `Transport.send` limits the whole attempt, on the client's clock; aiohttp limits only connecting.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT)
_MAX_BODY: Final = 64 * 1024 * 1024
"""Max bytes of a decompressed response; a page of 1,000 pods has about 1.5 MB."""


class Transport:
    """Sender of single attempts, through the sessions of the running event loop.

    Args:
        settings: The client's settings.
        session: A session of the caller, which the client does not close, or ``None``.
    """

    def __init__(self, settings: Settings, session: aiohttp.ClientSession | None) -> None:
        if session is not None:
            check_session(session)
        self.closed: bool = False
        self.given_session = session
        self.budget: RetryBudget = RetryBudget(settings.clock)
        self.server_clock: ServerClock = ServerClock(settings.clock)
        self.pace: Pace = shared_pace(settings)
        # Ids of pods and disks ordered under names that users chose; a list may not show them yet.
        self.ordered_ids: deque[str] = deque(maxlen=1_000)
        self._settings = settings
        self._sessions: Sessions | None = None
        self._pid = os.getpid()
        self._parent_sessions: object = None
        self._headers = _headers(settings)
        self._authorization = Secret(f"Bearer {settings.api_key}")

    async def acquire_slot(self, ends_at: float) -> Sessions | None:
        """Wait for a slot, which the caller must release; return the sessions, or ``None`` at ``ends_at``.

        Raises:
            ClientClosedError: The client or its session is closed, or is used in another event loop.
        """
        sessions = self.check()
        if not sessions.slots.locked():
            # A timeout would cost more than acquiring a free slot.
            await sessions.slots.acquire()
            return sessions
        try:
            async with self._settings.clock.timeout_at(ends_at):
                await sessions.slots.acquire()
        except TimeoutError:
            return None
        if self._is_closed:
            sessions.slots.release()
            raise self._closed_error()
        return sessions

    async def send(
        self, sessions: Sessions, request: Request, *, ends_at: float, settings: Settings
    ) -> Response | FailedAttempt:
        """Send ``request`` and read the response; time out when the clock reaches ``ends_at``.

        Args:
            sessions: The sessions of the running loop.
            request: The request.
            ends_at: The time of the timeout, on the client's clock.
            settings: The settings of the client's view, which give the team and the additional headers.

        Raises:
            ClientClosedError: The client, or the caller's session, is closed.
            ConfigError: The caller's function returned a session that would replace the API key.
            TypeError: The caller's function did not return a session.
            Exception: The caller's function or middleware raised an exception that is neither aiohttp's nor
                an ``OSError``.
        """
        middleware = _SendMiddleware(request, self._authorization)
        timeout = self._settings.clock.timeout_at(ends_at)
        sessions.timeouts[timeout] = None
        try:
            async with timeout:
                # A request that cannot be repeated must not be lost on an idle connection that the server has
                # just closed.
                session = await sessions.get(fresh=not is_idempotent(request.method))
                middleware.session = session
                async with session.request(
                    request.method,
                    URL(self._settings.base_url + request.target, encoded=True),
                    # This argument replaces the session's middlewares, so include them. aiohttp has no public
                    # name for them.
                    middlewares=(*getattr(session, "_middlewares", ()), middleware),
                    **self._options(request, settings),
                ) as response:
                    self.server_clock.note(response.headers.get("Date"))
                    return Response(
                        status=response.status,
                        headers={name.lower(): value for name, value in response.headers.items()},
                        body=await _read_body(response),
                        sent_count=middleware.sent_count,
                    )
        except Exception as exc:
            expired = isinstance(exc, TimeoutError) and timeout.expired()
            failed = translate(exc, self._settings.api_key, expired=expired, sent_count=middleware.sent_count)
            is_closed = self.closed or (middleware.session is not None and middleware.session.closed)
            if failed is None and not is_closed:
                raise
        finally:
            del sessions.timeouts[timeout]
        # Raise here: inside the `except`, the error would reference the HTTP library's frames.
        if failed is None or is_closed:
            raise self._closed_error()
        return failed

    async def pause(self, seconds: float) -> None:
        """Sleep for ``seconds``.

        Raises:
            ClientClosedError: The client cannot be used (see :meth:`check`), or was closed during the sleep,
                which then ends at once.
        """
        if await self._settings.clock.wait(self.check().closing, seconds):
            raise self._closed_error()

    async def aclose(self) -> None:
        """Close the sessions, but not the caller's own.

        Calls in progress in the running event loop raise :class:`ClientClosedError`. After a fork, do nothing
        but refuse further calls.
        """
        self.closed = True
        if self._pid != os.getpid():
            # After a fork, the connections belong to the parent, which may still use them.
            return
        sessions = self._sessions
        if sessions is None:
            return
        if sessions.loop is asyncio.get_running_loop():
            # asyncio is not thread-safe, so calls in another loop are not woken: they notice `closed` later.
            sessions.closing.set()
            # Closing the sessions does not end calls that are connecting or use the caller's session.
            for timeout in sessions.timeouts:
                if not timeout.expired():
                    timeout.reschedule(self._settings.clock.time())
        await sessions.aclose()

    def _options(self, request: Request, settings: Settings) -> dict[str, Any]:
        # If the program uses it, the request carries the `traceparent` of the current span.
        otel = sys.modules.get("primepods.otel")
        trace_headers: Mapping[str, str] = {} if otel is None else otel.trace_headers()
        headers = {**self._headers, **trace_headers}
        if settings.team_id is not None:
            headers["X-Prime-Team-ID"] = settings.team_id
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        options: dict[str, Any] = {
            "headers": headers,
            # Send a stream: a large body in one piece would block the loop, and aiohttp warns about it.
            "data": None if request.body is None else io.BytesIO(request.body),
            "allow_redirects": False,
            "raise_for_status": False,
            "auto_decompress": True,
            "timeout": _TIMEOUT,
        }
        if self.given_session is None and self._settings.proxy is not None:
            options |= _proxy_options(self._settings.proxy)
        return options

    @property
    def _is_closed(self) -> bool:
        return self.closed or (self.given_session is not None and self.given_session.closed)

    def check(self) -> Sessions:
        """Return the sessions of the running loop, which are created at the first use.

        Raises:
            ClientClosedError: The client or its session is closed, or is used in another event loop.
        """
        if self._is_closed:
            raise self._closed_error()
        loop, sessions = asyncio.get_running_loop(), self._sessions
        if sessions is not None and sessions.loop is loop:
            return sessions
        if self._pid != os.getpid():
            # After a fork, the sockets belong to the parent. Keep a reference to the sessions: aiohttp warns
            # when an open session is garbage-collected.
            self._pid = os.getpid()
            self._parent_sessions = sessions
        elif sessions is not None and not sessions.loop.is_closed():
            raise ClientClosedError(
                "This client is in use by another event loop. Make one client per loop, or close this one "
                "and make a new one."
            )
        if getattr(self.given_session, "_loop", loop) is not loop:
            raise ClientClosedError(
                "The aiohttp session that this client was given belongs to another event loop. Pass one that "
                "was made in this loop."
            )
        self._sessions = Sessions(self.given_session, self._settings.max_concurrency)
        return self._sessions

    def _closed_error(self) -> ClientClosedError:
        what = "This client" if self.closed else "The aiohttp session that this client was given"
        return ClientClosedError(f"{what} is closed. Make a new client, or close it later.")


class _SendMiddleware:
    """The innermost aiohttp middleware: it runs after those of the caller's session, just before sending.

    It stops aiohttp from repeating a request, so that attempts are counted correctly. If a reused connection
    ends before the response, an idempotent request without a body is sent once more, at once: the server has
    probably closed the idle connection.

    Attributes:
        session: The session that sends the request.
        sent_count: Number of times that the server may have received the request.
    """

    def __init__(self, request: Request, authorization: Secret) -> None:
        self.session: aiohttp.ClientSession | None = None
        self.sent_count = 0
        self._request = request
        self._authorization = authorization

    async def __call__(
        self,
        http_request: aiohttp.ClientRequest,
        handler: _Handler,
    ) -> aiohttp.ClientResponse:
        # Add the key only here, so that no `auth` or .netrc can replace it.
        http_request.headers["Authorization"] = self._authorization
        will_reuse = self.session is not None and close_broken_connections(self.session, http_request)
        is_repeatable = self._request.body is None and is_idempotent(self._request.method)
        if will_reuse and is_repeatable:
            try:
                return await self._send(http_request, handler)
            except LostConnectionError as exc:
                if exc.is_partial:
                    raise
            # The connection was closed: send the request once more.
        return await self._send(http_request, handler)

    async def _send(self, http_request: aiohttp.ClientRequest, handler: _Handler) -> aiohttp.ClientResponse:
        try:
            return await handler(http_request)
        except aiohttp.ClientConnectorError:  # A subclass of ClientOSError: there was no connection to lose.
            raise
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
            raise LostConnectionError(str(exc)) from exc
        finally:
            # aiohttp creates the response when it writes the request. Before that, during DNS lookup and
            # connecting, the server has received nothing.
            if getattr(http_request, "response", True) is not None:
                self.sent_count += 1


def _proxy_options(proxy: Secret) -> dict[str, Any]:
    """Return the options for a proxy; its password is in a header with a hidden repr, not in a URL."""
    parts = urlsplit(str(proxy))
    user, at, place = parts.netloc.rpartition("@")
    options: dict[str, Any] = {"proxy": f"{parts.scheme}://{place}"}
    if at:
        token = base64.b64encode(unquote(user).encode()).decode()
        options["proxy_headers"] = {"Proxy-Authorization": Secret(f"Basic {token}")}
    return options


def _headers(settings: Settings) -> Mapping[str, str]:
    product = f"primepods/{__version__} aiohttp/{aiohttp.__version__} Python/{platform.python_version()}"
    return {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": f"{settings.user_agent} {product}" if settings.user_agent else product,
    }


async def _read_body(response: aiohttp.ClientResponse) -> bytes:
    """Return the body, which aiohttp decompresses in pieces.

    Raises:
        BodyTooLargeError: The body has more than ``_MAX_BODY`` bytes.
    """
    pieces: list[bytes] = []
    size = 0
    try:
        while max(size, response.content_length or 0) <= _MAX_BODY:
            piece = await response.content.readany()
            if not piece:
                return b"".join(pieces)
            size += len(piece)
            pieces.append(piece)
    except RuntimeError as exc:
        # aiohttp's, if garbage behind the first chunk has closed the connection before the body was read.
        raise aiohttp.ClientPayloadError(str(exc)) from exc
    raise BodyTooLargeError(f"more than {_MAX_BODY:,} bytes")
