"""One attempt on the wire: the only importer of aiohttp's client.

Everything that can go wrong below HTTP comes back as a :class:`Broken`, never as one of aiohttp's exceptions:
their tracebacks hold the request's headers.
"""

from __future__ import annotations

import asyncio
import base64
import io
import os
import platform
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import aiohttp
import attrs
from yarl import URL

from .._utils.secret import Secret
from .._utils.text import one_line, quote
from .._version import __version__
from ..config import Settings
from ..errors import ClientClosedError, ConfigError
from ..retry import Failure, RetryBudget
from .request import Request, other_spelling
from .response import Response
from .unpack import ACCEPTED, Unpacker, UnpackError

CONNECT_TIMEOUT: Final = 10.0
MAX_LEARNT: Final = 1_000
MAX_BODY: Final = 64 * 1024 * 1024
"""Answers above this many bytes are refused: a page of 1,000 pods has about 1.5 MB."""


@attrs.frozen(kw_only=True)
class Broken:
    """An attempt that brought no usable answer.

    Attributes:
        failure: For the retry decision.
        kind: ``"transport"``, ``"connect"``, ``"timeout"`` or ``"protocol"``: the error it becomes.
        cause: The library's exception, without its traceback.
    """

    failure: Failure
    kind: str
    cause: BaseException | None = attrs.field(default=None, repr=False)


@attrs.frozen(kw_only=True)
class Sent:
    """An attempt that brought an answer.

    Attributes:
        response: The answer.
        resent: Whether the server may have received the request before: aiohttp sends it a second time, by
            itself, when a connection ends without an answer.
    """

    response: Response
    resent: bool


# Raised before a request is written: whoever raises them has received nothing.
_NOTHING_SENT: Final = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.ClientHttpProxyError,
)


class _BodyTooLargeError(Exception):
    """The answer has more than ``MAX_BODY`` bytes."""


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
            msg = (
                f"session must be an aiohttp.ClientSession or a function that makes one, got {quote(session)}"
            )
            raise TypeError(msg)
        self.closed: bool = False
        self._settings = settings
        self.given = session
        self.budget: RetryBudget = RetryBudget()
        self._make = session if callable(session) else None
        self._http = session if isinstance(session, aiohttp.ClientSession) else None
        self._own = self._http is None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._inherited: object = None
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._closer: AsyncGenerator[None, None] | None = None
        self._headers = _headers(settings)
        self._authorization = Secret(f"Bearer {settings.api_key}")
        self._slashes: dict[str, bool] = {}

    @property
    def slots(self) -> asyncio.Semaphore:
        """The bound on requests in flight, in the running loop.

        Raises:
            ClientClosedError: The client is closed, or in use by another loop.
        """
        self.check()
        return self._slots

    def respell(self, request: Request) -> Request:
        """Return ``request`` in the spelling that the server was found to want."""
        if self._slashes.get(request.route, request.path.endswith("/")) == request.path.endswith("/"):
            return request
        return attrs.evolve(request, path=other_spelling(request.path))

    def learn(self, request: Request) -> None:
        """Remember for the client's life that the server wants the spelling of ``request``."""
        if request.route in self._slashes or len(self._slashes) < MAX_LEARNT:
            self._slashes[request.route] = request.path.endswith("/")

    async def send(self, request: Request, *, ends_at: float) -> Sent | Broken:
        """Send ``request`` once and read the answer, until the clock says ``ends_at``.

        Raises:
            ClientClosedError: The client, or the caller's session, is closed.
        """
        self.check()
        http = self._http or await self._connect()
        received = 0

        async def last(
            wire: aiohttp.ClientRequest,
            handler: Callable[[aiohttp.ClientRequest], Awaitable[aiohttp.ClientResponse]],
        ) -> aiohttp.ClientResponse:
            """Look at what goes over the wire, behind all that aiohttp and the caller's session do to it."""
            nonlocal received
            if received and not self.budget.take():
                # aiohttp is about to send a second time, by itself: a retry like any other.
                raise aiohttp.ServerDisconnectedError
            # Only here, where no `auth` and no .netrc comes after it, and no hook has recorded the headers.
            wire.headers["Authorization"] = self._authorization
            received += 1
            try:
                return await handler(wire)
            except _NOTHING_SENT:
                received -= 1
                raise

        limit = self._settings.clock.timeout_at(ends_at)
        try:
            async with (
                limit,
                http.request(
                    request.method,
                    URL(self._settings.base_url + request.target, encoded=True),
                    middlewares=(*_own_middlewares(http), last),
                    **self._options(request),
                ) as answer,
            ):
                response = Response(
                    status=answer.status,
                    headers={name.lower(): value for name, value in answer.headers.items()},
                    body=await _read(answer),
                )
                return Sent(response=response, resent=received > 1)
        except Exception as exc:  # noqa: BLE001 - translated as a whole; what is unknown is raised again
            caught = exc
        if self.closed or http.closed:
            raise self._closed_error()
        expired = isinstance(caught, TimeoutError) and limit.expired()
        broken = _translate(caught, self._settings.api_key, expired=expired, received=received > 0)
        if broken is None:
            raise caught
        return broken

    async def aclose(self) -> None:
        """Close the session if it is ours. Requests in flight end with :class:`ClientClosedError`."""
        self.closed = True
        if self._process != os.getpid():
            # A fork: the connections are the parent's, which would never hear of them again.
            return
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
            "auto_decompress": False,
            # The attempt as a whole is timed by the caller's clock; only connecting has a limit of its own.
            "timeout": aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
        }
        if self.given is None and self._settings.proxy is not None:
            options |= _proxy_options(self._settings.proxy)
        return options

    def check(self) -> None:
        """Raise an error if nothing can be sent from the running loop."""
        if self.closed or (not self._own and self._http is not None and self._http.closed):
            raise self._closed_error()
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._move_to(loop)

    async def _connect(self) -> aiohttp.ClientSession:
        http = _make_session() if self._make is None else self._make()
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
            msg = (
                "This client is in use by another event loop. Make one client a loop, or close this one and "
                "make a new one."
            )
            raise ClientClosedError(msg)
        session_loop = getattr(self._http, "_loop", loop)
        if not self._own and session_loop is not loop:
            msg = "The aiohttp session that this client was given belongs to another event loop."
            raise ClientClosedError(msg)
        self._loop = loop
        self._slots = asyncio.Semaphore(self._settings.max_concurrency)
        if self._own:
            self._http = self._closer = None

    def _closed_error(self) -> ClientClosedError:
        what = "This client" if self.closed else "The aiohttp session that this client was given"
        return ClientClosedError(f"{what} is closed. Make a new client, or close it later.")


def _make_session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
    )


def _check_session(session: aiohttp.ClientSession) -> None:
    if not isinstance(session, aiohttp.ClientSession):
        msg = f"The function given as session must return an aiohttp.ClientSession, not {quote(session)}"
        raise TypeError(msg)
    if session.auth is not None:
        msg = (
            "The session carries its own `auth`, which would replace the API key. Pass a session without it."
        )
        raise ConfigError(msg)


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
        "Accept-Encoding": ACCEPTED,
        "User-Agent": f"{settings.user_agent} {product}" if settings.user_agent else product,
    }
    if settings.team_id is not None:
        headers["X-Prime-Team-ID"] = settings.team_id
    return headers


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    """Read the body, unpacked, but never hold more than ``MAX_BODY`` bytes (and one read's worth) of it."""
    if (answer.content_length or 0) > MAX_BODY:
        raise _BodyTooLargeError
    unpacker = Unpacker(answer.headers.get("Content-Encoding", ""))
    pieces: list[bytes] = []
    received = size = 0
    async for chunk in answer.content.iter_any():
        received += len(chunk)
        if received > MAX_BODY:
            raise _BodyTooLargeError
        for piece in unpacker.feed(chunk):
            size += len(piece)
            if size > MAX_BODY:
                raise _BodyTooLargeError
            pieces.append(piece)
    unpacker.end()
    return b"".join(pieces)


def _translate(  # noqa: PLR0911 - one case an exception: a table
    exc: Exception, key: Secret, *, expired: bool, received: bool
) -> Broken | None:
    """Say what an exception of aiohttp means; ``None`` for one that is a defect and no failure of the wire.

    Args:
        exc: The exception.
        key: Redacted where the server repeats it.
        expired: Whether it is the attempt's own time that ran out.
        received: Whether the request may have reached the server.
    """
    cause = exc.with_traceback(None)
    # The chain leads to frames whose locals hold the request as it went over the wire.
    cause.__context__ = cause.__cause__ = None
    text = key.scrub(one_line(f"{type(exc).__name__}: {exc}"))
    told = None if key in f"{exc} {exc!r}" else cause

    def broken(kind: str, reason: str, *, transient: bool = True) -> Broken:
        failure = Failure(reason=reason, transient=transient, maybe_received=received)
        return Broken(failure=failure, kind=kind, cause=told)

    match exc:
        case _BodyTooLargeError():
            return broken("protocol", f"more than {MAX_BODY:,} bytes", transient=False)
        case aiohttp.ConnectionTimeoutError():
            return broken("connect", f"no connection within {CONNECT_TIMEOUT:g} s")
        case TimeoutError() if expired:
            return broken("timeout", "no answer in time")
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return broken("transport", text, transient=False)
        case aiohttp.ClientPayloadError() | UnpackError():
            return broken("protocol", f"cut short or garbled ({text})")
        case aiohttp.ClientHttpProxyError():
            return broken("transport", f"the proxy refused: {exc.status} {one_line(exc.message)}")
        case aiohttp.ClientResponseError():
            return broken("protocol", f"not HTTP ({text})")
        case aiohttp.ClientError() | OSError():
            return broken("transport", text)
        case _:
            return None
