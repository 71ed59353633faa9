"""What a server can make us hold: never more than the documented limit, whatever it sends."""

import asyncio
import gc
import gzip
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import attrs
import pytest

import primepods
from primepods import RetryPolicy
from tests.support.client import make_client, serve
from tests.support.server import Answer, Reply, Server

MIB = 1024 * 1024
LIMIT = 64 * MIB
"""As documented: not the code's own word for it."""
HUGE = 100_000_000
SLACK = 6 * MIB
"""What reading takes besides the body: buffers of sockets, of the server, of the test."""


@attrs.define
class Peak:
    """The most memory that was in use in a block, in bytes above what was there before."""

    bytes: int = 0


@contextmanager
def measured() -> Iterator[Peak]:
    """Measure a block."""
    gc.collect()
    peak = Peak()
    tracemalloc.start()
    try:
        yield peak
        peak.bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@attrs.frozen
class SmallChunks(Answer):
    """A packed body in HTTP chunks that are each small, and large when unpacked."""

    packed: bytes

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Write all of them at once."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
        for at in range(0, len(self.packed), 20_000):
            part = self.packed[at : at + 20_000]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


@attrs.frozen
class Endless(Answer):
    """A body that does not end: in chunks, or one that would end with the connection."""

    chunked: bool

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Write on and on."""
        writer.write(b"HTTP/1.1 200 OK\r\n%b\r\n" % (b"Transfer-Encoding: chunked\r\n" * self.chunked))
        while True:
            writer.write(b"%x\r\n%b\r\n" % (MIB, b" " * MIB) if self.chunked else b" " * MIB)
            await writer.drain()


@cache
def packed(encoding: str, size: int) -> bytes:
    """Blanks, packed as small as they get."""
    bits = {"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding]
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    blanks = b" " * 1_000_000
    return b"".join([*(packer.compress(blanks) for _ in range(size // len(blanks))), packer.flush()])


def bombs() -> Iterator[tuple[str, Answer]]:
    """A hundred megabytes and more, in every way of sending them."""
    yield "chunked", Endless(chunked=True)
    yield "without length", Endless(chunked=False)
    for encoding in ("gzip", "deflate", "raw deflate"):
        header = {"Content-Encoding": encoding.rpartition(" ")[2]}
        for chunked in (True, False):
            name = f"{encoding}{', chunked' * chunked}"
            yield name, Reply(200, packed(encoding, HUGE), headers=header, chunked=chunked)
    yield "gzip in small chunks", SmallChunks(packed("gzip", 5 * HUGE))
    twice = gzip.compress(packed("gzip", HUGE))
    yield "gzip in gzip", Reply(200, twice, headers={"Content-Encoding": "gzip"})
    members = gzip.compress(b" " * 100_000) * (HUGE // 100_000)
    yield "many members", Reply(200, members, headers={"Content-Encoding": "gzip"})
    empty = gzip.compress(b"") * 50_000
    yield "empty members", Reply(200, empty, headers={"Content-Encoding": "gzip"})


@pytest.mark.slow
async def test_a_hundred_megabytes_are_refused_at_the_limit() -> None:
    """64 MiB are the most that is ever held of an answer, plain or packed; it is not asked for again."""
    for name, answer in bombs():
        async with serve(default=answer, retry=RetryPolicy(attempts=1), timeout=50) as (server, client):
            with measured() as peak, pytest.raises(primepods.ProtocolError) as caught:
                await client.pods.page()
        assert len(server.requests) == 1
        assert peak.bytes < LIMIT + SLACK, f"{name}: {peak.bytes / MIB:.0f} MiB"
        assert len(str(caught.value)) < 1_000
        gc.collect()


async def test_what_is_announced_as_too_large_is_not_begun() -> None:
    """The Content-Length alone is enough: nothing is read of 100 MB."""
    answer = Reply(200, b" " * MIB, length=HUGE)
    async with Server(default=answer) as server, make_client(server.url) as client:
        with measured() as peak, pytest.raises(primepods.ProtocolError, match="more than 67,108,864 bytes"):
            await client.pods.page()
    assert len(server.requests) == 1
    assert peak.bytes < SLACK
