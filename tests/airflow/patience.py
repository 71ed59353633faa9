"""Gives killed tasks a minute to end, of which a busy machine may need more than Airflow's five seconds."""

import signal
from typing import Any

from airflow.sdk.execution_time.supervisor import WatchedSubprocess

kill: Any = WatchedSubprocess.kill
kill.__defaults__ = (signal.SIGINT, 60.0, False)
