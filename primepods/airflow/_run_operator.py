"""The operator that rents a pod for one command, which runs as a job.

A retry finds the pod by its task's name, adopts it with a lease of its own, and follows the job that it finds
there.

When Airflow kills a task, it calls ``on_kill`` in a signal handler of the process that runs ``execute``, and
ends the process after 5 seconds. ``on_kill`` raises ``_KilledError`` in ``execute``, so the lease ends as
after any exception, and deletes its pod. Until the pod is ready, the lease may not know its id. In that time,
``on_kill`` also starts a thread that deletes the pod by its name.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar, cast

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowFailException,
    AirflowTaskTimeout,
    Context,
    TaskInstanceState,
    XComArg,
    timeout,
)

from .. import (
    BudgetExceededError,
    Client,
    ConnectionLostError,
    Job,
    JobError,
    Lease,
    LeasedPod,
    LoginError,
    NotFoundError,
    Pod,
    PodChange,
    PodFailedError,
    PodSpec,
    PrimePodsError,
    TransferError,
    check_work,
)
from ..events import Event, LeaseStarted
from ._events import PodEvent
from ._renting import KILL_TIMEOUT, RentingOperator, delete_by_name
from ._waits import default_deferrable
from .exceptions import PodTaskError, PodTimeoutError
from .hooks import PrimePodsHook, state_of
from .triggers import TRIGGERER_GRACE, PrimeJobTrigger

_STATE_TIMEOUT: Final = 2.0
"""Seconds of Airflow's 5 for the request of the state of a task that is killed."""
_FETCH_TIMEOUT: Final = 300.0
"""Seconds for results after ``execution_timeout``; before ``max_hours`` at most a tenth of it.

The same as for ``primepods run``: Airflow sets no limit, but the pod is billed.
"""
_LOST: Final = (ConnectionLostError, LoginError)
"""Errors after which the job may run: the pod is kept for a retry, which continues with it."""
_MAX_LAST_LINES: Final = 10
"""Max lines of output in the error of a command that has failed."""


R = TypeVar("R")


class _KilledError(BaseException):
    """Raised by ``on_kill`` during the task; no ``except Exception`` catches it."""


class PrimeRunPodOperator(RentingOperator):
    """Operator that rents a pod for one task, runs one command on it, and deletes the pod.

    It logs in with the system's ``ssh``, uploads files, runs the command as a job and downloads files. The
    output is written to the task's log, line by line. After success, a failure, ``max_hours`` or
    ``execution_timeout``, the operator downloads files, deletes the pod and confirms that the pod is gone.
    When the task is marked failed or cleared, Airflow allows 5 seconds: nothing is downloaded, and the
    deletion is sent, but may not be confirmed. If the task is killed during the order, the pod may be left.

    The job outlives the worker. If a worker is killed or asked to end, or loses the connection, a retry
    continues with the same pod and job. It begins anew if the pod or the job is lost.

    The return value has ``exit_code``, ``id``, ``name``, ``price_hr`` and ``spent`` (the approximate cost, at
    the highest price that was seen). XCom also has them under their names, even if the command has failed.

    With ``deferrable``, the worker's slot is free while the job runs. The triggerer then needs ``ssh`` and
    the key, too.

    Args:
        command: A line for the shell on the pod, or a list of arguments.
        spec: The fields of :class:`primepods.PodSpec`; its ``name`` is the prefix of the pod's name.
        gpu_type: The GPU, as in ``client.availability.find``, instead of a spec: matching offers are tried in
            order of their price until one is available, boots and accepts the login.
        gpu_count: Number of GPUs.
        max_price: Max price per hour; by default that of the spec or offer.
        exclude_providers: Providers to skip.
        max_hours: Hours from the order until the pod is deleted. Five minutes before, at most a tenth of
            ``max_hours``, the files are downloaded. The task then fails without retries. If the worker is
            killed and no retry deletes the pod, ``client.pods.sweep(expired=True)`` does, by the time in the
            pod's name.
        env: Environment variables of the command.
        cwd: The working directory of the command on the pod; by default the home directory.
        upload: Local files and folders, with their targets on the pod.
        exclude: Patterns of files to leave out; see :meth:`primepods.Remote.upload`.
        download: Paths on the pod, with their local targets; downloaded even if the command has failed, or
            for up to five minutes after ``execution_timeout``.
        ssh_options: Options of ``ssh``, such as ``["-i", "/keys/id_ed25519"]``.
        ssh_command: Command line to run instead of ``ssh``.
        login_timeout: Seconds for a ready pod to accept the login.
        ready_timeout: Seconds for a pod to become ready.
        interval: Seconds between two polls of the pod.
        adopt: ``False`` to begin anew in each try.
        deferrable: Whether the triggerer follows the job; by default Airflow's ``[operators]
            default_deferrable``.
        job_interval: Seconds between two polls of the job in the triggerer.
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
        *("login_timeout", "ready_timeout", "interval", "job_interval"),
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
        adopt: bool = True,
        deferrable: bool | None = None,
        job_interval: float = 60.0,
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
        self.adopt = adopt
        self.deferrable: bool = default_deferrable() if deferrable is None else deferrable
        self.job_interval = job_interval
        self._task: Any = None
        self._is_executing = False
        self._has_pod = False
        self._is_kept = False
        self._rented: LeaseStarted | None = None
        # Client and name of a pod that may have been ordered, but is not ready.
        self._ordered: tuple[Client, str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Rent a pod, run the command on it as a job, and delete the pod."""
        name = self._pod_name(context)
        self._check_arguments()

        def work(client: Client) -> dict[str, Any]:
            earlier = None
            if context["ti"].try_number > 1:
                earlier = self._adopt_or_delete(client, name, may_adopt=self.adopt)
            result = None if earlier is None else self._continue(context, client, earlier)
            if result is not None:
                return result
            with _without_retries():
                specs = self._find_specs(client, name)
            return self._run(context, self._make_lease(context, client, specs, self._wind_down))

        return self._execute(context, name, work)

    def execute_complete(self, context: Context, event: PodEvent) -> dict[str, Any]:
        """Resume after the trigger: fetch the results, and delete the pod."""
        self.log.info("%s", event["message"])
        name = self._pod_name(context)

        def work(client: Client) -> dict[str, Any]:
            if event["status"] == "timeout":
                self._end(context, client, name)
                limit = self.execution_timeout
                is_retryable = limit is not None and limit.total_seconds() < self._limit - self._wind_down
                raise (PodTimeoutError if is_retryable else AirflowFailException)(event["message"])
            pod = self._adopt_or_delete(client, name)
            result = None if pod is None else self._continue(context, client, pod, ends=True)
            if result is None:
                raise PodTaskError(f"The pod or its job is lost. {event['message']}")
            return result

        return self._execute(context, name, work)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume after the trigger or its failure; see :meth:`BaseOperator.resume_execution`."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except AirflowException:
            # If the trigger has failed, a retry continues with the job.
            has_trigger_failed = next_method != self.execute_complete.__name__
            if has_trigger_failed and not _will_retry(context["ti"]):
                name = self._pod_name(context)
                self._execute(context, name, lambda client: self._end(context, client, name))
            raise

    def _end(self, context: Context, client: Client, name: str) -> None:
        """Fetch the results of a job that is no longer followed, and delete its pod; log the errors."""
        pod = self._adopt_or_delete(client, name)
        if pod is None:
            return
        try:
            with self._make_lease(context, client, pod, wind_down=0.0) as leased:
                self._fetch_late(leased)
        except PrimePodsError as exc:
            self.log.log(logging.ERROR, "%s", exc)  # without a traceback

    def _execute(self, context: Context, name: str, work: Callable[[Client], R]) -> R:
        self._task = context["ti"]
        try:
            self._is_executing = True
            with _without_retries():
                client = PrimePodsHook(self.prime_conn_id).get_conn(on_event=self._note_order)
            with client:
                self._ordered = (client, name)
                return work(client)
        except _KilledError as exc:
            # The lease adds a note if it could not delete the pod.
            fate = (
                "A retry continues with its job." if self._is_kept else "Its pod is deleted, if it has one."
            )
            notes = getattr(exc, "__notes__", [fate])
            raise PodTaskError(" ".join(["The task was killed.", *notes])) from exc
        except BudgetExceededError as exc:
            if exc.budget == "hourly":
                # A retry may succeed once other pods have ended.
                raise
            raise AirflowFailException(str(exc)) from exc
        finally:
            self._is_executing = False

    def on_kill(self) -> None:
        """End the task: the pod is deleted, unless the worker was asked to end, and a retry will continue."""
        # Do not log in this signal handler: the task may be writing a line of its log.
        # Airflow also calls this after `execution_timeout`, when the lease has ended: nothing is left to do.
        if not self._is_executing:
            return
        self._is_executing = False
        if self._has_pod and self.adopt and _will_retry(self._task):
            # In a thread: the signal may have interrupted another request to Airflow, which holds a lock.
            states: list[str | None] = []
            request = threading.Thread(target=lambda: states.append(state_of(self._task)), daemon=True)
            request.start()
            request.join(_STATE_TIMEOUT)
            self._is_kept = states == [TaskInstanceState.RUNNING]
        elif self._ordered is not None:
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

    @property
    def _limit(self) -> float:
        """The seconds of ``max_hours``."""
        return float(self.max_hours or 0) * 3600

    @property
    def _wind_down(self) -> float:
        """Seconds before ``max_hours`` in which the results are fetched."""
        return min(_FETCH_TIMEOUT, self._limit / 10)

    def _make_lease(
        self, context: Context, client: Client, specs: Pod | list[PodSpec], wind_down: float
    ) -> Lease:
        def on_change(change: PodChange) -> None:
            # `_note_order` runs in the client's thread, where nothing may wait for Airflow.
            rented, self._rented = self._rented, None
            if rented is not None:
                self._announce(context, rented.pod_id, rented.name, rented.price_hr)
            self.log.info("%s", change)

        with _without_retries():
            return client.pods.lease(
                specs,
                login=True,
                login_timeout=float(self.login_timeout),
                ssh_options=self.ssh_options,
                ssh_command=self.ssh_command,
                ready_timeout=float(self.ready_timeout),
                interval=float(self.interval),
                on_change=on_change,
                max_hours=self._max_hours,
                wind_down=wind_down,
            )

    def _continue(
        self, context: Context, client: Client, pod: Pod, *, ends: bool = False
    ) -> dict[str, Any] | None:
        """Continue on the pod of an earlier try; return ``None`` if it or its job is lost."""
        age = 0.0 if pod.created_at is None else time.time() - pod.created_at.timestamp()
        # A lease that begins in its wind-down ends at once, and nothing could be fetched.
        wind_down = min(self._wind_down, max(0.0, self._limit - age) / 2)
        lease = self._make_lease(context, client, pod, wind_down)
        self._announce(context, pod.id, str(pod.name), pod.price_hr)
        try:
            return self._run(context, lease, is_adopted=True, ends=ends)
        except (JobError, NotFoundError, PodFailedError) as exc:
            self.log.warning("The work of an earlier try is lost: %s", exc)
            return None

    def _run(
        self, context: Context, lease: Lease, *, is_adopted: bool = False, ends: bool = False
    ) -> dict[str, Any]:
        with lease as pod:
            self._ordered, self._has_pod = None, True
            try:
                try:
                    trigger = self._work(context, pod, is_adopted=is_adopted, ends=ends)
                except AirflowTaskTimeout:
                    # It may have interrupted a download.
                    self._fetch_late(pod)
                    raise
            except _KilledError:
                if self._is_kept:
                    pod.keep()
                raise
        if trigger is not None:
            limit = None if self.execution_timeout is None else self.execution_timeout + TRIGGERER_GRACE
            self.defer(trigger=trigger, method_name="execute_complete", timeout=limit)
        self.log.info("Pod %s is gone and has cost about $%.2f", pod.name, pod.spent())
        return _result(pod, 0)

    def _work(
        self, context: Context, pod: LeasedPod, *, is_adopted: bool, ends: bool
    ) -> PrimeJobTrigger | None:
        """Run the command and fetch the results; return the trigger to defer to, if the pod was kept for it.

        However the command ends, the results are fetched, unless a retry continues with it.
        """
        error: Exception | None = None
        try:
            job = self._start_job(pod, is_adopted=is_adopted)
            if self.deferrable and not ends and job.state().is_running:
                trigger = self._make_trigger(pod)
                pod.keep()
                return trigger
            code, last_lines = self._follow(job, is_logged=not ends)
            if code:
                error = self._report_failure(context, pod, code, last_lines)
        except Exception as exc:  # noqa: BLE001 - raised again below
            error = exc
        may_continue = self.adopt and _will_retry(context["ti"])
        if not (may_continue and isinstance(error, _LOST)):
            failure = self._fetch(pod)
            error = error or failure
        if may_continue and isinstance(error, _LOST):
            pod.keep()
        if error is not None:
            raise error
        return None

    def _start_job(self, pod: LeasedPod, *, is_adopted: bool) -> Job:
        """Return the job of an earlier try, or upload the files and start it."""
        name = _job_name(pod)
        if is_adopted and any(job.name == name for job in pod.jobs()):
            self.log.info("Continuing with the job of an earlier try, on pod %s", pod.id)
            job = pod.job(name)
        else:
            for local, remote in (self.upload or {}).items():
                pod.upload(local, remote, exclude=self.exclude)
                self.log.info("Uploaded %s to %s", local, remote)
            # Airflow has replaced an XComArg with its value.
            command = cast("str | Sequence[str]", self.command)
            job = pod.start(command, name=name, env=self.env, cwd=self.cwd)
        return job

    def _make_trigger(self, pod: LeasedPod) -> PrimeJobTrigger:
        seconds = (pod.seconds_left or 0.0) - self._wind_down
        if self.execution_timeout is not None:
            seconds = min(seconds, self.execution_timeout.total_seconds())
        return PrimeJobTrigger(
            pod_id=pod.id,
            prime_conn_id=self.prime_conn_id,
            end=time.time() + seconds,
            interval=float(self.job_interval),
            job=_job_name(pod),
            ssh_options=list(self.ssh_options),
            ssh_command=self.ssh_command,
            login_timeout=float(self.login_timeout),
        )

    def _follow(self, job: Job, *, is_logged: bool) -> tuple[int, deque[str]]:
        """Wait for the job's end; return the exit code, and the last lines of output."""
        last_lines = deque[str](maxlen=_MAX_LAST_LINES)
        output = job.output()
        for line in output:
            last_lines.append(line.text)
            if is_logged:
                self.log.info("%s", line.text)
        if output.state is None or output.state.exit_code is None:
            raise AssertionError  # an output ends with its job
        return output.state.exit_code, last_lines

    def _report_failure(
        self, context: Context, pod: LeasedPod, code: int, last_lines: Sequence[str]
    ) -> PodTaskError:
        """Push the result of a command that has failed, and return its error."""
        for key, value in _result(pod, code).items():
            context["ti"].xcom_push(key=key, value=value)
        lines = "\n".join(["Its last lines:", *last_lines] if last_lines else ["It has written nothing."])
        return PodTaskError(f"The command ended with exit code {code}. {lines}")

    def _fetch(self, pod: LeasedPod) -> Exception | None:
        """Download everything that can be downloaded; log the errors, and return the last one."""
        error: Exception | None = None
        for remote, local in (self.download or {}).items():
            try:
                pod.download(remote, local)
            except (PrimePodsError, OSError) as exc:
                error = exc
                self.log.log(logging.ERROR, "%s", exc)  # without a traceback
                if not isinstance(exc, TransferError | OSError):
                    break  # the others cannot be downloaded either
            else:
                self.log.info("Downloaded %s to %s", remote, local)
        return error

    def _fetch_late(self, pod: LeasedPod) -> None:
        """Download what can be downloaded in five minutes, when Airflow's own timeout is over."""
        try:
            with timeout(_FETCH_TIMEOUT):  # type: ignore[no-untyped-call,unused-ignore]  # untyped in some Airflows
                self._fetch(pod)
        except AirflowTaskTimeout:
            self.log.warning("Not all files were downloaded in the %g s after the timeout", _FETCH_TIMEOUT)


@contextmanager
def _without_retries(message: str = "{}") -> Iterator[None]:
    """Turn a TypeError or ValueError into a failure without retries; ``{}`` stands for its text."""
    try:
        yield
    except (TypeError, ValueError) as exc:
        raise AirflowFailException(message.format(exc)) from exc


def _job_name(pod: LeasedPod) -> str:
    """Return the job's name: that of the order, with the characters that a job's name may have."""
    return re.sub("[^A-Za-z0-9._-]", "-", pod.name).lstrip("._-")


def _will_retry(task_instance: Any) -> bool:
    return bool(task_instance.try_number <= task_instance.max_tries)


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
