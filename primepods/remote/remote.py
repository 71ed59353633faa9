"""Client for commands, jobs, copies and forwarded ports on one pod, leased or not."""

from __future__ import annotations

import os
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from .._utils.arguments import check_flag
from ..errors import CommandError, CommandTimeoutError, ConnectionLostError, LoginError
from ..models import Node
from ._exclude import Exclusion
from ._host_keys import machine_name
from .results import CommandResult, OnLine, OnProgress, UploadSize
from .ssh_options import SSHOptions

if TYPE_CHECKING:
    from ._login import Login
    from .forward import AsyncForward
    from .job import AsyncJob

_LOGIN_INTERVAL: Final = 1.0
_PORTS: Final = range(20_000, 32_000)
"""Ports to try, below those that Linux by default chooses for outgoing connections."""
_MAX_PORTS: Final = 32
"""Number of ports to try on the first node."""
_PRINT_FREE_PORT: Final = """for port do
  grep -qi ":$(printf %04x "$port") " /proc/net/tcp /proc/net/tcp6 2>/dev/null || { echo "$port"; exit; }
done; exit 1"""

FindNodes = Callable[[], Awaitable[tuple[Node, ...]]]


class AsyncRemote:
    """Client for commands and file copies on one pod, with the system's ``ssh``; see ``pods.remote``.

    Each call has its own connection; any number may run at once. Your ssh configuration, keys and agent
    apply. The login is retried for ``login_timeout``; nothing is sent before it succeeds. A call that reads
    the pod's address from the API may also raise the errors of ``pods.get``.
    """

    def __init__(
        self,
        pod_id: str,
        nodes: tuple[Node, ...] | FindNodes,
        options: SSHOptions,
        node: int | None = None,
    ) -> None:
        self._pod_id = pod_id
        self._nodes = nodes
        self._options = options
        self._node = node
        self._login: Login | None = None

    @property
    def pod_id(self) -> str:
        """The pod's id."""
        return self._pod_id

    async def run(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        input: str | bytes | None = None,
        timeout: float | None = None,
        on_line: OnLine | None = None,
        check: bool = True,
        capture: bool = True,
    ) -> CommandResult:
        """Run a command on the pod, and return how it ended.

        A command that is cancelled or times out is also ended on the pod: its process group gets SIGTERM
        and, if it still runs ten seconds later, SIGKILL. On a pod without ``setsid``, only the command's
        shell gets these signals. A lost connection has the same effect once the pod's ssh server notices it.
        Background processes of a command that ends by itself continue.

        Args:
            command: A line for the shell on the pod, or a list of arguments.
            env: Environment variables; sent through standard input, so that no argument or log shows them.
            cwd: The working directory. A relative path starts at the home directory.
            input: The command's standard input; by default empty.
            timeout: Seconds after the login; by default no limit.
            on_line: Callback, plain or async, for each :class:`~primepods.OutputLine` of standard output and
                error; with ``Client``, plain, and called in the calling thread. With a callback, the result
                holds only the last 64 KiB of each stream.
            check: Whether a nonzero exit code is an error.
            capture: ``False`` passes the output on to this process's own standard output and error as it
                arrives; the result then holds only the last 64 KiB of each stream.

        Raises:
            LoginError: No login succeeded. Nothing was run.
            CommandError: With ``check``: the exit code is not 0.
            CommandTimeoutError: The command ran longer than ``timeout``.
            ConnectionLostError: The connection was lost. The command may have run.
            ConfigError: ``ssh`` is missing, or the folder for host keys is unusable.
        """
        from ._command import Command

        job = Command(
            command, env=env, cwd=cwd, input=input, timeout=timeout, on_line=on_line, capture=capture
        )
        check_flag("check", check)
        return await job.run(await self._get_login(), check=check)

    async def run_all(
        self,
        command: str | Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float | None = None,
        on_line: OnLine | None = None,
    ) -> tuple[CommandResult, ...]:
        """Run a command on all nodes of the pod at once; return the results in the order of the nodes.

        The command gets variables with which programs on several nodes find each other: ``NODE_RANK``,
        ``NNODES``, ``MASTER_ADDR`` (the first node) and ``MASTER_PORT`` (a port that was free there). It also
        gets them with the prefix ``PET_``, for ``torchrun``. After the first failure or lost connection, a
        timeout or a cancellation, the command is ended on all nodes.

        Args:
            command: A line for the shell on each node, or a list of arguments.
            env: Environment variables; they override those above. See :meth:`run`.
            cwd: The working directory. A relative path starts at the home directory.
            timeout: Seconds after the login; by default no limit.
            on_line: Callback for each line of output, whose ``node`` is the number of its node, from 0; see
                :meth:`run`.

        Raises:
            LoginError: No login to a node succeeded, or a node has no address.
            CommandError: The exit code on a node is not 0, or no free port was found on the first node. The
                message names the node.
            CommandTimeoutError: The command ran longer than ``timeout``.
            ConnectionLostError: The connection was lost. The command may have run.
            ConfigError: ``ssh`` is missing, or the folder for host keys is unusable.
        """
        import anyio

        from ._command import Command
        from ._exchange import unwrap_first_error

        make = partial(Command, command, cwd=cwd, timeout=timeout, on_line=on_line, input=None, capture=True)
        # Refuse invalid arguments before anything is sent.
        make(env=env)
        self._check_usable()
        nodes = await find_nodes(self)
        variables = await rank_variables(nodes)
        results: dict[int, CommandResult] = {}

        async def run(rank: int) -> None:
            login = await get_login(nodes[rank])
            work = make(env={**variables[rank], **(env or {})}, node=rank)
            results[rank] = await work.run(login)

        # The first error cancels the commands of the other nodes, which ends them there.
        with unwrap_first_error():
            async with anyio.create_task_group() as group:
                for rank in range(len(nodes)):
                    group.start_soon(run, rank)
        return tuple(results[rank] for rank in range(len(nodes)))

    async def start(
        self,
        command: str | Sequence[str],
        *,
        name: str | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
    ) -> AsyncJob:
        """Start a command that keeps running when its connection, its terminal or this process ends.

        Returns once the pod has confirmed the start. The command starts only once, even if connections are
        lost; its input is empty. The folder ``~/.primepods/jobs/NAME`` on the pod, which only the pod's user
        can read, has the command, its output and its exit code.

        Args:
            command: A line for the shell on the pod, or a list of arguments.
            name: Name for :meth:`job`, of letters, digits, dots, hyphens and underscores; by default random.
            env: Environment variables; sent through standard input, so that no argument, file or log shows
                them.
            cwd: The working directory. A relative path starts at the home directory.

        Raises:
            JobError: The pod has a job of this name, or cannot start this one.
            LoginError: No login succeeded. Nothing was started.
            ConnectionLostError: The connection was lost, and not restored within ``login_timeout``. The
                command may have started.
            ConfigError: ``ssh`` is missing, or the folder for host keys is unusable.
        """
        from .job import start_job

        return await start_job(self.pod_id, self._get_login, command, name=name, env=env, cwd=cwd)

    def job(self, name: str) -> AsyncJob:
        """Return a job by its name, whether or not this process started it; send nothing.

        Args:
            name: The job's name.
        """
        from .job import AsyncJob

        return AsyncJob(self.pod_id, name, self._get_login)

    async def jobs(self) -> tuple[AsyncJob, ...]:
        """Return the pod's jobs, the oldest first.

        Raises:
            JobError: The pod cannot list its jobs.
            LoginError: No login succeeded.
            ConnectionLostError: The connection was lost, and not restored within ``login_timeout``.
        """
        from .job import list_jobs

        return await list_jobs(self.pod_id, self._get_login)

    def forward(self, port: int, *, local_port: int = 0, host: str = "localhost") -> AsyncForward:
        """Return a context manager that forwards a port of this machine to a port of the pod.

        Programs on this machine reach the port at ``.url``, or ``127.0.0.1`` and ``.local_port``; other
        machines do not. A lost connection is restored with the same port. If that does not succeed within 15
        minutes, the end of the block raises the error. No process is left at the end of the block, or of this
        process.

        Args:
            port: The port on the pod. A program may start to listen there later.
            local_port: The port of this machine; 0 for a free one.
            host: Name or address of the host, as seen from the pod; by default the pod itself.

        Raises:
            ConfigError: At the start of the block, if the local port is in use or ``ssh`` is missing.
            LoginError: At the start of the block, if no login succeeded.
        """
        return forward_ports(self, [(port, local_port, host)])

    async def upload(
        self,
        local: str | os.PathLike[str],
        remote: str,
        *,
        exclude: Iterable[str] = (),
        on_progress: OnProgress | None = None,
    ) -> None:
        """Copy a file or a folder to the pod, completely or not at all.

        The content of a folder goes into the folder ``remote``, which is created if needed; existing files of
        the same names are replaced. A file is named ``remote``, or goes into ``remote`` if that is a folder
        or ends with a slash. Modes, times, links and empty folders are kept; sockets, pipes and devices are
        left out. The pod needs ``tar`` and ``find``.

        Args:
            local: The local file or folder.
            remote: The target. A relative path starts at the home directory.
            exclude: Patterns of files and folders to leave out, as for rsync and tar. ``".git"`` and
                ``"*.pyc"`` match a name at any depth. ``"docs/build"`` matches the end of a path,
                ``"/build"`` only a path at the top, and ``"build/"`` only folders. ``*`` and ``?`` do not
                match a slash; ``**`` does.
            on_progress: Callback for the bytes so far, often and at the end; see ``on_line`` of :meth:`run`.

        Raises:
            LoginError: No login succeeded.
            TransferError: The pod cannot store the copy, ``local`` is neither a file nor a folder, or a file
                shrank while it was read.
            ConnectionLostError: The connection was lost.
            OSError: A local file cannot be read.
            ValueError: A path or a pattern is invalid.
        """
        from ._copy import Upload

        await Upload(local, remote, exclude, on_progress).run(await self._get_login())

    async def download(
        self, remote: str, local: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> None:
        """Copy a file or a folder from the pod, completely or not at all.

        The content of a folder goes into the folder ``local``, which is created if needed; existing files of
        the same names are replaced. A file is named ``local``, or goes into ``local`` if that is a folder or
        ends with a slash. Modes (without write permission for group and others), times, links and empty
        folders are kept. Links that point outside the folder, pipes and devices are left out; when everything
        else is copied, a ``TransferError`` reports them.

        Args:
            remote: The file or folder on the pod. A relative path starts at the home directory.
            local: The local target.
            on_progress: Callback for the bytes so far, often and at the end; see ``on_line`` of :meth:`run`.

        Raises:
            LoginError: No login succeeded.
            TransferError: There is no such file, it cannot be read, a path in it leads outside ``local``, a
                file would replace a folder or the reverse, or something was left out.
            ConnectionLostError: The connection was lost.
            OSError: A local file cannot be written.
        """
        from ._copy import Download

        await Download([remote], local, on_progress).run(await self._get_login())

    async def _find_nodes(self, *, again: bool = False) -> tuple[Node, ...]:
        """Return the nodes; a leased pod overrides this, and asks the API only with ``again``."""
        del again
        return await self._nodes() if callable(self._nodes) else self._nodes

    async def _get_login(self, *, again: bool = False) -> Login:
        """Return the login; with ``again``, find the nodes again first."""
        self._check_usable()
        if self._login is None or again:
            self._login = self._choose_login(await self._find_nodes(again=again))
        return self._login

    def _choose_login(self, nodes: Sequence[Node]) -> Login:
        """Return the login to the chosen node, by default to the first with an address.

        If the address is the same, this is the existing login.
        """
        from ._login import Login

        number = self._node
        if number is None:
            number = next((n for n, node in enumerate(nodes) if node.ssh is not None), 0)
        if number >= len(nodes):
            raise self._no_address_error(f"has no node {number}: it has {len(nodes)}, numbered from 0.")
        target = nodes[number].ssh
        if target is None:
            raise self._no_address_error(
                f"has no address for its node {number}. Wait with `pods.wait_ready({self._pod_id!r})`."
            )
        machine = machine_name(self._pod_id, number)
        if self._login is not None and (self._login.target, self._login.machine) == (target, machine):
            return self._login  # it counts the logins in progress
        return Login(
            pod_id=self._pod_id,
            target=target,
            options=self._options,
            label=self._pod_id if len(nodes) == 1 else f"{self._pod_id} (node {number})",
            machine=machine,
            ip=nodes[number].ip,
        )

    async def _split(self) -> tuple[AsyncRemote, ...]:
        """Return a remote for each node; see :func:`find_nodes`."""
        nodes = await self._find_nodes()
        if len(nodes) == 1:
            return (self,)
        find_again = partial(self._find_nodes, again=True)
        remotes: list[AsyncRemote] = []
        for number in range(len(nodes)):
            remote = AsyncRemote(self._pod_id, find_again, self._options, number)
            remote._login = remote._choose_login(nodes)
            remotes.append(remote)
        return tuple(remotes)

    def _limit_logins(self, seconds: float) -> None:
        self._options = attrs.evolve(self._options, login_timeout=min(seconds, self._options.login_timeout))
        if self._login is not None:
            self._login.options = self._options

    def _no_address_error(self, why: str) -> LoginError:
        return LoginError(f"Cannot log in: pod {self._pod_id} {why}", pod_id=self._pod_id, said="")

    def _check_usable(self) -> None:
        """Do nothing; a leased pod overrides this, and raises an error if it must not be used any more."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id}>"


async def get_login(remote: AsyncRemote, *, again: bool = False) -> Login:
    """Return the login to a pod; with ``again``, find its nodes again first."""
    return await remote._get_login(again=again)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its own module


async def wait_for_login(remote: AsyncRemote) -> None:
    """Wait until the pod accepts a login and a command ends there.

    Raises:
        LoginError: No login succeeded, or no command ended within ``login_timeout``.
        ConfigError: ``ssh`` is missing, or the folder for host keys is unusable.
    """
    import anyio

    from ._exchange import exchange
    from ._scripts import command_script
    from ._session import drop

    login = await get_login(remote)
    script = command_script("true", env={}, cwd=None)
    timeout = login.options.login_timeout
    ends_at = anyio.current_time() + timeout
    problem = ""
    while True:
        try:
            async with login.session(timeout=max(0.0, ends_at - anyio.current_time())) as session:
                with anyio.CancelScope(deadline=ends_at) as scope:
                    await exchange(session, script, None, {"stdout": drop, "stderr": drop})
        except LoginError:
            if not problem or anyio.current_time() < ends_at:
                raise
        else:
            if session.stderr.exit_code is not None:
                return
            # A lost connection does not show whether the pod works.
            problem = "a command does not end" if scope.cancelled_caught else "each connection is lost"
        if anyio.current_time() + _LOGIN_INTERVAL >= ends_at:
            raise LoginError(
                f"Logins to pod {login.label} succeed, but {problem} ({timeout:g} s).",
                pod_id=login.pod_id,
                said="",
            )
        await anyio.sleep(_LOGIN_INTERVAL)


async def run_check(
    remote: AsyncRemote, command: str | Sequence[str], gpu_count: int, timeout: float
) -> tuple[bool, str]:
    """Run a lease's check on all nodes; return whether it passed, and what it said.

    A lost connection does not show whether the pod works, so the check is then repeated.

    Args:
        remote: The pod.
        command: The check.
        gpu_count: Number of GPUs of all nodes.
        timeout: Seconds for the check, with its repetitions.
    """
    import anyio

    from ._command import last_text

    node_count = len(await find_nodes(remote))
    env = {"PRIMEPODS_GPU_COUNT": str(gpu_count // node_count)}
    run = remote.run if node_count == 1 else remote.run_all
    ends_at = anyio.current_time() + timeout
    while True:
        try:
            done = await run(command, env=env, timeout=max(0.001, ends_at - anyio.current_time()))
        except CommandTimeoutError:
            return False, f"it did not end within {timeout:g} s"
        except CommandError as exc:
            return False, last_text(exc.stderr) or last_text(exc.stdout) or f"exit code {exc.exit_code}"
        except ConnectionLostError as exc:
            if anyio.current_time() + _LOGIN_INTERVAL >= ends_at:
                return False, str(exc)
            await anyio.sleep(_LOGIN_INTERVAL)
        else:
            results = (done,) if isinstance(done, CommandResult) else done
            return True, "; ".join(dict.fromkeys(filter(None, (last_text(one.stderr) for one in results))))


def forward_ports(remote: AsyncRemote, ports: Iterable[tuple[int, int, str]]) -> AsyncForward:
    """Return a context manager that forwards several ports over one connection; see ``forward``.

    Each of ``ports`` is a port on the pod, a local port, and a host.
    """
    from .forward import AsyncForward

    return AsyncForward(remote.pod_id, partial(get_login, remote), ports)


async def download_first(
    remote: AsyncRemote,
    paths: Sequence[str],
    local: str | os.PathLike[str],
    *,
    on_progress: OnProgress | None = None,
    since: str = "",
) -> None:
    """Download the first of some paths that exists, or what changed after ``since``, a file on the pod."""
    from ._copy import Download

    await Download(paths, local, on_progress, since).run(await get_login(remote))


def limit_logins(remote: AsyncRemote, seconds: float) -> None:
    """Retry logins for at most ``seconds`` from now on, however long ``login_timeout`` is."""
    remote._limit_logins(seconds)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its own module


async def find_nodes(remote: AsyncRemote) -> tuple[AsyncRemote, ...]:
    """Return a remote for each node of a pod; for a pod with one node, the given one.

    Raises:
        PrimePodsError: The pod cannot be read, or a node has no address.
    """
    return await remote._split()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - its own module


async def rank_variables(nodes: Sequence[AsyncRemote]) -> list[dict[str, str]]:
    """Return the variables for a program on each node; see :meth:`AsyncRemote.run_all`.

    Raises:
        LoginError: No login to the first node succeeded.
        CommandError: No tried port is free on the first node.
        ConnectionLostError: The connection was lost.
    """
    login = await get_login(nodes[0])
    ports = map(str, secrets.SystemRandom().sample(_PORTS, _MAX_PORTS))
    port = (await nodes[0].run(["sh", "-c", _PRINT_FREE_PORT, "sh", *ports])).stdout.strip()
    shared = {"NNODES": str(len(nodes)), "MASTER_ADDR": login.address, "MASTER_PORT": port}
    variables = [{**shared, "NODE_RANK": str(rank)} for rank in range(len(nodes))]
    return [node | {f"PET_{name}": value for name, value in node.items()} for node in variables]


def measure_upload(local: str | os.PathLike[str], exclude: Exclusion) -> UploadSize:
    """Return the size of an upload, without sending anything.

    Raises:
        OSError: The file or folder cannot be read.
    """
    from ._pack import measure

    return measure(Path(local).resolve(strict=True), exclude)


def check_work(
    command: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    exclude: Iterable[str] = (),
    downloads: Iterable[str] = (),
) -> None:
    """Check arguments of ``run``, ``upload`` and ``download`` before a pod is rented; send nothing.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is invalid.
    """
    from ._scripts import command_script, download_script

    command_script(command, env=env or {}, cwd=cwd)
    Exclusion(exclude)
    for path in downloads:
        download_script(path)
