"""A minimal server in its own process, so that benchmarks measure the client.

It serves three operations of the API from encoded bytes, and ignores all parts of a request in which clients
differ. It has two ports: one responds at once, the other after 50 ms. With a file that has a key and its
certificate, it serves over TLS, and compresses its responses with gzip for clients that accept it.

    python -m benchmarks.server PODS [FILE]
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

from .fleet import Fleet

KEY = "benchmark_key"
DELAYS = (0.0, 0.05)
"""Response delays in seconds, one port each."""
ROOT = Path(__file__).parent.parent
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
_GZIP_LEVEL = 6


class ServerState:
    """State of the server.

    Args:
        fleet: All pods; the list returns a part of them.
    """

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._start, self._count = 0, len(fleet.listed)
        self.timings: list[tuple[float, float]] = []
        """Times of each request and of its response, on the clock shared by all processes."""

    def respond(self, target: bytes) -> bytes:
        """Return the response body of a request."""
        path, _, query = target.partition(b"?")
        if path.endswith(b"/status"):
            statuses = self._fleet.statuses
            rows = [statuses[pair.removeprefix(b"pod_ids=")] for pair in query.split(b"&")]
            return b'{"data":[%b],"status":null}' % b",".join(rows)
        if path.startswith(b"/bench/"):
            return self._control(path.split(b"/")[2:])
        if query:
            return self._page(dict(pair.split(b"=") for pair in query.split(b"&")))
        return self._fleet.pods[path.rpartition(b"/")[2]]

    def _page(self, query: dict[bytes, bytes]) -> bytes:
        offset, limit = int(query[b"offset"]), int(query[b"limit"])
        first, last = self._start + offset, min(self._start + offset + limit, self._start + self._count)
        rows = b",".join(self._fleet.listed[first:last])
        head = b'{"total_count":%d,"offset":%d,"limit":%d,"data":[' % (self._count, offset, limit)
        return head + rows + b'],"status":null}'

    def _control(self, words: list[bytes]) -> bytes:
        if words[0] == b"list":
            self._start, self._count = int(words[1]), int(words[2])
            return b"null"
        timings, self.timings = self.timings, []
        return json.dumps(timings).encode()


class Connection(asyncio.Protocol):
    """Minimal HTTP/1.1 connection for well-behaved clients."""

    def __init__(self, state: ServerState, delay: float, *, compresses: bool) -> None:
        self._state = state
        self._delay = delay
        self._compresses = compresses
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Respond to each complete request."""
        arrived_at = time.monotonic()
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, self._received = self._received.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1]
            body = self._state.respond(target)
            encoding = b""
            if self._compresses and b"gzip" in head:
                body, encoding = gzip.compress(body, _GZIP_LEVEL), b"Content-Encoding: gzip\r\n"
            body = _HEAD % (encoding, len(body)) + body
            if target.startswith(b"/bench/"):
                self._send(body)
            elif self._delay:
                asyncio.get_running_loop().call_later(self._delay, self._send, body, arrived_at)
            else:
                self._send(body, arrived_at)

    def _send(self, response: bytes, arrived_at: float | None = None) -> None:
        """Send a response; record its times unless ``arrived_at`` is ``None``."""
        self._transport.write(response)
        if arrived_at is not None:
            self._state.timings.append((arrived_at, time.monotonic()))


async def _serve(pods: int, certificate: str | None = None) -> None:
    """Listen, print the port, and stop at the end of the standard input."""
    state, loop = ServerState(Fleet(pods)), asyncio.get_running_loop()
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    servers = [
        await loop.create_server(
            partial(Connection, state, delay, compresses=context is not None), "127.0.0.1", 0, ssl=context
        )
        for delay in DELAYS
    ]
    print(json.dumps([server.sockets[0].getsockname()[1] for server in servers]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    for server in servers:
        server.close()


class Server:
    """Handle of the running server process.

    Args:
        urls: Its URLs by delay in seconds.
    """

    def __init__(self, urls: dict[float, str]) -> None:
        self.urls = urls

    def set_list(self, start: int, count: int) -> None:
        """Set the list to ``count`` pods, from number ``start``."""
        self._control(f"list/{start}/{count}")

    def timings(self) -> list[tuple[float, float]]:
        """Return the times of each request and its response since the last call."""
        found: list[tuple[float, float]] = self._control("timings")
        return found

    def _control(self, what: str) -> Any:
        with urlopen(f"{self.urls[0.0]}/bench/{what}") as response:
            return json.load(response)


@contextmanager
def running(pods: int, certificate: Path | None = None) -> Iterator[Server]:
    """Run a server with ``pods`` pods; with a certificate's file, over TLS and with gzip."""
    command = [sys.executable, "-m", "benchmarks.server", str(pods)]
    command += [] if certificate is None else [str(certificate)]
    scheme = "http" if certificate is None else "https"
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment()
    ) as process:
        stdin, stdout = process.stdin, process.stdout
        assert stdin is not None
        assert stdout is not None
        ports = json.loads(stdout.readline())
        try:
            yield Server(
                {delay: f"{scheme}://127.0.0.1:{port}" for delay, port in zip(DELAYS, ports, strict=True)}
            )
        finally:
            stdin.close()


def make_certificate(folder: Path) -> Path:
    """Make a key and a certificate of 127.0.0.1, in one file."""
    file, key = folder / "certificate.pem", folder / "key.pem"
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=benchmark"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(file)]
    subprocess.run(["openssl", *words.split(), *files], check=True, capture_output=True)
    file.write_bytes(key.read_bytes() + file.read_bytes())
    return file


def environment() -> dict[str, str]:
    """Return an environment in which a child process can import the benchmarks and the package."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), *sys.argv[2:]))
