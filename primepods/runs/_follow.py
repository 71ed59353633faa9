"""The output of a run's job, in files of this machine."""

from __future__ import annotations

from ..remote import AsyncJob, JobState, read_output
from ._run import Run


async def follow_job(job: AsyncJob, run: Run, node: int) -> JobState:
    """Append a node's output to the run's files until its end, from where they end now; return its state.

    Raises:
        PrimePodsError: See :meth:`AsyncJob.wait`.
    """
    own = slice(2 * node, 2 * node + 2)
    # A node that an earlier pod did not have has no offset.
    starts = (*run.record.offsets[own], 0, 0)
    positions = [size - start for size, start in zip(run.sizes()[own], starts, strict=False)]
    files = {stream: path.open("ab", buffering=0) for stream, path in run.files(node).items()}
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
