"""Runs: a pod is rented for one command. Also the budget of agents."""

from ._budget import Balance, Budget, Reservation
from ._check import check_run
from ._ending import STOP_NOW_SIGNAL, STOP_SIGNAL
from ._follow import follow_job
from ._host import RunError, RunHost
from ._process import start_process
from ._results import shown_path
from ._run import Run, RunRecord, find_run, list_runs
from ._runner import Runner
from ._take_over import leased_name, take_over_lease

__all__ = [
    "STOP_NOW_SIGNAL",
    "STOP_SIGNAL",
    "Balance",
    "Budget",
    "Reservation",
    "Run",
    "RunError",
    "RunHost",
    "RunRecord",
    "Runner",
    "check_run",
    "find_run",
    "follow_job",
    "leased_name",
    "list_runs",
    "shown_path",
    "start_process",
    "take_over_lease",
]
