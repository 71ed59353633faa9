"""Commands and files on a pod: what ``pods.remote`` and a leased pod offer."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from .._utils.arguments import check_flag
from ..ssh import SSHTarget
from .options import SSHOptions
from .results import CommandResult, OnLine, OnProgress

if TYPE_CHECKING:
    from ._login import Login

FindTarget = Callable[[], Awaitable[SSHTarget]]


class AsyncRemote:
    """A pod to work on, by the system's ``ssh``: made by ``pods.remote``.

    Each call has a connection of its own; any number may run at once. Your ssh configuration, keys and agent
    count. Nothing is sent before the pod has let us log in, which is tried again for ``login_timeout``.
    """

    def __init__(self, pod_id: str, target: SSHTarget | FindTarget, options: SSHOptions) -> None:
        self._pod_id = pod_id
        self._target = target
        self._options = options
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

        A command that is cancelled or times out ends on the pod, too: it gets SIGTERM with all processes of
        its group, and SIGKILL ten seconds later. So it does when the connection is lost, once the pod's ssh
        server notices. What it leaves in the background by itself goes on.

        Args:
            command: A line for the shell on the pod, or a list of words.
            env: Environment variables. They go to the pod by standard input: no argument and no log shows
                them.
            cwd: The folder to run in, from the home directory on.
            input: Its standard input; by default it has none.
            timeout: Seconds from its start.
            on_line: Called (and awaited, if need be) with an :class:`~primepods.OutputLine` as it comes, of
                standard output and standard error; of each 64 KiB are kept then.
            check: Whether another exit code than 0 is an error.
            capture: ``False`` has what it prints go to this process's own standard output and error, byte
                for byte, as it comes; nothing is kept.

        Raises:
            LoginError: The pod let nobody log in. Nothing was run.
            CommandError: With ``check``: the exit code is not 0.
            CommandTimeoutError: It ran longer than ``timeout``.
            ConnectionLostError: ``ssh`` has failed. The command may have run.
            ConfigError: There is no ``ssh``, or no folder for host keys.
        """
        from ._command import Command

        job = Command(
            command, env=env, cwd=cwd, input=input, timeout=timeout, on_line=on_line, capture=capture
        )
        check_flag("check", check)
        result = await job.run(await self._log_in())
        if check:
            job.check(result, self.pod_id)
        return result

    async def upload(
        self, local: str | os.PathLike[str], remote: str, *, on_progress: OnProgress | None = None
    ) -> None:
        """Copy a file or a folder to the pod, whole or not at all.

        What a folder holds goes into the folder ``remote``, which is made if need be; of what is there, files
        of the same names are replaced. A file is called ``remote``, or goes into it where that is a folder or
        ends with a slash. Modes, times, links and empty folders are kept; sockets, pipes and devices are left
        out. The pod needs ``tar``.

        Args:
            local: The file or the folder here.
            remote: Where to, from the home directory on.
            on_progress: Called (and awaited, if need be) a few times a second with the bytes so far.

        Raises:
            LoginError: The pod let nobody log in.
            TransferError: The pod cannot take it: no space, no permission, a file where a folder must be.
            ConnectionLostError: ``ssh`` has failed.
            OSError: Something cannot be read here.
        """
        from ._copy import Upload

        await Upload(local, remote, on_progress).run(await self._log_in())

    async def download(
        self, remote: str, local: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> None:
        """Copy a file or a folder from the pod, whole or not at all.

        What a folder holds goes into the folder ``local``, which is made if need be; of what is there, files
        of the same names are replaced. A file is called ``local``, or goes into it where that is a folder or
        ends with a slash. Modes (but for what others may write), times, links and empty folders are kept.
        Nothing is written outside of ``local``: links that leave the folder, pipes and devices are left out,
        and an error names them when all else is there.

        Args:
            remote: The file or the folder on the pod, from the home directory on.
            local: Where to.
            on_progress: Called (and awaited, if need be) a few times a second with the bytes so far.

        Raises:
            LoginError: The pod let nobody log in.
            TransferError: There is no such file, it cannot be read, or must not be written here; or something
                was left out.
            ConnectionLostError: ``ssh`` has failed.
            OSError: Something cannot be written here.
        """
        from ._copy import Download

        await Download(remote, local, on_progress).run(await self._log_in())

    async def _log_in(self) -> Login:
        from ._login import Login

        if self._login is None:
            target = self._target if isinstance(self._target, SSHTarget) else await self._target()
            self._login = Login(pod_id=self._pod_id, target=target, options=self._options)
        return self._login

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id}>"


async def wait_for_login(remote: AsyncRemote) -> None:
    """Return when ``true`` has run on the pod: it lets us log in.

    Raises:
        LoginError: It did not within the ``login_timeout``; nothing was run.
        ConnectionLostError: ``ssh`` has failed after that.
        ConfigError: There is no ``ssh``, or no folder for host keys.
    """
    await remote.run("true")
