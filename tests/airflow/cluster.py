"""An Airflow in processes of its own: API server, scheduler with its workers, and triggerer, on SQLite."""

import itertools
import json
import os
import secrets
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

from tests.support.forks import Fork, ForkServer

T = TypeVar("T")

_API_INTERVAL = 1.0
"""Seconds between two calls of Airflow's API, each of which takes it a good while."""
PARTS = ("api-server", "scheduler", "triggerer")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_for(what: str, look: Callable[[], T | None], *, seconds: float = 250.0, interval: float = 0.1) -> T:
    """Look until there is something; return it."""
    ends_at = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < ends_at, f"{what} has not come within {seconds} s"
        time.sleep(interval)
    return found


class Api:
    """Airflow's own API, as its UI uses it.

    Args:
        url: Where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._token = ""

    def dags(self) -> set[str]:
        """The DAGs that it has; none while it is not up."""
        try:
            self._token = self.call("GET", "/auth/token")["access_token"]
            return {dag["dag_id"] for dag in self.call("GET", "/api/v2/dags")["dags"]}
        except OSError:
            return set()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Call Airflow's API; again where SQLite was locked."""
        for _ in range(10):
            try:
                return self._call(method, path, body)
            except urllib.error.HTTPError as exc:
                if exc.code != HTTPStatus.INTERNAL_SERVER_ERROR:
                    raise
                time.sleep(0.5)
        return self._call(method, path, body)

    def _call(self, method: str, path: str, body: Any) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json", "Authorization": f"Bearer {self._token}"},
        )
        with urllib.request.urlopen(request, timeout=100) as answer:
            return json.loads(answer.read() or "null")


class Cluster:
    """An Airflow in processes of its own, driven through its API as its UI does.

    Args:
        home: Its folder, with its database.
        forks: What starts its processes.
        environment: More variables of theirs.
    """

    def __init__(self, home: Path, forks: ForkServer, environment: dict[str, str]) -> None:
        self.home = home
        self.port = free_port()
        self.api = Api(f"http://127.0.0.1:{self.port}")
        self._forks = forks
        self._environment = environment | {
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(16),
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{self.api.url}/execution/",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "2",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.3",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            # For the emulated pods' folders.
            "TMPDIR": str(home / "tmp"),
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": "5",
        }
        (home / "tmp").mkdir(exist_ok=True)
        self.parts: dict[str, Fork] = {}
        self._numbers = itertools.count()

    def start(self, *parts: str) -> None:
        """Start some parts, by default all."""
        for part in parts or PARTS:
            words = [part]
            if part == "api-server":
                words += ["--host", "127.0.0.1", "--port", str(self.port), "--workers", "1"]
            if part in {"scheduler", "triggerer"}:
                words.append("--skip-serve-logs")
            self.parts[part] = self.fork("airflow", *words, log=f"{part}.log")

    def fork(self, module: str, *words: str, log: str) -> Fork:
        """Start a process in its environment; its output goes to a file in its folder."""
        return self._forks.run(module, *words, log=self.home / log, environment=self._environment)

    def wait_until_up(self) -> None:
        """Return when the API answers and has all DAGs."""
        dags = {"lease", "rent", "run_job", "train", "wait_deferred", "wait_here"}
        wait_for("the API server with its DAGs", lambda: dags <= self.api.dags(), interval=0.5)

    def kill(self, part: str) -> None:
        """End a part, and all processes that it has started, at once."""
        process = self.parts.pop(part)
        signal_all(process, signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """End all of it."""
        for part in list(self.parts):
            self.kill(part)

    def run(self, dag_id: str, **configuration: Any) -> "Run":
        """Start a run of a DAG."""
        run_id = f"run_{next(self._numbers)}"
        body = {"dag_run_id": run_id, "logical_date": None, "conf": configuration}
        try:
            self.api.call("POST", f"/api/v2/dags/{dag_id}/dagRuns", body)
        except urllib.error.HTTPError as exc:
            if exc.code != HTTPStatus.CONFLICT:  # an answer of 500 was wrong: it is there
                raise
        return Run(self, dag_id, run_id)


class Run:
    """A run of a DAG."""

    def __init__(self, cluster: Cluster, dag_id: str, run_id: str) -> None:
        self._cluster = cluster
        self._run_id = run_id
        self._path = f"/api/v2/dags/{dag_id}/dagRuns/{run_id}"
        self._logs = cluster.home / "logs" / f"dag_id={dag_id}" / f"run_id={run_id}"

    def task(self, task_id: str) -> dict[str, Any]:
        """What Airflow says of a task."""
        return dict(self._cluster.api.call("GET", f"{self._path}/taskInstances/{task_id}"))

    def wait_for_task(self, task_id: str, *states: str) -> dict[str, Any]:
        """Return a task when it is in one of the states."""
        what = f"{task_id} in {states}"

        def look() -> dict[str, Any] | None:
            return found if (found := self.task(task_id))["state"] in states else None

        return wait_for(what, look, interval=_API_INTERVAL)

    def wait_until_done(self) -> str:
        """Return how the run has ended."""

        def state() -> str | None:
            found = str(self._cluster.api.call("GET", self._path)["state"])
            return found if found in {"success", "failed"} else None

        return str(wait_for("the end of the run", state, interval=_API_INTERVAL))

    def mark_failed(self, task_id: str) -> None:
        """Do what a user does with the button."""
        self._cluster.api.call("PATCH", f"{self._path}/taskInstances/{task_id}", {"new_state": "failed"})

    def clear(self, task_id: str) -> None:
        """Do what a user does with that button, which includes what is downstream."""
        body = {
            "dag_run_id": self._run_id,
            "task_ids": [task_id],
            "dry_run": False,
            "include_downstream": True,
            "only_failed": False,
        }
        self._cluster.api.call("POST", f"{self._path.partition('/dagRuns')[0]}/clearTaskInstances", body)

    def result(self, task_id: str) -> Any:
        """What a task has returned."""
        return self.pushed(task_id, "return_value")

    def pushed(self, task_id: str, key: str) -> Any:
        """What a task has pushed."""
        path = f"{self._path}/taskInstances/{task_id}/xcomEntries/{key}?deserialize=true"
        return self._cluster.api.call("GET", path)["value"]

    def log(self, task_id: str) -> str:
        """All that the UI shows of a task's log: that of its tries and of its triggers."""
        files = sorted((self._logs / f"task_id={task_id}").glob("*.log"))
        return "".join(file.read_text(encoding="utf-8") for file in files)

    def kill_worker(self, task_id: str, number: int = signal.SIGKILL) -> None:
        """End the worker's process of a task, at once or as asked."""
        title = f"airflow worker -- {self.task(task_id)['id']}"
        [pid] = wait_for("the task's process", lambda: [pid for pid in processes() if title_of(pid) == title])
        os.kill(pid, number)


def processes() -> list[int]:
    """All processes of this machine."""
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def title_of(pid: int) -> str:
    """What a process calls itself; nothing if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").replace("\0", " ").strip()
    except OSError:
        return ""


def parent_of(pid: int) -> int:
    """Who has started a process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:
        return 0


def descendants(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    children = [child for child in processes() if parent_of(child) == pid]
    return children + [further for child in children for further in descendants(child)]


def signal_all(process: Fork, number: int) -> None:
    """Send a signal to a process and to all that it has started."""
    for pid in [process.pid, *descendants(process.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def open_sockets(pid: int) -> int:
    """How many sockets a process has open."""
    links = (path.readlink().name for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink())
    return sum(link.startswith("socket:") for link in links)
