"""Jobs: commands on a pod that outlive the connection and the process that started them."""

from __future__ import annotations

import math
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Final, Self

import anyio

from .._utils.arguments import check_flag, check_seconds
from .._utils.text import clip, one_line, quote
from ..errors import CommandTimeoutError, ConnectionLostError, JobError
from ._command import MAX_CAPTURED, Output, check_exit_code
from ._exchange import exchange
from ._job_reader import JobLines, JobReader, missing_job_error, split_offset
from ._job_scripts import check_job_name, job_script, parse_states, start_script
from ._output import Tail
from ._reconnect import GetLogin, Reconnection
from .results import CommandResult, JobState, OutputLine, Stream

_MAX_OUTPUT: Final = 1 << 20


class AsyncJob:
    """A command that keeps running on a pod when its connection, its terminal or this process ends.

    It comes from ``start``, ``job`` or ``jobs`` of an :class:`AsyncRemote` or a leased pod. Its output and
    its exit code are files on the pod.

    Attributes:
        name: Its name on the pod.
        pod_id: The pod's id.
    """

    def __init__(self, pod_id: str, name: str, get_login: GetLogin) -> None:
        self.pod_id = pod_id
        self.name: str = check_job_name(name)
        self._get_login = get_login

    def output(self, *, offset: int = 0, follow: bool = True, reconnect: float = 900.0) -> AsyncJobOutput:
        """Return an iterator over the lines of output; it ends when the command has ended.

        Lines of one stream are in order; the order between the two streams is approximate. The iteration may
        raise a ``JobError``, ``LoginError`` or ``ConnectionLostError``; see :meth:`wait`.

        Args:
            offset: ``offset`` of the last line that you have; 0 to read all output.
            follow: ``False`` to end with the last complete line that there is now; the iterator's ``state``
                then says whether the command runs.
            reconnect: Seconds to try to connect again after each lost connection.
        """
        return AsyncJobOutput(job_lines(self, offset=offset, follow=follow, reconnect=reconnect))

    async def wait(
        self,
        *,
        timeout: float | None = None,
        check: bool = True,
        capture: bool = True,
        offset: int = 0,
        reconnect: float = 900.0,
    ) -> CommandResult:
        """Wait for the command's end, and return how it ended.

        Args:
            timeout: Seconds to wait, by default for ever. A timeout does not end the command.
            check: Whether a nonzero exit code is an error.
            capture: ``False`` passes the output on to this process's own standard output and error as it
                arrives; the result then holds only the last 64 KiB of each stream.
            offset: Start of the output for ``capture=False``; see :meth:`output`.
            reconnect: Seconds to try to connect again after each lost connection.

        Raises:
            CommandError: With ``check``: the exit code is not 0.
            CommandTimeoutError: The end of the command was not seen within ``timeout``.
            JobError: The pod has no such job, or the job has ended without an exit code.
            LoginError: No login succeeded.
            ConnectionLostError: The connection was lost, and not restored within ``reconnect`` seconds.
        """
        if timeout is not None:
            check_seconds("timeout", timeout)
        check_flag("check", check)
        check_flag("capture", capture)
        reader = _make_reader(self, offset, reconnect)
        reader.tail = MAX_CAPTURED if capture else None
        outputs: dict[Stream, Output] = {
            stream: Output(stream, None, capture=capture) for stream in reader.positions
        }
        started_at = anyio.current_time()
        async with aclosing(reader):
            with anyio.move_on_after(timeout), closing(outputs["stdout"]), closing(outputs["stderr"]):
                while pieces := await reader.read():
                    for stream, piece in pieces:
                        await outputs[stream].add(piece)
        stdout, stderr = outputs["stdout"].tail.text(), outputs["stderr"].tail.text()
        state = reader.state
        if state is None or state.exit_code is None or state.ended_at is None:
            raise CommandTimeoutError(
                f"The end of the job {self.name} on pod {self.pod_id} was not seen within {timeout:g} s. The "
                "job was not stopped.",
                pod_id=self.pod_id,
                exit_code=None,
                stdout=stdout,
                stderr=stderr,
                seconds=anyio.current_time() - started_at,
            )
        result = CommandResult(
            exit_code=state.exit_code,
            seconds=(state.ended_at - state.started_at).total_seconds(),
            stdout=stdout,
            stderr=stderr,
            is_truncated=any(reader.positions[stream] > outputs[stream].tail.limit for stream in outputs),
        )
        if check:
            check_exit_code(result, f"The job {self.name} on pod {self.pod_id}", self.pod_id)
        return result

    async def state(self) -> JobState:
        """Return whether the command runs, and its exit code if it has ended.

        Raises:
            JobError: The pod has no such job, or its state cannot be read.
            LoginError: No login succeeded.
            ConnectionLostError: The connection was lost, and not restored within ``login_timeout``.
        """
        return await self._send("find")

    async def stop(self, *, grace: float = 10.0) -> JobState:
        """End the command and the processes that it has started, and return the job's state.

        The processes are found by their process group and their environment.

        Args:
            grace: Seconds between SIGTERM and SIGKILL.

        Raises:
            JobError: The pod has no such job, or some of its processes do not end.
            LoginError: No login succeeded.
            ConnectionLostError: The connection was lost, and not restored within ``login_timeout``. You can
                safely stop the job again.
        """
        check_seconds("grace", grace, minimum=0)
        return await self._send("stop", str(round(grace * 10)), lasts=grace)

    async def _send(self, action: str, *arguments: str, lasts: float = 0.0) -> JobState:
        script = job_script(action, self.name, *arguments)
        states = await run_job_script(self.pod_id, self._get_login, script, self.name, lasts=lasts)
        if self.name not in states:
            raise missing_job_error(self.pod_id, self.name, list(states))
        return states[self.name]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} on {self.pod_id}>"


class AsyncJobOutput:
    """The lines of a job's output; see ``output`` of a job.

    A cancelled ``anext`` loses no line and can be repeated. After an early ``break``, garbage collection
    closes the connection; ``async with`` closes it at once.
    """

    def __init__(self, source: JobLines) -> None:
        self._source = source
        self._lines: deque[OutputLine] = deque()

    @property
    def state(self) -> JobState | None:
        """The job's state at the end of the iteration; ``None`` before."""
        return self._source.state

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> OutputLine:
        # Another task may take the last line meanwhile.
        while not self._lines:
            self._lines.extend(await anext(self._source))
        return self._lines.popleft()

    async def aclose(self) -> None:
        """Stop the iteration, and close its connection."""
        self._lines.clear()
        await self._source.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def job_lines(job: AsyncJob, *, offset: int, follow: bool, reconnect: float) -> JobLines:
    """Return the reader of a job's lines; see :meth:`AsyncJob.output`."""
    check_flag("follow", follow)
    reader = _make_reader(job, offset, reconnect)
    reader.is_once = not follow
    return JobLines(reader)


def _make_reader(job: AsyncJob, offset: int, reconnect: float) -> JobReader:
    check_seconds("reconnect", reconnect, minimum=0)
    if type(offset) is not int or offset < 0:
        raise ValueError(f"offset must be the offset of a line of output, got {quote(offset)}")
    get_login = job._get_login  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its own module
    remedy = f"The job {job.name} may still run: continue with pods.remote(…).job({job.name!r})."
    connection = Reconnection(
        get_login, reconnect, "Its command keeps running unless the pod restarts", remedy
    )
    return JobReader(job.pod_id, job.name, connection, split_offset(offset))


async def read_output(
    job: AsyncJob, *, stdout: int, stderr: int, reconnect: float, write: Callable[[Stream, bytes], object]
) -> JobState:
    """Pass a job's output from two offsets to ``write`` until the job ends; return the job's state.

    Raises:
        JobError, LoginError, ConnectionLostError: See :meth:`AsyncJob.wait`.
    """
    reader = _make_reader(job, 0, reconnect)
    reader.positions = {"stdout": stdout, "stderr": stderr}
    async with aclosing(reader):
        while pieces := await reader.read():
            for stream, piece in pieces:
                write(stream, piece)
    if reader.state is None:
        raise AssertionError  # `read` returns nothing only at the end
    return reader.state


async def start_job(
    pod_id: str,
    get_login: GetLogin,
    command: str | Sequence[str],
    *,
    name: str | None,
    env: Mapping[str, str] | None,
    cwd: str | None,
) -> AsyncJob:
    """Start a job once; see :meth:`AsyncRemote.start`."""
    token = secrets.token_hex(16)
    name = f"job-{token[:10]}" if name is None else check_job_name(name)
    script = start_script(command, name=name, token=token, env=env or {}, cwd=cwd)
    states = await run_job_script(pod_id, get_login, script, name)
    if other := states.get(name):
        raise JobError(
            f"Pod {pod_id} has another job {name}, which {'still' if other.is_running else 'no longer'} runs "
            f"and began at {other.started_at:%Y-%m-%d %H:%M} UTC. Nothing was started: follow that one with "
            f"job({name!r}), or choose another name.",
            pod_id=pod_id,
            name=name,
        )
    return AsyncJob(pod_id, name, get_login)


async def list_jobs(pod_id: str, get_login: GetLogin) -> tuple[AsyncJob, ...]:
    """Return all jobs of a pod; see :meth:`AsyncRemote.jobs`."""
    states = await run_job_script(pod_id, get_login, job_script("list", ""))
    oldest_first = sorted(states.values(), key=lambda state: state.started_at)
    return tuple(AsyncJob(pod_id, state.name, get_login) for state in oldest_first)


async def run_job_script(
    pod_id: str, get_login: GetLogin, script: bytes, name: str = "", *, lasts: float = 0.0
) -> dict[str, JobState]:
    """Run a script, and return the job states that it prints; run it again if the connection is lost.

    Args:
        pod_id: The pod's id.
        get_login: Returns the login.
        script: The script.
        name: The job's name; empty for a list.
        lasts: Seconds that the script may wait on the pod; ``login_timeout`` is added after a loss.

    Raises:
        JobError: The script has failed.
        LoginError: No login succeeded.
        ConnectionLostError: The connection was lost, and not restored within ``login_timeout``.
    """
    request = f"request for the job {name}" if name else "request for the list of jobs"
    remedy = "see jobs()"
    code, printed, said = await run_script(get_login, script, request, remedy=remedy, lasts=lasts)
    if code:
        message = f"The {request} on pod {pod_id} failed with exit code {code}"
        raise JobError(f"{message}: {said}." if said else f"{message}.", pod_id=pod_id, name=name)
    return {state.name: state for state in parse_states(printed)}


async def run_script(
    get_login: GetLogin, script: bytes, request: str, *, remedy: str, lasts: float = 0.0
) -> tuple[int, str, str]:
    """Run a script, again if the connection is lost; return its exit code, its output and what it said.

    Args:
        get_login: Returns the login.
        script: The script.
        request: Noun phrase for messages.
        remedy: How to find out whether it was carried out.
        lasts: Seconds that the script may wait on the pod; ``login_timeout`` is added after a loss.

    Raises:
        LoginError: No login succeeded.
        ConnectionLostError: The connection was lost, and not restored within ``login_timeout``.
    """
    timeout = (await get_login()).options.login_timeout + lasts
    remedy = f"The {request} may have been carried out: {remedy}."
    # Else a request whose connections last, but never long enough, would be repeated for ever.
    state = f"The {request} is sent again"
    connection = Reconnection(get_login, timeout, state, remedy, good_after=math.inf)
    stderr = Tail(_MAX_OUTPUT)
    while True:
        async with aclosing(connection):
            try:
                session = await connection.open()
            except ConnectionLostError as exc:
                exc.stderr = stderr.text()
                raise
            stdout, stderr = Tail(_MAX_OUTPUT), Tail(_MAX_OUTPUT)
            # The script goes on without its connection: a cancelled call does not wait for its end.
            await exchange(session, script, bool, {"stdout": stdout.add, "stderr": stderr.add})
        if session.stderr.exit_code is not None:
            return session.stderr.exit_code, stdout.text(), clip(one_line(stderr.text()), 500)
        await connection.note_loss()
