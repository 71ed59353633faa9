"""Runs: a pod is rented for one command. Also the budget of agents."""

from ._budget import Balance, Budget, Reservation
from ._check import check_run
from ._each import EachRunner, check_each, create_run
from ._follow import follow_job
from ._host import ItemProgress, ItemResult, RunError, RunHost
from ._process import delayed_stop, ignore_stop, start_process
from ._results import short_size, shown_path
from ._run import Run, RunRecord, find_run, list_runs, note_sweeps
from ._runner import Runner
from ._take_over import has_process, leased_name, stop_run, take_over_lease, take_over_run

__all__ = [
    "Balance",
    "Budget",
    "EachRunner",
    "ItemProgress",
    "ItemResult",
    "Reservation",
    "Run",
    "RunError",
    "RunHost",
    "RunRecord",
    "Runner",
    "check_each",
    "check_run",
    "create_run",
    "delayed_stop",
    "find_run",
    "follow_job",
    "has_process",
    "ignore_stop",
    "leased_name",
    "list_runs",
    "note_sweeps",
    "short_size",
    "shown_path",
    "start_process",
    "stop_run",
    "take_over_lease",
    "take_over_run",
]
