"""Blocking counterparts of the remote from ``client.pods.remote``, and of its jobs and forwards."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, ParamSpec, Self, TypeVar

from .._utils.text import blocking_repr
from ..remote import AsyncForward, AsyncJob, AsyncRemote, JobLines, JobState, OutputLine, job_lines
from ._delegate import Delegate, blocking, like
from ._iterators import Stream
from ._portal import Portal

P = ParamSpec("P")
R = TypeVar("R")
A = TypeVar("A", bound=AsyncForward | AsyncJob)


class JobOutput(Stream[OutputLine]):
    """The lines of a job's output; see ``output`` of a job.

    After Ctrl-C, the iteration can continue without a loss. After an early ``break``, garbage collection
    closes the connection; a ``with`` block closes it at once.
    """

    def __init__(self, portal: Portal, source: JobLines, call: Callable[..., Any]) -> None:
        super().__init__(portal, source, flatten=True)
        self._call = call
        self._lines = source

    @property
    def state(self) -> JobState | None:
        """The job's state at the end of the iteration; ``None`` before."""
        return self._lines.state

    def _run(self, function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
        # On a leased pod, the end of the lease's budget ends the call.
        self._loop.check()
        return self._call(function)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _PartOfRemote(Delegate[A]):
    """Base class of blocking jobs and forwards; their calls go through the ``_call`` of their remote."""

    def __init__(self, portal: Portal, wrapped: A, call: Callable[..., Any]) -> None:
        super().__init__(portal, wrapped)
        self._call_remote = call
        self.pod_id: str = wrapped.pod_id

    def _call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        # On a leased pod, the end of the lease's budget ends the call.
        result: R = self._call_remote(function, *args, **kwargs)
        return result

    def __repr__(self) -> str:
        return blocking_repr(self._async)


class Job(_PartOfRemote[AsyncJob]):
    """A command that keeps running on a pod when its connection, its terminal or this process ends.

    Made by ``start``, ``job`` and ``jobs`` of a :class:`Remote` or a leased pod; ``job(name)`` sends
    nothing. The output and the exit code are stored in files on the pod.

    Attributes:
        name: The job's name on the pod.
        pod_id: The pod's id.
    """

    def __init__(self, portal: Portal, job: AsyncJob, call: Callable[..., Any]) -> None:
        super().__init__(portal, job, call)
        self.name: str = job.name

    @like(AsyncJob.output)
    def output(self, *, offset: int = 0, follow: bool = True, reconnect: float = 900.0) -> JobOutput:
        lines = job_lines(self._async, offset=offset, follow=follow, reconnect=reconnect)
        return JobOutput(self._portal, lines, self._call)

    wait: Final = blocking(AsyncJob.wait)
    state: Final = blocking(AsyncJob.state)
    stop: Final = blocking(AsyncJob.stop)


class Forward(_PartOfRemote[AsyncForward]):
    """Context manager that forwards ports of this machine to a pod; see ``forward`` of a remote.

    Attributes:
        pod_id: The pod's id.
    """

    @property
    def local_ports(self) -> tuple[int, ...]:
        """The local ports; known only inside the ``with`` block."""
        return self._async.local_ports

    @property
    def local_port(self) -> int:
        """The local port, or the first of several; known only inside the ``with`` block."""
        return self._async.local_port

    @property
    def url(self) -> str:
        """The URL for a browser on this machine; known only inside the ``with`` block."""
        return self._async.url

    wait: Final = blocking(AsyncForward.wait)

    def __enter__(self) -> Self:
        self._call(self._async.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._portal.call(self._async.__aexit__, kind, exc, traceback)


class Remote(Delegate[AsyncRemote]):
    """Client for commands and file copies on one pod, with the system's ``ssh``; see ``pods.remote``.

    Each call that uses the pod opens a connection; several calls can run at the same time. Your ssh
    configuration, keys and agent apply. The login is retried for ``login_timeout`` seconds; nothing is sent
    before it succeeds.
    """

    @property
    def pod_id(self) -> str:
        """The pod's id."""
        return self._async.pod_id

    run: Final = blocking(AsyncRemote.run)
    run_all: Final = blocking(AsyncRemote.run_all)

    @like(AsyncRemote.start)
    def start(
        self,
        command: str | Sequence[str],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> Job:
        job = self._call(self._async.start, command, name=name, env=env, cwd=cwd)
        return Job(self._portal, job, self._call)

    @like(AsyncRemote.job)
    def job(self, name: str) -> Job:
        return Job(self._portal, self._async.job(name), self._call)

    @like(AsyncRemote.jobs)
    def jobs(self) -> tuple[Job, ...]:
        return tuple(Job(self._portal, job, self._call) for job in self._call(self._async.jobs))

    @like(AsyncRemote.forward)
    def forward(self, port: int, *, local_port: int = 0, host: str = "localhost") -> Forward:
        forward = self._async.forward(port, local_port=local_port, host=host)
        return Forward(self._portal, forward, self._call)

    upload: Final = blocking(AsyncRemote.upload)
    download: Final = blocking(AsyncRemote.download)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id}>"
