"""Readers of a job's output that continue at the same offset after a lost connection."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Final

import attrs

from ..errors import JobError
from ._job_scripts import job_script, parse_states
from ._output import Lines
from ._reconnect import Reconnection
from ._session import Session
from .results import JobState, OutputLine, Stream

_HEADER: Final = re.compile(rb"(stdout|stderr) (\d{1,15}) (\d{1,7})")
_MAX_HEADER: Final = 4_096
_MAX_NAMED: Final = 10
"""Max jobs that an error names."""
_STDERR_UNIT: Final = 1 << 48
"""An offset is one number for both streams: position in stdout, plus this constant times that in stderr."""


def split_offset(offset: int) -> dict[Stream, int]:
    stderr, stdout = divmod(offset, _STDERR_UNIT)
    return {"stdout": stdout, "stderr": stderr}


@attrs.define(eq=False)
class JobReader:
    """Reader of a job's output, until the job ends.

    Attributes:
        connection: Connects to the pod, and again after a loss.
        positions: Position of the next byte, by stream.
        tail: Number of last bytes of each stream to read once the job has ended; ``None`` to read everything
            from ``positions`` as it arrives. Set to ``None`` once the positions are known.
        is_once: Whether to read only what there is now, also of a running job.
        state: The job's state, once all output has been read.
    """

    pod_id: str
    name: str
    connection: Reconnection
    positions: dict[Stream, int]
    tail: int | None = None
    is_once: bool = False
    state: JobState | None = attrs.field(default=None, init=False)
    _session: Session | None = attrs.field(default=None, init=False)
    _buffer: bytes = attrs.field(default=b"", init=False)
    """An incomplete header line."""
    _frame: tuple[Stream, int] = attrs.field(default=("stdout", 0), init=False)
    """Stream of the current frame, and the number of its bytes still to read."""
    _printed: str = attrs.field(default="", init=False)

    async def read(self) -> list[tuple[Stream, bytes]]:
        """Return the next output; empty at the job's end. A cancelled call can be repeated.

        Raises:
            JobError: The pod has no such job, or the job has ended without an exit code.
            LoginError: The first login failed, or a later one cannot succeed.
            ConnectionLostError: The connection was lost, and not restored in time.
        """
        while self.state is None:
            session = self._session or await self._connect()
            data = await session.receive("stdout")
            if pieces := self._parse(data):
                self.connection.lost_at = None
                return pieces
            if data:
                continue
            await self.aclose()
            if session.stdout.exit_code is None:
                await self.connection.note_loss()
                continue
            states = {state.name: state for state in parse_states(self._printed)}
            if self.name not in states:
                raise missing_job_error(self.pod_id, self.name, list(states))
            self.state = states[self.name]
        if self.state.exit_code is None and not self.state.is_running:
            raise JobError(
                f"The job {self.name} on pod {self.pod_id} has no exit code: the pod was restarted, or "
                "the job's supervisor was killed. Its output can still be read. Start another job.",
                pod_id=self.pod_id,
                name=self.name,
            )
        return []

    async def aclose(self) -> None:
        self._session = None
        await self.connection.aclose()

    async def _connect(self) -> Session:
        session = self._session = await self.connection.open()
        self._buffer, self._frame, self._printed = b"", ("stdout", 0), ""
        out, err = self.positions["stdout"], self.positions["stderr"]
        try:
            options = str(self.tail or ""), "1" if self.is_once else ""
            await session.send(job_script("follow", self.name, str(out), str(err), *options))
        except BaseException:
            # A later call must not wait for output that was never requested.
            await self.aclose()
            raise
        return session

    def _parse(self, data: bytes) -> list[tuple[Stream, bytes]]:
        pieces: list[tuple[Stream, bytes]] = []
        data = self._buffer + data
        while data:
            stream, missing = self._frame
            if missing:
                piece, data = data[:missing], data[missing:]
                self._frame = stream, missing - len(piece)
                self.positions[stream] += len(piece)
                pieces.append((stream, piece))
                continue
            line, found, rest = data.partition(b"\n")
            if not found:
                break
            data = rest
            header = _HEADER.fullmatch(line)
            if header is None:
                # A line with the job's state or, if there is no such job, with another job's state.
                printed = line[:_MAX_HEADER].decode(errors="replace")
                self._printed = f"{self._printed}{printed}\n"[-(1 << 20) :]
                continue
            stream = "stdout" if header[1] == b"stdout" else "stderr"
            self._frame = stream, int(header[3])
            if self.tail is not None:
                self.positions[stream] = int(header[2])
                # The header of stderr comes second: now both positions are known.
                self.tail = None if stream == "stderr" else self.tail
        self._buffer = data[:_MAX_HEADER]
        return pieces


class JobLines:
    """Reader of the lines of a job's output."""

    def __init__(self, reader: JobReader) -> None:
        self._reader = reader
        self._positions = dict(reader.positions)
        self._splitters: dict[Stream, Lines] = {
            stream: Lines(position) for stream, position in reader.positions.items()
        }
        self._has_ended = False
        self._reading = asyncio.Lock()

    @property
    def state(self) -> JobState | None:
        return self._reader.state

    async def __anext__(self) -> list[OutputLine]:
        """Wait for lines, until the job's end. A cancelled call can be repeated.

        If the job has an error, the incomplete last lines are returned first, and the next call raises it.
        """
        lines: list[OutputLine] = []
        async with self._reading:
            while not lines and not self._has_ended:
                try:
                    pieces = await self._reader.read()
                except JobError:
                    if not (lines := self._incomplete_lines()):
                        raise
                    break
                for stream, piece in pieces:
                    lines += self._with_offsets(stream, self._splitters[stream].feed(piece))
                if not pieces:
                    self._has_ended = True
                    if self._reader.state is None or not self._reader.state.is_running:
                        lines = self._incomplete_lines()
        if not lines:
            raise StopAsyncIteration
        return lines

    def _incomplete_lines(self) -> list[OutputLine]:
        return [
            line
            for stream, splitter in self._splitters.items()
            for line in self._with_offsets(stream, splitter.end())
        ]

    def _with_offsets(self, stream: Stream, lines: list[tuple[str, int]]) -> Iterator[OutputLine]:
        for text, position in lines:
            self._positions[stream] = position
            offset = self._positions["stdout"] + self._positions["stderr"] * _STDERR_UNIT
            yield OutputLine(text=text, stream=stream, offset=offset)

    async def aclose(self) -> None:
        self._has_ended = True
        await self._reader.aclose()


def missing_job_error(pod_id: str, name: str, others: list[str]) -> JobError:
    names = ", ".join(sorted(others)[:_MAX_NAMED])
    there = f"only {names}" if others else "nor any other"
    if len(others) > _MAX_NAMED:
        there = f"only {len(others):,} others, such as {names}"
    return JobError(f"Pod {pod_id} has no job {name!r}, {there}.", pod_id=pod_id, name=name)
