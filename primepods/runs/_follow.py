"""Copy a job's output to the files of a run."""

from __future__ import annotations

import asyncio
import errno
import io
import logging
import math
import time
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial

from ..remote import AsyncJob, JobState, Stream, read_output
from ._run import Run

_log = logging.getLogger("primepods")
# Seconds between two messages about a full disk.
_LOG_INTERVAL = 60.0
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


async def follow_job(job: AsyncJob, run: Run, node: int = 0) -> JobState:
    """Append the new output of a job to the run's files until the job's end; return the job's state.

    While the disk here is full, the output waits on the pod.

    Raises:
        PrimePodsError: See :meth:`AsyncJob.wait`.
        OSError: A file cannot be opened or written, for a reason other than a full disk.
    """
    own = slice(2 * node, 2 * node + 2)
    # A node has no offset if earlier pods of the run had fewer nodes.
    starts = (*run.record.offsets[own], 0, 0)
    warned_at = -math.inf
    while True:
        positions = [size - start for size, start in zip(run.sizes()[own], starts, strict=False)]
        try:
            with ExitStack() as stack:
                files: dict[Stream, io.FileIO] = {}
                for stream, path in run.files(node).items():
                    files[stream] = stack.enter_context(io.FileIO(path, "ab"))
                return await read_output(
                    job,
                    stdout=positions[0],
                    stderr=positions[1],
                    reconnect=run.record.reconnect,
                    write=partial(_append, files),
                )
        except OSError as exc:
            if exc.errno not in DISK_FULL:
                raise
            if time.monotonic() >= warned_at + _LOG_INTERVAL:
                warned_at = time.monotonic()
                _log.warning(
                    "%s: %s; the output waits on the pod until there is space", run.path, exc.strerror
                )
        await asyncio.sleep(run.record.lease["interval"])


def _append(files: Mapping[Stream, io.FileIO], stream: Stream, data: bytes) -> None:
    view = memoryview(data)
    while view:
        # A write may be partial if the disk becomes full.
        view = view[files[stream].write(view) :]
