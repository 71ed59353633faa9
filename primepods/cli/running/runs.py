"""`primepods runs`, `attach` and `stop`: list, show and end the runs of this machine."""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import attrs
import typer

from primepods._utils.money import money
from primepods._utils.text import short_duration

from .._shared.command import Api, api_command
from .._shared.completion import complete_runs
from .._shared.durations import short_age
from .._shared.errors import CommandError, ExitCode, print_error
from .._shared.login_options import LoginOptions
from .._shared.options import flag, option
from .._shared.output import ModelTable, PrintOptions
from .._shared.table import Column, print_info
from .._shared.text import count

if TYPE_CHECKING:
    from primepods.runs import Run

_POLL_INTERVAL = 0.2


@attrs.frozen(kw_only=True)
class RunRow:
    """Row of `primepods runs`."""

    name: str
    state: str
    pod: str | None
    pods: list[str] = attrs.field(factory=list[str])
    since: datetime
    held_until: datetime | None = None
    spent: float
    exit_code: int | None
    command: str
    swept_at: datetime | None = None
    items: int | None = None
    done: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        times = {"since": self.since, "held_until": self.held_until, "swept_at": self.swept_at}
        return attrs.asdict(self) | {name: time and time.isoformat() for name, time in times.items()}


def _row(run: Run) -> RunRow:
    from primepods.runs import count_items, read_leases

    record, state = run.record, run.state
    leases = read_leases(run).values()
    pods = [lease.pod_id for lease in leases] if record.pods else [record.pod_id]
    items, done = count_items(run) or (None, None)
    until = None if state == "ended" else record.held_until
    return RunRow(
        name=run.name,
        state=state,
        pod=record.pod_id,
        pods=list(filter(None, pods)),
        since=datetime.fromtimestamp(record.began_at, UTC),
        held_until=None if until is None else datetime.fromtimestamp(until, UTC),
        # The record has no price before the pod is ready.
        spent=round(run.cost(max((lease.price_hr or 0.0 for lease in leases), default=0.0)), 4),
        exit_code=record.exit_code,
        command=record.command if isinstance(record.command, str) else shlex.join(record.command),
        swept_at=None if record.swept_at is None else datetime.fromtimestamp(record.swept_at, UTC),
        items=items,
        done=done,
    )


def _state_cell(row: RunRow) -> str:
    if row.swept_at is not None:
        return f"swept {short_age(row.swept_at)} ago"
    if row.items is not None:
        return f"{row.state} {row.done}/{row.items}"
    if row.held_until is None or row.state != "holding":
        return row.state
    return f"holding {short_duration((row.held_until - datetime.now(UTC)).total_seconds())}"


_RUNS = ModelTable[RunRow](
    empty_model=lambda: RunRow(
        name="", state="", pod=None, since=datetime.now(UTC), spent=0.0, exit_code=None, command=""
    ),
    id_of=lambda row: row.name,
    cells={
        Column("NAME", min_width=12): lambda row: row.name,
        Column("STATE", min_width=8): _state_cell,
        Column("EXIT", right=True): lambda row: "" if row.exit_code is None else str(row.exit_code),
        Column("POD", rank=2): lambda row: row.pod or (count(row.pods, "pod") if row.pods else ""),
        Column("SINCE", right=True): lambda row: short_age(row.since),
        Column("SPENT", right=True): lambda row: money(row.spent),
        Column("COMMAND", min_width=8, rank=1): lambda row: row.command,
    },
)


@api_command
def command(
    api: Api,
    *,
    print_options: PrintOptions,
    prune: Annotated[
        bool, flag("Delete the records and output of ended runs without pods.", "--prune")
    ] = False,
) -> None:
    """List this machine's runs. Detached runs stay in the list after their end, until --prune.

    The state is renting, running, holding (a result could not be fetched, and the pod is held for the time
    shown), ended, swept or interrupted. With --each, it has the number of items that have ended (3/12). The
    process of an interrupted run has died; `primepods attach` takes the run over. If `primepods sweep` has
    deleted its pod, the run has ended, and the table says when.
    """
    from primepods.runs import list_runs, note_sweeps

    _RUNS.check(print_options)
    runs, unreadable = list_runs()
    for name, why in unreadable.items():
        print_error(api.command, f"run {name}: {why}")
    note_sweeps(runs)
    if prune:
        # Keep the runs whose pods may be billed.
        ended = [run for run in runs if run.state == "ended" and not run.may_have_pod]
        for run in ended:
            run.remove()
        print_info(f"Records of {count(ended, 'run')} deleted")
        return
    _RUNS.print([_row(run) for run in runs], print_options)
    if not runs and not unreadable and print_options.is_table:
        print_info("This machine has no runs. Start one with `primepods run --detach`.")


@api_command
def attach(
    api: Api,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME|POD[/JOB]",
            help="The run, or a job on a pod, by default its only one.",
            autocompletion=complete_runs,
        ),
    ],
    *,
    tail: Annotated[int | None, option("Begin with the last lines.", "LINES", "--tail", "-n", min=0)] = None,
    login: LoginOptions,
) -> None:
    """Show the output of a run and follow it to the end; the exit code is the command's.

    Ctrl-C only detaches: the run continues. A run whose process has died is taken over; one with --each
    deletes its pods first, and the items without a result begin again. With POD or POD/JOB, shows the output
    of a job on a pod; this works on any machine that can log in, and does not delete the pod.

    Examples:
      primepods attach train-k3v9q2mxz7 --tail 20
      primepods attach my-pod/train
    """
    from primepods.runs import find_run, has_process, list_runs, take_over_run

    from ._background import show

    pod, _, job = name.partition("/")
    runs, unreadable = list_runs()
    if job or not any(known.startswith(name) for known in [*unreadable, *(run.name for run in runs)]):
        if tail is not None:
            raise CommandError("--tail is for runs: a job is shown from its start", ExitCode.USAGE)
        raise typer.Exit(_follow_job(api, login, pod, job))
    run = find_run(name)
    is_other = any(value not in {None, run.record.client.get(name)} for name, value in api.account.items())
    if login != LoginOptions() or is_other or api.timeout is not None:
        options = "--node, --ssh-option, --ssh-command, --base-url, --context, --team and --timeout"
        raise CommandError(f"{options} are for POD/JOB, not for the run {run.name}", ExitCode.USAGE)
    if take_over_run(run):
        print_info(f"The process of {run.name} has died: this command takes over the run")
    elif run.state != "ended" and not run.reload().is_detached and has_process(run):
        record = run.record
        hint = (
            f"; see `primepods attach {record.pod_id}/{record.job}`" if record.job and record.pod_id else ""
        )
        raise CommandError(
            f"cannot attach to {run.name}, whose output goes to the terminal in which it was started{hint}",
            ExitCode.USAGE,
        )
    try:
        shown = show(run, tail=tail)
        next(shown)
        if run.state == "holding" and (until := run.record.held_until) is not None:
            left = short_duration(max(0.0, until - time.time()))
            print_info(
                f"Its pod is held for {left} more, since a result is missing: see the messages above. "
                f"`primepods stop {run.name}` deletes the pod without it."
            )
        _show_to_end(run, shown)
    except KeyboardInterrupt:
        print_info(f"Detached: {run.name} keeps running. To stop it, run `primepods stop {run.name}`.")
        raise typer.Exit(ExitCode.INTERRUPTED) from None
    if run.record.verdict:
        print_info(run.record.verdict)
    raise typer.Exit(run.record.exit_code or 0)


def _follow_job(api: Api, login: LoginOptions, pod: str, name: str) -> int:
    """Show a job of a pod, by default its only one, to its end; return the exit code."""
    with api.client() as client:
        remote = login.remote(client, pod, team=api.team)
        if not name:
            jobs = remote.jobs()
            if len(jobs) != 1:
                names = ", ".join(f"{pod}/{job.name}" for job in jobs)
                raise CommandError(f"{pod} has {count(jobs, 'job')}{names and f'. Give one of {names}'}")
            name = jobs[0].name
        try:
            return remote.job(name).wait(check=False, capture=False).exit_code
        except KeyboardInterrupt:
            print_info(f"Detached: {pod}/{name} keeps running. To end it and its bill, delete its pod.")
            raise typer.Exit(ExitCode.INTERRUPTED) from None


@api_command
def stop(
    _: Api,
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The run's name, or a prefix of it.", autocompletion=complete_runs
        ),
    ],
    *,
    now: Annotated[bool, flag("Delete the pod at once: the results are not fetched.", "--now")] = False,
) -> None:
    """End a run, fetch its results, delete its pod, and say how it has ended.

    Whatever ends a run:
      Reason                        Command    Results            Pod
      it has ended, or failed       -          fetched            deleted
      limit, stop, Ctrl-C, SIGTERM  SIGTERM    fetched            deleted
      its job was lost              SIGTERM    fetched            deleted
      a result is missing           -          tried each minute  held
      pod out of reach              may run    tried once         deleted
      --now, second Ctrl-C          lost       not fetched        deleted at once

    Before SIGKILL, the command has half of --wind-down. A pod is held until the limit, or for --hold (10m
    without a terminal or --detach, or if the command fails in its first minute); stop deletes it without the
    missing result. If a result is missing at the end, stop exits with 1.
    """
    from primepods.runs import find_run, stop_run

    from ._background import show

    run = find_run(name)
    ended, has_missing = f"{run.name} has ended", False
    try:
        if run.state != "ended":
            shown = show(run, tail=0)
            next(shown)
            stop_run(run, now=now)
            if not run.reload().is_detached:
                print_info(
                    f"Waiting until {run.name} has ended and its pods are confirmed gone. "
                    "The terminal in which it was started shows its messages."
                )
            _show_to_end(run, shown)
            record = run.record
            has_missing = (
                record.job is not None and not record.are_fetched and bool(record.downloads) and not now
            )
        ended += f" with exit code {run.record.exit_code}"
    except FileNotFoundError:
        # A run without --detach deletes its record at its end.
        if (run.path / "run.json").exists():
            raise
    record = run.record
    if run.may_have_pod:
        raise CommandError(
            f"{ended}, and its pod {record.pod_id or ''} may still be billed: see `primepods sweep`"
        )
    print_info(record.verdict or f"{ended}. No pod of it is left.")
    if has_missing:
        raise typer.Exit(ExitCode.FAILED)


def _show_to_end(run: Run, shown: Iterator[None]) -> None:
    """Show a run's output, with each step of ``shown``, until the run has ended.

    Raises:
        CommandError: The process of the run has died.
        FileNotFoundError: The record of the run was deleted.
    """
    while True:
        state = run.state
        next(shown)
        if run.reload().exit_code is not None:
            next(shown)
            return
        if state == "interrupted":
            raise CommandError(f"{run.name} has no process: run `primepods attach {run.name}`")
        time.sleep(_POLL_INTERVAL)


def background(lock: int, name: str) -> None:
    """Execute a run in this process, which ``start_process`` started."""
    from primepods.runs import find_run

    from ._background import run_here

    variables: dict[str, str] = json.loads(sys.stdin.buffer.read())
    run = find_run(name)
    run.inherit(lock)
    client = run.record.client
    api = Api(
        command="primepods run",
        base_url=client["base_url"],
        context=client["context"],
        team=client["team_id"],
    )
    raise typer.Exit(run_here(api, run, variables))
