"""Runs that hold the pods of agents, and the output of commands on these pods."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime

import anyio

import primepods
from primepods.runs import Reservation, Run, RunRecord

from ._agent_results import Output, Quote, Rented
from ._command import Api
from .runs import stop_run

_MAX_OUTPUT = 16_000
_MAX_LINE = 4_000
_MAX_MESSAGES = 2_000
_RUN_POLL_INTERVAL = 0.2
"""Seconds between two readings of a run's record."""
_STATUS_INTERVAL = 5.0
"""Seconds between two requests for a pod's status."""


def create_run(api: Api, quote: Quote, offer: primepods.Offer) -> Run:
    """Create the run that will hold the quoted pod, marked as stopping.

    So if this process dies before it has reserved the cost, no other process rents for the run.
    """
    names = ("cloud_id", "gpu_type", "gpu_count", "provider", "socket")
    machine = {name: getattr(offer, name) for name in names}
    limits = {"max_hours": quote.hours, "max_spend": quote.price_hr * quote.hours}
    return Run.create(
        RunRecord(
            client={"base_url": api.base_url, "context": api.context, "team_id": api.team},
            find={**machine, "max_price": quote.price_hr, "spot": bool(offer.is_spot), "limit": 1},
            changes={"name": "agent", "max_price": quote.price_hr},
            lease={"login": True, "interval": _STATUS_INTERVAL, **limits},
            command=["sleep", str(math.ceil(quote.hours * 3600) + 3600)],  # the lease ends an hour earlier
            is_detached=True,
            began_at=time.time(),
            is_stopping=True,
        )
    )


def stop_once(run: Run) -> None:
    """Ask a run to end, once per process of the run: a third request would make it give up the deletion.

    The file ``stopping-PID`` in the run's folder records the request. `primepods stop` is not counted.
    """
    with suppress(FileExistsError, ProcessLookupError):
        if run.is_live:
            (run.path / f"stopping-{run.reload().pid}").touch(exist_ok=False)
        if run.state != "ended":
            stop_run(run)


async def wait(run: Run, seconds: float, is_done: Callable[[RunRecord], bool]) -> None:
    """Wait until ``is_done`` holds, the run has no process any more, or ``seconds`` have passed."""
    with anyio.move_on_after(seconds):
        while not is_done(run.reload()) and run.is_live:  # noqa: ASYNC110 - another process changes it
            await anyio.sleep(_RUN_POLL_INTERVAL)


async def read_output(job: primepods.AsyncJob, offset: int, seconds: float) -> Output:
    """Read the output of a job for up to ``seconds``, and about 16,000 characters at most."""
    lines: list[str] = []
    left, is_complete = _MAX_OUTPUT, False
    async with job.output(offset=offset) as output:
        with anyio.move_on_after(seconds):
            async for line in output:
                lines.append(line.text if len(line.text) <= _MAX_LINE else f"{line.text[:_MAX_LINE]}… (cut)")
                offset, left = line.offset, left - len(lines[-1]) - 1
                if left < 0:
                    break
            else:
                is_complete = True
    return Output(
        pod_id=job.pod_id,
        job=job.name,
        output="\n".join(lines),
        is_complete=is_complete,
        exit_code=(await job.state()).exit_code if is_complete else None,
        next_offset=offset,
    )


def to_result(run: Run, reservation: Reservation, next_step: str = "") -> Rented:
    """Return the MCP result for a rented pod."""
    return Rented(
        name=run.name,
        pod_id=run.record.pod_id,
        state=run.state,
        worst_cost=reservation.amount,
        spent=reservation.spent,
        expires_at=datetime.fromtimestamp(run.record.began_at + run.record.lease["max_hours"] * 3600, UTC),
        next_step=next_step,
    )


def last_messages(run: Run) -> str:
    """Return the last messages of a run's process."""
    with suppress(FileNotFoundError):
        return (run.path / "log").read_text(encoding="utf-8", errors="replace")[-_MAX_MESSAGES:]
    return "no messages"
