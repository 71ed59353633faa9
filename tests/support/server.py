"""A small server that misbehaves on request: raw sockets, because aiohttp's server is too well brought up."""

import asyncio
import json as _json
import socket
import ssl
import struct
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Protocol, Self
from urllib.parse import parse_qsl

import attrs
from anyio.from_thread import start_blocking_portal

_LONGEST_LINE: Final = 1 << 20


class Sleeper(Protocol):
    """A clock, as far as a server needs one."""

    def sleep(self, seconds: float) -> Awaitable[None]:
        """Return after ``seconds``."""
        ...


@attrs.frozen(kw_only=True)
class Received:
    """One request, as it came over the wire."""

    number: int
    """From 0, over all connections."""
    connection: int
    """From 0, in the order in which connections were accepted."""
    method: str
    target: str
    headers: dict[str, str]
    """Names in lower case; of a repeated one the last."""
    raw_head: bytes
    body: bytes

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    @property
    def query(self) -> list[tuple[str, str]]:
        """All pairs in their order."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    def values(self, name: str) -> list[str]:
        """All values of a query key."""
        return [value for key, value in self.query if key == name]


class Answer:
    """What a server does about a request."""

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Do it; returns whether the connection goes on."""
        raise NotImplementedError


@attrs.frozen
class Reply(Answer):
    """A status, headers and a body, well-formed or not."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = attrs.field(factory=dict, kw_only=True)
    length: int | None = attrs.field(default=None, kw_only=True)
    """A Content-Length that is not the body's; -1 for none at all."""
    chunked: bool = attrs.field(default=False, kw_only=True)
    cut: int | None = attrs.field(default=None, kw_only=True)
    """Close after this many bytes of the body."""
    close: bool = attrs.field(default=False, kw_only=True)
    """Close behind the answer without having said so: what an idle keep-alive connection meets."""
    stall: bool = attrs.field(default=False, kw_only=True)
    """After what is sent of the body, send no more, and close only when the client does."""
    drip: float = attrs.field(default=0.0, kw_only=True)
    """Seconds between two bytes of the body, on ``clock``."""
    clock: Sleeper | None = attrs.field(default=None, kw_only=True)

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Write it."""
        headers = {"Content-Type": "application/json", **self.headers}
        if self.chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif self.length != -1:
            headers["Content-Length"] = str(len(self.body) if self.length is None else self.length)
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}", *(f"{k}: {v}" for k, v in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        body = self.body if self.cut is None else self.body[: self.cut]
        if self.drip and self.clock is not None:
            for n in range(len(body)):
                await writer.drain()
                await self.clock.sleep(self.drip)
                writer.write(body[n : n + 1])
        elif self.chunked:
            if body:
                writer.write(b"%x\r\n%b\r\n" % (len(body), body))
            if self.cut is None:
                writer.write(b"0\r\n\r\n")
        else:
            writer.write(body)
        await writer.drain()
        if self.stall:
            await reader.read()
        return not (self.close or self.cut is not None or self.length is not None)


def reply(value: Any, status: int = 200, **more: Any) -> Reply:
    """An answer of JSON."""
    return Reply(status, _json.dumps(value).encode(), **more)


@attrs.frozen
class Raw(Answer):
    """Bytes, whatever they are; the connection closes behind them."""

    data: bytes
    close: bool = True

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Write them."""
        writer.write(self.data)
        await writer.drain()
        return not self.close


@attrs.frozen
class Reset(Answer):
    """No answer: the connection is reset after the request was read."""

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Reset it."""
        _reset(writer)
        return False


@attrs.frozen
class Close(Answer):
    """No answer: the connection is closed in good order after the request was read."""

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Close it."""
        return False


@attrs.frozen
class Hang(Answer):
    """No answer, ever: until the client goes away."""

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Wait for the client to give up."""
        await reader.read()
        return False


@attrs.frozen
class Held(Answer):
    """An answer that waits for its event."""

    event: asyncio.Event
    answer: Answer

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Wait, then answer."""
        await self.event.wait()
        return await self.answer.send(writer, reader)


Script = Callable[[Received], Answer]


class Server:
    """Answers requests on loopback as scripted, and remembers them.

    Args:
        script: answers in their order, or a function that finds one for each request.
        default: the answer where the script has none left.
        tls: serve HTTPS.
        port: 0 for any free one.
    """

    def __init__(
        self,
        script: Iterable[Answer] | Script = (),
        *,
        default: Answer | None = None,
        tls: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.open = 0
        """Connections that are open now."""
        self.in_flight = 0
        self.most_in_flight = 0
        self.reset_connections = 0
        """How many of the next connections are reset before anything is read from them."""
        self._script = script if callable(script) else None
        self._answers: deque[Answer] = deque() if callable(script) else deque(script)
        self._default = default if default is not None else reply({"detail": "the script is over"}, 418)
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._port = port

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def targets(self) -> list[str]:
        """Method and target of all requests."""
        return [f"{request.method} {request.target}" for request in self.requests]

    def script(self, *answers: Answer) -> None:
        """Add answers to the script."""
        self._answers.extend(answers)

    @contextmanager
    def in_thread(self) -> Iterator[Self]:
        """Serve from a thread of its own in the block, for blocking clients and other processes."""
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(self):
            yield self

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, limit=_LONGEST_LINE, ssl=self._tls, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop listening and cut every connection: from now on they are refused."""
        if self._server is None:
            return
        await asyncio.sleep(0)
        self._server.close()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))
        await self._server.wait_closed()
        self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        connection, self.connections, self.open = self.connections, self.connections + 1, self.open + 1
        try:
            if self.reset_connections:
                self.reset_connections -= 1
                _reset(writer)
                return
            while await self._exchange(connection, reader, writer):
                pass
            writer.close()
            await writer.wait_closed()
        except (OSError, EOFError, asyncio.CancelledError):
            # The client went away, or the server is being stopped: a cancelled handler ends quietly.
            pass
        finally:
            self.open -= 1
            writer.transport.abort()

    async def _exchange(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, _ = lines[0].split(" ")
        pairs = (line.partition(":") for line in lines[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        request = Received(
            number=len(self.requests),
            connection=connection,
            method=method,
            target=target,
            headers=headers,
            raw_head=head,
            body=body,
        )
        self.requests.append(request)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            # A turn of the loop, so that requests which come in together are in flight together.
            await asyncio.sleep(0)
            return await self._answer(request).send(writer, reader)
        finally:
            self.in_flight -= 1

    def _answer(self, request: Received) -> Answer:
        if self._script is not None:
            return self._script(request)
        return self._answers.popleft() if self._answers else self._default


@asynccontextmanager
async def blurting(data: bytes = b"") -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that hears a few bytes, whatever they are, says ``data`` and hangs up.

    Gives its ``host:port``, and what it hears from each connection.
    """
    heard: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(100))
        writer.write(data)
        with suppress(OSError):
            await writer.drain()
        writer.transport.abort() if not data else writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heard


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    # With a linger of zero seconds the kernel sends a reset in place of an orderly end.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Whatever"


def refused_url() -> str:
    """An address on loopback where nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{sock.getsockname()[1]}"
