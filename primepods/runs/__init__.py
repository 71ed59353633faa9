"""Runs: a pod is rented for one command. Also the budget of agents."""

from ._budget import Balance as Balance
from ._budget import Budget as Budget
from ._budget import Reservation as Reservation
from ._check import check_run as check_run
from ._follow import follow_job as follow_job
from ._host import RunError as RunError
from ._host import RunHost as RunHost
from ._process import delayed_stop as delayed_stop
from ._process import ignore_stop as ignore_stop
from ._process import start_process as start_process
from ._results import short_size as short_size
from ._results import shown_path as shown_path
from ._run import Run as Run
from ._run import RunRecord as RunRecord
from ._run import find_run as find_run
from ._run import list_runs as list_runs
from ._run import note_sweeps as note_sweeps
from ._runner import Runner as Runner
from ._take_over import has_process as has_process
from ._take_over import leased_name as leased_name
from ._take_over import stop_run as stop_run
from ._take_over import take_over_lease as take_over_lease
from ._take_over import take_over_run as take_over_run
