"""The output of a run's job, in files of this machine."""

from __future__ import annotations

from ..remote import AsyncJob, JobState, read_output
from ._run import STREAMS, Run


async def follow_job(job: AsyncJob, run: Run) -> JobState:
    """Append the job's output to the run's files until its end, from where they end now; return its state.

    Raises:
        PrimePodsError: See :meth:`AsyncJob.wait`.
    """
    positions = [size - start for size, start in zip(run.sizes(), run.record.offsets, strict=True)]
    files = {stream: (run.path / stream).open("ab", buffering=0) for stream in STREAMS}
    try:
        return await read_output(
            job,
            stdout=positions[0],
            stderr=positions[1],
            reconnect=run.record.reconnect,
            write=lambda stream, piece: files[stream].write(piece),
        )
    finally:
        for file in files.values():
            file.close()
