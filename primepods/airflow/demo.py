"""``python -m primepods.airflow.demo``: run Airflow and the example pipelines against an emulator."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from importlib.resources import files
from typing import Final

from ..emulator import Emulator

_END_TIMEOUT: Final = 20.0
"""Seconds from SIGINT until Airflow's processes are killed."""


def main() -> int:
    """Run the demo until Ctrl-C or the end of Airflow, then clean up; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m primepods.airflow.demo",
        description="Run Airflow and the example pipelines against an emulator.",
    )
    parser.add_argument("--port", type=int, default=8080, help="port of Airflow's pages (default: 8080)")
    port: int = parser.parse_args().port
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="airflow-") as home, Emulator(boot_seconds=15.0) as emulator:
        page = f"http://127.0.0.1:{port}/dags/train_on_a_pod"
        print(f"Airflow starts in about a minute: see {page}", flush=True)  # noqa: T201 - a command
        settings = [f"{name}={value}" for name, value in _settings(home, port, emulator).items()]
        # `standalone` starts Airflow commands by name, so the folder of scripts must be on the PATH. A shell
        # adds it (`$0`) and runs the command (`$@`), since only modules of `config` may read the environment.
        with_path = ["sh", "-c", 'PATH="$0:$PATH" exec "$@"', sysconfig.get_path("scripts")]
        command = [*with_path, "env", *settings, sys.executable, "-m", "airflow", "standalone"]
        # Use a new session, so that Ctrl-C goes to this process only, which then ends the others.
        with subprocess.Popen(command, start_new_session=True) as process:  # noqa: S603 - ours
            try:
                return process.wait()
            except KeyboardInterrupt:
                return 0
            finally:
                _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        with suppress(subprocess.TimeoutExpired):
            process.send_signal(signal.SIGINT)
            process.wait(_END_TIMEOUT)
    finally:
        # Kill the processes also after a second Ctrl-C.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _settings(home: str, port: int, emulator: Emulator) -> Mapping[str, str]:
    connection = {"conn_type": "prime", "host": emulator.url, "password": emulator.api_key}
    return {
        "AIRFLOW_HOME": home,
        "AIRFLOW_CONN_PRIME_DEFAULT": json.dumps(connection),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(files("primepods.airflow.example_dags")),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
    }


if __name__ == "__main__":
    raise SystemExit(main())
