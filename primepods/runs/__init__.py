"""Records and output of the runs of `primepods run` on this machine, and the budget of agents."""

from ._budget import Balance, Budget, Reservation
from ._follow import follow_job
from ._run import Run, RunRecord, find_run, list_runs
from ._take_over import leased_name, take_over_lease

__all__ = [
    "Balance",
    "Budget",
    "Reservation",
    "Run",
    "RunRecord",
    "find_run",
    "follow_job",
    "leased_name",
    "list_runs",
    "take_over_lease",
]
