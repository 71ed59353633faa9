"""The operator that rents a pod for one command.

When Airflow kills a task, it calls ``on_kill`` in a signal handler of the process that runs ``execute``, and
ends the process after 5 seconds. ``on_kill`` raises ``_KilledError`` in ``execute``, so the lease ends as
after any exception, and deletes its pod. Until the pod is ready, the lease may not know its id. In that time,
``on_kill`` also starts a thread that deletes the pod by its name.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, cast

from airflow.providers.common.compat.sdk import AirflowFailException, Context, XComArg

from .. import (
    BudgetExceededError,
    Client,
    ConnectionLostError,
    Lease,
    LeasedPod,
    OutputLine,
    PodChange,
    PrimePodsError,
    TransferError,
    check_work,
)
from ..events import Event, LeaseStarted
from ._renting import KILL_TIMEOUT, RentingOperator, delete_by_name, find_by_name
from .exceptions import PodTaskError
from .hooks import PrimePodsHook

_MAX_LAST_LINES: Final = 10
"""Max lines of output in the error of a command that has failed."""


class _KilledError(BaseException):
    """Raised by ``on_kill`` during the task; no ``except Exception`` catches it."""


class PrimeRunPodOperator(RentingOperator):
    """Operator that rents a pod for one task, runs one command on it, and deletes the pod.

    It logs in with the system's ``ssh``, uploads files, runs the command and downloads files. The command's
    output is written to the task's log, line by line. After success, a failure or ``execution_timeout``, the
    operator deletes the pod and confirms that the pod is gone. When the task is marked failed or cleared, or
    its worker is asked to end, Airflow allows 5 seconds: the deletion is sent, but may not be confirmed. If
    the task is killed during the order, the pod may be left. A retry first deletes the pods that an earlier
    try has left, then rents another.

    The return value has ``exit_code``, ``id``, ``name``, ``price_hr`` and ``spent`` (the approximate cost, at
    the highest price that was seen). XCom also has them under their names, even if the command has failed.

    The operator cannot be deferred: the worker holds the connection. Run a command of many hours as
    a job on a pod that :class:`PrimeCreatePodOperator` has rented.

    Args:
        command: A line for the shell on the pod, or a list of arguments.
        spec: The fields of :class:`primepods.PodSpec`; its ``name`` is the prefix of the pod's name.
        gpu_type: The GPU, as in ``client.availability.find``, instead of a spec: matching offers are tried in
            order of their price until one is available, boots and accepts the login.
        gpu_count: Number of GPUs.
        max_price: Max price per hour; by default that of the spec or offer.
        exclude_providers: Providers to skip.
        max_hours: Hours from the order until the pod is deleted. The task then fails without retries. If the
            worker is killed and no retry deletes the pod, ``client.pods.sweep(expired=True)`` does, by the
            time in the pod's name.
        env: Environment variables of the command.
        cwd: The working directory of the command on the pod; by default the home directory.
        upload: Local files and folders, with their targets on the pod.
        exclude: Patterns of files to leave out; see :meth:`primepods.Remote.upload`.
        download: Paths on the pod, with their local targets; downloaded even if the command has failed.
        ssh_options: Options of ``ssh``, such as ``["-i", "/keys/id_ed25519"]``.
        ssh_command: Command line to run instead of ``ssh``.
        login_timeout: Seconds for a ready pod to accept the login.
        ready_timeout: Seconds for a pod to become ready.
        interval: Seconds between two polls of the pod.
        prime_conn_id: The connection's id.

    Raises:
        PodTaskError: The command has failed, no offer matches, a path to upload does not exist, or the
            task was killed.
        AirflowFailException: An argument is invalid, or ``max_hours`` is reached. The task fails without
            retries.
        PrimePodsError: Another step has failed, such as the order, the login or the deletion, or
            ``PRIMEPODS_MAX_HOURLY`` does not allow the order.
    """

    template_fields: Sequence[str] = (
        *RentingOperator.template_fields,
        *("command", "env", "cwd", "upload", "exclude", "download", "ssh_options"),
        *("login_timeout", "ready_timeout", "interval"),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "spec": "json",
        "command": "bash",
        "env": "json",
        "upload": "json",
        "download": "json",
    }
    ui_color: str = "#b8e2cc"

    def __init__(  # noqa: PLR0913 - all but the first have defaults
        self,
        *,
        command: str | Sequence[str] | XComArg,
        spec: Mapping[str, Any] | XComArg | None = None,
        gpu_type: str | None = None,
        gpu_count: int = 1,
        max_price: float | None = None,
        exclude_providers: Collection[str] = (),
        max_hours: float = 24.0,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        upload: Mapping[str, str] | None = None,
        exclude: Sequence[str] = (),
        download: Mapping[str, str] | None = None,
        ssh_options: Sequence[str] = (),
        ssh_command: str = "ssh",
        login_timeout: float = 300.0,
        ready_timeout: float = 1800.0,
        interval: float = 5.0,
        prime_conn_id: str = PrimePodsHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            spec=spec,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            max_price=max_price,
            exclude_providers=exclude_providers,
            max_hours=max_hours,
            prime_conn_id=prime_conn_id,
            **kwargs,
        )
        self.command = command
        self.env: Mapping[str, Any] | None = env
        self.cwd = cwd
        self.upload = upload
        self.exclude = exclude
        self.download = download
        self.ssh_options = ssh_options
        self.ssh_command = ssh_command
        self.login_timeout = login_timeout
        self.ready_timeout = ready_timeout
        self.interval = interval
        self._is_executing = False
        self._rented: LeaseStarted | None = None
        # Client and name of a pod that may have been ordered, but is not ready.
        self._ordered: tuple[Client, str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Rent a pod, run the command on it, and delete the pod."""
        name = self._pod_name(context)
        self._check_arguments()
        try:
            self._is_executing = True
            with _without_retries():
                client = PrimePodsHook(self.prime_conn_id).get_conn(on_event=self._note_order)
            with client:
                self._ordered = (client, name)
                if context["ti"].try_number > 1:
                    for pod in find_by_name(client, name):
                        self.log.warning("Deleting a pod that an earlier try has left: %s", pod)
                        client.pods.delete(pod, missing_ok=True)
                with _without_retries():
                    lease = self._make_lease(context, client, name)
                return self._run(context, lease)
        except _KilledError as exc:
            # The lease adds a note if it could not delete the pod.
            notes = getattr(exc, "__notes__", ["Its pod was deleted, unless it was still being ordered."])
            raise PodTaskError(" ".join(["The task was killed.", *notes])) from exc
        except BudgetExceededError as exc:
            if exc.budget == "hourly":
                # A retry may succeed once other pods have ended.
                raise
            raise AirflowFailException(str(exc)) from exc
        finally:
            self._is_executing = False

    def on_kill(self) -> None:
        """End the command and delete the pod, by raising an exception in the task."""
        # Do not log in this signal handler: the task may be writing a line of its log.
        # Airflow also calls this after `execution_timeout`, when the lease has ended: nothing is left to do.
        if not self._is_executing:
            return
        self._is_executing = False
        if self._ordered is not None:
            threading.Thread(target=self._delete_ordered, args=self._ordered, daemon=True).start()
        raise _KilledError

    def _delete_ordered(self, client: Client, name: str) -> None:
        """Delete the pod by its name: the lease may not know its id yet."""
        try:
            delete_by_name(client, name, KILL_TIMEOUT)
        except PrimePodsError as exc:
            self.log.warning("The pods named %s may not have been deleted: %s", name, exc)

    def _check_arguments(self) -> None:
        """Check the arguments, which may be rendered templates of any type, before a pod is billed.

        Raises:
            PodTaskError: A path to upload does not exist on this worker.
            AirflowFailException: An argument is invalid.
        """
        with _without_retries("Nothing was rented, because an argument is invalid: {}."):
            if self.max_hours is None:
                raise ValueError(
                    "max_hours is not set, but it must limit the cost of a pod that a killed worker leaves"
                )
            for argument in ("env", "upload", "download"):
                _check_mapping(argument, getattr(self, argument))
            check_work(
                cast("str | Sequence[str]", self.command),
                env=self.env,
                cwd=self.cwd,
                exclude=self.exclude,
                downloads=self.download or (),
            )
        missing = [path for path in self.upload or {} if not Path(path).exists()]
        if missing:
            raise PodTaskError(
                f"Nothing was rented: the path {missing[0]!r} in upload does not exist on this worker."
            )

    def _note_order(self, event: Event) -> None:
        if isinstance(event, LeaseStarted):
            self._rented = event

    def _make_lease(self, context: Context, client: Client, name: str) -> Lease:
        def on_change(change: PodChange) -> None:
            # `_note_order` runs in the client's thread, where nothing may wait for Airflow.
            rented, self._rented = self._rented, None
            if rented is not None:
                self._announce(context, rented.pod_id, rented.name, rented.price_hr)
            self.log.info("%s", change)

        return client.pods.lease(
            self._find_specs(client, name),
            login=True,
            login_timeout=float(self.login_timeout),
            ssh_options=self.ssh_options,
            ssh_command=self.ssh_command,
            ready_timeout=float(self.ready_timeout),
            interval=float(self.interval),
            on_change=on_change,
            max_hours=self._max_hours,
        )

    def _run(self, context: Context, lease: Lease) -> dict[str, Any]:
        with lease as pod:
            self._ordered = None
            last_lines = deque[str](maxlen=_MAX_LAST_LINES)
            code = self._work(pod, last_lines)
            if code:
                for key, value in _result(pod, code).items():
                    context["ti"].xcom_push(key=key, value=value)
                lines = "\n".join(
                    ["Its last lines:", *last_lines] if last_lines else ["It has written nothing."]
                )
                raise PodTaskError(f"The command ended with exit code {code}. {lines}")
        self.log.info("Pod %s is gone and has cost about $%.2f", pod.name, pod.spent())
        return _result(pod, 0)

    def _work(self, pod: LeasedPod, last_lines: deque[str]) -> int:
        """Return the command's exit code."""

        def on_line(line: OutputLine) -> None:
            last_lines.append(line.text)
            self.log.info("%s", line.text)

        for local, remote in (self.upload or {}).items():
            pod.upload(local, remote, exclude=self.exclude)
            self.log.info("Uploaded %s to %s", local, remote)
        try:
            # Airflow has replaced an XComArg with its value.
            command = cast("str | Sequence[str]", self.command)
            result = pod.run(command, env=self.env, cwd=self.cwd, on_line=on_line, check=False)
        except ConnectionLostError:
            # Fetch the results so far before the pod is deleted.
            self._fetch(pod)
            raise
        error = self._fetch(pod)
        if error is not None and not result.exit_code:
            raise error
        return result.exit_code

    def _fetch(self, pod: LeasedPod) -> Exception | None:
        """Download everything that can be downloaded; log the errors, and return the last one."""
        error: Exception | None = None
        for remote, local in (self.download or {}).items():
            try:
                pod.download(remote, local)
            except (TransferError, ConnectionLostError, OSError) as exc:
                error = exc
                self.log.error("%s", exc)  # noqa: TRY400 - the message is enough
            else:
                self.log.info("Downloaded %s to %s", remote, local)
        return error


@contextmanager
def _without_retries(message: str = "{}") -> Iterator[None]:
    """Turn a TypeError or ValueError into a failure without retries; ``{}`` stands for its text."""
    try:
        yield
    except (TypeError, ValueError) as exc:
        raise AirflowFailException(message.format(exc)) from exc


def _check_mapping(argument: str, value: object) -> None:
    """Check that a value is ``None`` or maps strings to strings; only values of ``env`` may be empty."""
    if not isinstance(value, Mapping | None):
        raise TypeError(f"{argument} must be a mapping, not {type(value).__name__}")
    for key, text in cast("Mapping[object, object]", value or {}).items():
        are_texts = isinstance(key, str) and isinstance(text, str)
        if not are_texts or not key or (not text and argument != "env"):
            raise ValueError(
                f"{argument} has an invalid entry {key!r}: names and values must be strings, and only values "
                "of env may be empty"
            )


def _result(pod: LeasedPod, exit_code: int) -> dict[str, Any]:
    return {
        "exit_code": exit_code,
        "id": pod.id,
        "name": pod.name,
        "price_hr": pod.price_hr,
        "spent": pod.spent(),
    }
