"""Run a script on a pod, with input and output."""

from __future__ import annotations

import asyncio
import inspect
import io
import sys
from codecs import getincrementaldecoder
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO, cast

import anyio

from ._background import BackgroundWriter
from ._session import Session, Sink
from .results import Stream

ReadOutput = Callable[[], Coroutine[Any, Any, None]]


async def exchange(
    session: Session,
    script: bytes,
    write: Callable[[BinaryIO], object] | None,
    sinks: Mapping[Stream, Sink],
    read_output: ReadOutput | None = None,
) -> None:
    """Run a script until it ends or the connection is lost; stop it on an error or cancellation.

    Args:
        session: The connection.
        script: The script.
        write: Writes the script's input, in a thread.
        sinks: Callbacks for the script's output, by stream.
        read_output: Reads the output of a stream without a sink, until its end.

    Raises:
        Exception: The first error of a sink, of ``write`` or of ``read_output``.
    """
    read_output_done = anyio.Event()

    async def read() -> None:
        if read_output is not None:
            await read_output()
        read_output_done.set()

    # A cancellation does not end the threads of `write` and `read_output`; `session.stop()` does. So they run
    # in the outer group, which waits for them only after `session.stop()`.
    with unwrap_first_error():
        async with anyio.create_task_group() as threads:
            threads.start_soon(session.send, script, write)
            threads.start_soon(read)
            try:
                async with anyio.create_task_group() as readers:
                    for stream, sink in sinks.items():
                        readers.start_soon(session.forward_output, stream, sink)
                await read_output_done.wait()
            finally:
                session.stop()


@contextmanager
def unwrap_first_error() -> Generator[None]:
    """Raise the first error of a task group, without the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        first = _leaf(group)
    else:
        return
    # Raise outside of `except`, so that the group is not the context of the error.
    raise first


def _leaf(error: BaseException) -> BaseException:
    if not isinstance(error, BaseExceptionGroup):
        return error
    return _leaf(cast("BaseExceptionGroup[BaseException]", error).exceptions[0])


async def call_back(function: Callable[[Any], object], value: object) -> None:
    result = function(value)
    if inspect.isawaitable(result):
        await result


def echo(stream: Stream) -> Echo:
    return Echo(sys.stdout if stream == "stdout" else sys.stderr)


class Echo:
    """Sink that writes to a file. A cancelled call does not wait for the reader of a descriptor."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._writer: BackgroundWriter | None = None
        # Other files may have a descriptor of another file: in Jupyter, that of the server's terminal.
        if isinstance(file, io.TextIOWrapper):
            with suppress(OSError, ValueError):  # there is no descriptor
                self._writer = BackgroundWriter(file.fileno(), file.flush)

    async def __call__(self, piece: bytes) -> None:
        """Write a piece; return when it is written."""
        if self._writer is None:
            binary = getattr(self._file, "buffer", None)
            if binary is None:
                self._file.write(self._decoder.decode(piece))
            else:
                binary.write(piece)
            self._file.flush()
            return
        loop = asyncio.get_running_loop()
        written: asyncio.Future[None] = loop.create_future()
        self._writer.write(piece, lambda error: loop.call_soon_threadsafe(_finish, written, error))
        await written

    def close(self) -> None:
        """End the thread, if there is one, once all is written."""
        if self._writer is not None:
            self._writer.close()


def _finish(written: asyncio.Future[None], error: OSError | None) -> None:
    if written.done():  # the call was cancelled
        return
    if error is None:
        written.set_result(None)
    else:
        written.set_exception(error)
