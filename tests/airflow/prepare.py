"""Makes the database, and puts the tests' DAGs there: `python -m tests.airflow.prepare`."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from airflow.cli.cli_parser import get_parser


def airflow(*words: str) -> None:
    """Do what a command of Airflow's does."""
    command = get_parser().parse_args(words)
    command.func(command)


if __name__ == "__main__":
    airflow("db", "migrate")
    airflow("dags", "reserialize")
    home = Path(os.environ["AIRFLOW_HOME"])
    with closing(sqlite3.connect(home / "airflow.db")) as database:
        database.execute("VACUUM INTO ?", [str(home / "copy.db")])
    # Its name says that it is complete.
    (home / "copy.db").rename(home / "empty.db")
