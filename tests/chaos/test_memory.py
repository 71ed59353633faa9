"""What a server can make us hold: never more than the documented limit, whatever it sends."""

from __future__ import annotations

import asyncio
import gc
import gzip
import sys
import tracemalloc
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

import primepods
from primepods import InstallationState, PodState, RetryPolicy
from primepods._decoding.rows import decode_pods, decode_statuses
from primepods._http.unpack import Unpacker, UnpackError
from tests.support.client import make_client
from tests.support.server import Answer, Endless, Reply, Server

MIB = 1024 * 1024
LIMIT = 64 * MIB
"""As documented: not the code's own word for it."""
HUGE = 200_000_000
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


class Unmeasured(Answer):
    """A body that ends with the connection, which does not end."""

    async def send(self, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> bool:
        """Write on and on."""
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b" " * MIB)
            await writer.drain()


@cache
def packed(encoding: str, size: int) -> bytes:
    """Blanks, packed as small as they get."""
    bits = {"gzip": 31, "deflate": 15, "raw deflate": -15}[encoding]
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    blanks = b" " * 1_000_000
    return b"".join([*(packer.compress(blanks) for _ in range(size // len(blanks))), packer.flush()])


def bombs() -> Iterator[tuple[str, Answer]]:
    """Two hundred megabytes and more, in every way of sending them."""
    yield "chunked", Endless(b" " * MIB)
    yield "without length", Unmeasured()
    for encoding in ("gzip", "deflate", "raw deflate"):
        header = {"Content-Encoding": encoding.rpartition(" ")[2]}
        for chunked in (True, False):
            name = f"{encoding}{', chunked' * chunked}"
            yield name, Reply(200, packed(encoding, HUGE), headers=header, chunked=chunked)
    twice = gzip.compress(packed("gzip", HUGE))
    yield "gzip in gzip", Reply(200, twice, headers={"Content-Encoding": "gzip"})
    members = gzip.compress(b" " * 100_000) * 2_000
    yield "many members", Reply(200, members, headers={"Content-Encoding": "gzip"})
    empty = gzip.compress(b"") * 50_000
    yield "empty members", Reply(200, empty, headers={"Content-Encoding": "gzip"})


@pytest.mark.anyio
@pytest.mark.slow
async def test_two_hundred_megabytes_are_refused_at_the_limit() -> None:
    """64 MiB are the most that is ever held of an answer, plain or packed; it is not asked for again."""
    for name, answer in bombs():
        async with (
            Server(default=answer) as server,
            make_client(server.url, retry=RetryPolicy(attempts=1), timeout=50) as client,
        ):
            with measured() as peak, pytest.raises(primepods.ProtocolError) as caught:
                await client.pods.page()
        assert len(server.requests) == 1
        assert peak.bytes < LIMIT + SLACK, f"{name}: {peak.bytes / MIB:.0f} MiB"
        assert len(str(caught.value)) < 1_000
        gc.collect()


@pytest.mark.anyio
async def test_what_is_announced_as_too_large_is_not_begun() -> None:
    """The Content-Length alone is enough: nothing is read of 200 MB."""
    answer = Reply(200, b" " * MIB, length=HUGE)
    async with Server(default=answer) as server, make_client(server.url) as client:
        with measured() as peak, pytest.raises(primepods.ProtocolError, match="more than 67,108,864 bytes"):
            await client.pods.page()
    assert len(server.requests) == 1
    assert peak.bytes < SLACK


@pytest.mark.anyio
@pytest.mark.parametrize(
    "encoding", ["br", "zstd", "compress", "gzip, gzip", "gzip, br", "\x1b[31m", "x" * 999]
)
async def test_what_was_not_asked_for_is_not_unpacked(encoding: str) -> None:
    """Also not where the HTTP library could."""
    header = {"Content-Encoding": encoding}
    async with (
        Server(default=Reply(200, b"{}", headers=header)) as server,
        make_client(server.url, retry=RetryPolicy(attempts=1)) as client,
    ):
        with pytest.raises(primepods.ProtocolError, match="cut short or garbled") as caught:
            await client.pods.page()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def pack(data: bytes, encoding: str) -> bytes:
    """Pack, in one of the ways that servers use."""
    bits = {"gzip": 31, "x-gzip": 31, "deflate": 15, "raw deflate": -15}[encoding]
    packer = zlib.compressobj(6, zlib.DEFLATED, bits)
    return packer.compress(data) + packer.flush()


def unpack(pieces: list[bytes], encoding: str) -> bytes:
    """Unpack what comes in pieces."""
    unpacker = Unpacker(encoding.rpartition(" ")[2])
    unpacked = b"".join(part for piece in pieces for part in unpacker.feed(piece))
    unpacker.end()
    return unpacked


ENCODINGS = st.sampled_from(["gzip", "x-gzip", "deflate", "raw deflate"])


@given(st.binary(max_size=3_000), ENCODINGS, st.lists(st.integers(0, 3_000), max_size=6))
def test_every_body_is_unpacked_however_it_is_cut(data: bytes, encoding: str, cuts: list[int]) -> None:
    """The network cuts where it likes; a cut never changes what comes out."""
    body = pack(data, encoding)
    places = [0, *sorted(cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(places)]
    assert unpack(pieces, encoding) == data
    assert unpack([data], "") == unpack([data], "identity") == data


@given(st.binary(min_size=1, max_size=500), ENCODINGS, st.data())
def test_a_body_that_ends_early_is_no_body(data: bytes, encoding: str, draw: st.DataObject) -> None:
    """Without its last byte it is as good as nothing; only an empty one is an empty one."""
    body = pack(data, encoding)
    end = draw.draw(st.integers(1, len(body) - 1))
    with pytest.raises(UnpackError):
        unpack([body[:end]], encoding)
    assert unpack([], encoding) == b""


@given(st.binary(min_size=1, max_size=200), ENCODINGS)
def test_garbage_is_an_error_and_nothing_else(data: bytes, encoding: str) -> None:
    """Whatever bytes come under the name of gzip or deflate."""
    with suppress(UnpackError):
        unpack([data], encoding)


def test_several_packed_bodies_in_one_are_one_body() -> None:
    """As the format allows; a hundred of them, and not thousands."""
    one = gzip.compress(b"ab")
    assert unpack([one * 100], "gzip") == b"ab" * 100
    with pytest.raises(UnpackError, match="more than 100"):
        unpack([one * 101], "gzip")


@pytest.mark.slow
def test_a_million_unknown_words_take_no_memory() -> None:
    """A vocabulary that grows without end is not remembered: states, uses, fields, whole parts of rows."""
    row = {"providerType": "x", "status": "ACTIVE"}

    def answers(first: int, number: int) -> None:
        for n in range(first, first + number, 100):
            rows = [
                {
                    **row,
                    "podId": f"p{one}",
                    "status": f"STATE_{one}",
                    "installationStatus": f"STEP_{one}",
                    "primePortMapping": [{"internal": str(one), "external": "x", "usedBy": f"USE_{one}"}],
                    f"field{one}": one,
                }
                for one in range(n, n + 100)
            ]
            assert decode_statuses({"data": rows}).rows[0].status == f"STATE_{n}"

    answers(0, 20_000)
    blocks = held()
    for n in range(1_000_000):
        assert not PodState(f"WORD{n}").is_known
    for n in range(10_000):
        assert InstallationState(f"WORD{n}") == f"WORD{n}"
    assert held() < blocks + 2_000
    answers(20_000, 100_000)
    # Of equal parts of rows as many are kept as are of use; they are others than before, but not more.
    assert held() < blocks + 10_000


def held() -> int:
    """How many pieces of memory are in use."""
    gc.collect()
    return sys.getallocatedblocks()


def test_no_part_of_an_answer_is_kept_because_it_is_large() -> None:
    """Equal parts of rows are decoded once and kept; not if a server fills them."""
    large = {"id": "1", "resourceType": "DISK", "mountPath": "x" * MIB}
    pod = {"gpuName": "x", "gpuCount": 1, "priceHr": 1.0, "providerType": "x"}
    with measured() as peak:
        for n in range(50):
            row = {**pod, "id": "a", "attachedResources": [{**large, "resourcePath": f"{n}" * MIB}]}
            decode_pods({"data": [row]}, 0, 1)
    assert peak.bytes < 10 * MIB
