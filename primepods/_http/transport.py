"""One attempt on the wire: the only module that sends requests through aiohttp."""

from __future__ import annotations

import asyncio
import base64
import io
import os
import platform
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

import aiohttp
from yarl import URL

from .._utils.secret import Secret
from .._utils.text import quote
from .._version import __version__
from ..config import Settings
from ..errors import ClientClosedError, ConfigError
from .backoff import RetryBudget
from .failure import CONNECT_TIMEOUT, MAX_BODY, BodyTooLargeError, FailedAttempt, translate
from .request import Request
from .response import Response


class Transport:
    """An aiohttp session, opened at first use, and the bound on requests in flight.

    Args:
        settings: The client's settings.
        session: The caller's own session, used and never closed, or a function that makes one in the running
            loop, which is closed with the client.
    """

    def __init__(
        self, settings: Settings, session: aiohttp.ClientSession | Callable[[], aiohttp.ClientSession] | None
    ) -> None:
        if isinstance(session, aiohttp.ClientSession):
            _check_session(session)
        elif session is not None and not callable(session):
            expected = "an aiohttp.ClientSession or a function that makes one"
            raise TypeError(f"session must be {expected}, got {quote(session)}")
        self.closed: bool = False
        self.given = session
        self.budget: RetryBudget = RetryBudget(settings.clock)
        self._settings = settings
        self._make = session if callable(session) else _make_session
        self._borrowed = session if isinstance(session, aiohttp.ClientSession) else None
        self._http = self._borrowed
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._inherited: object = None
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._closing = asyncio.Event()
        self._closer: AsyncGenerator[None, None] | None = None
        self._headers = _headers(settings)
        self._authorization = Secret(f"Bearer {settings.api_key}")

    @property
    def slots(self) -> asyncio.Semaphore:
        """The bound on requests in flight, in the running loop.

        Raises:
            ClientClosedError: The client is closed, or in use by another loop.
        """
        self.check()
        return self._slots

    async def send(self, request: Request, *, ends_at: float) -> Response | FailedAttempt:
        """Send ``request`` once and read the answer, until the clock says ``ends_at``.

        Raises:
            ClientClosedError: The client, or the caller's session, is closed.
        """
        self.check()
        http = self._http or await self._connect()
        sending = _Sending(request.method, self._authorization, self.budget)
        limit = self._settings.clock.timeout_at(ends_at)
        try:
            async with (
                limit,
                http.request(
                    request.method,
                    URL(self._settings.base_url + request.target, encoded=True),
                    middlewares=(*_own_middlewares(http), sending),
                    **self._options(request),
                ) as answer,
            ):
                return Response(
                    status=answer.status,
                    headers={name.lower(): value for name, value in answer.headers.items()},
                    body=await _read(answer),
                    resent=sending.times > 1,
                )
        except Exception as exc:  # noqa: BLE001 - translated as a whole; what is unknown is raised again
            caught = exc
        if self.closed or http.closed:
            raise self._closed_error()
        expired = isinstance(caught, TimeoutError) and limit.expired()
        failed = translate(caught, self._settings.api_key, expired=expired, maybe_received=sending.times > 0)
        if failed is None:
            raise caught
        return failed

    async def pause(self, seconds: float) -> None:
        """Sleep for ``seconds``.

        Raises:
            ClientClosedError: The client was closed meanwhile: at once.
        """
        self.check()
        if await self._settings.clock.wait(self._closing, seconds):
            raise self._closed_error()

    async def aclose(self) -> None:
        """Close the session if it is ours. Calls in progress end with :class:`ClientClosedError`."""
        self.closed = True
        if self._process != os.getpid():
            # A fork: the connections are the parent's, which would never hear of them again.
            return
        if self._loop is asyncio.get_running_loop():
            # Those who wait in another loop find out when their pause is over.
            self._closing.set()
        closer, self._closer = self._closer, None
        if closer is not None:
            await closer.aclose()

    def _options(self, request: Request) -> dict[str, Any]:
        headers = dict(self._headers)
        if request.body is not None:
            headers["Content-Type"] = "application/json"
        options: dict[str, Any] = {
            "headers": headers,
            # As a stream: a large body in one piece would hold up the loop, and aiohttp warns of it.
            "data": None if request.body is None else io.BytesIO(request.body),
            "allow_redirects": False,
            "raise_for_status": False,
            "auto_decompress": True,
            # The attempt as a whole is timed by the caller's clock; only connecting has a limit of its own.
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        }
        if self.given is None and self._settings.proxy is not None:
            options |= _proxy_options(self._settings.proxy)
        return options

    def check(self) -> None:
        """Raise an error if nothing can be sent from the running loop."""
        if self.closed or (self._borrowed is not None and self._borrowed.closed):
            raise self._closed_error()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._move_to(loop)

    async def _connect(self) -> aiohttp.ClientSession:
        http = self._make()
        _check_session(http)
        self._http = http
        self._closer = _close_in_the_end(http)
        await anext(self._closer)
        return http

    def _move_to(self, loop: asyncio.AbstractEventLoop) -> None:
        """Bind to ``loop``: at first use, or when the loop used before has ended."""
        if self._process != os.getpid():
            # A fork: the sockets are the parent's. Kept, since collecting them would complain of leaks.
            self._process, self._inherited = os.getpid(), (self._http, self._closer)
        elif self._loop is not None and not self._loop.is_closed():
            raise ClientClosedError(
                "This client is in use by another event loop. Make one client a loop, or close this one and "
                "make a new one."
            )
        if getattr(self._borrowed, "_loop", loop) is not loop:
            raise ClientClosedError(
                "The aiohttp session that this client was given belongs to another event loop."
            )
        self._loop = loop
        self._slots = asyncio.Semaphore(self._settings.max_concurrency)
        self._closing = asyncio.Event()
        self._http, self._closer = self._borrowed, None

    def _closed_error(self) -> ClientClosedError:
        what = "This client" if self.closed else "The aiohttp session that this client was given"
        return ClientClosedError(f"{what} is closed. Make a new client, or close it later.")


class _Sending:
    """The innermost middleware: it comes behind all that aiohttp and the caller's session do to a request.

    aiohttp sends an idempotent request a second time, by itself, when a connection ends without an answer.
    That is a retry like any other, and taken from the budget.

    Attributes:
        times: How often the server may have received the request.
    """

    def __init__(self, method: str, authorization: Secret, budget: RetryBudget) -> None:
        self.times = 0
        self._method = method
        self._authorization = authorization
        self._budget = budget

    async def __call__(
        self,
        wire: aiohttp.ClientRequest,
        handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
    ) -> aiohttp.ClientResponse:
        if self.times and not self._budget.take(self._method):
            raise aiohttp.ServerDisconnectedError
        # Only here, where no `auth` and no .netrc comes after it, and no hook has recorded the headers.
        wire.headers["Authorization"] = self._authorization
        try:
            return await handler(wire)
        finally:
            # aiohttp makes the response when it writes the request: before that, while it looks for the host
            # or connects, the server has received nothing.
            if getattr(wire, "response", True) is not None:
                self.times += 1


def _make_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )


def _check_session(session: aiohttp.ClientSession) -> None:
    if not isinstance(session, aiohttp.ClientSession):
        raise TypeError(
            f"The function given as session must return an aiohttp.ClientSession, not {quote(session)}"
        )
    if session.auth is not None:
        raise ConfigError(
            "The session carries its own `auth`, which would replace the API key. Pass a session without it."
        )


async def _close_in_the_end(http: aiohttp.ClientSession) -> AsyncGenerator[None, None]:
    """Close ``http`` when this is closed: by the client, or by `asyncio.run` at the end of the loop."""
    try:
        yield
    finally:
        await http.close()


def _own_middlewares(http: aiohttp.ClientSession) -> tuple[Any, ...]:
    # Middlewares given with a request replace the session's, and the session does not publish its own.
    return tuple(getattr(http, "_middlewares", ()))


def _proxy_options(proxy: Secret) -> dict[str, Any]:
    """Say which proxy; its password in a header that does not show itself, not in a URL that does."""
    parts = urlsplit(str(proxy))
    user, at, place = parts.netloc.rpartition("@")
    options: dict[str, Any] = {"proxy": f"{parts.scheme}://{place}"}
    if at:
        token = base64.b64encode(unquote(user).encode()).decode()
        options["proxy_headers"] = {"Proxy-Authorization": Secret(f"Basic {token}")}
    return options


def _headers(settings: Settings) -> Mapping[str, str]:
    product = f"primepods/{__version__} aiohttp/{aiohttp.__version__} Python/{platform.python_version()}"
    headers: dict[str, str] = {
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": f"{settings.user_agent} {product}" if settings.user_agent else product,
    }
    if settings.team_id is not None:
        headers["X-Prime-Team-ID"] = settings.team_id
    return headers


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read the body, which aiohttp unpacks piece by piece, but never hold more than ``MAX_BODY`` of it."""
    if (answer.content_length or 0) > MAX_BODY:
        raise BodyTooLargeError
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.content.iter_any():
        size += len(piece)
        if size > MAX_BODY:
            raise BodyTooLargeError
        pieces.append(piece)
    return b"".join(pieces)
