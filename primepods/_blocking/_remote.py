"""``client.pods.remote``, blocking: delegates to the asynchronous one."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from ..remote import AsyncRemote, CommandResult, OnLine, OnProgress
from ._portal import Portal, in_calling_thread


class Remote:
    """A pod to work on, by the system's ``ssh``: made by ``pods.remote``.

    Each call has its own connection; any number may run at once. Your ssh configuration, keys and agent
    apply. Nothing is sent before the login succeeds, which is retried for ``login_timeout``.
    """

    def __init__(self, portal: Portal, remote: AsyncRemote) -> None:
        self._portal = portal
        self._remote = remote

    @property
    def pod_id(self) -> str:
        """The pod's id."""
        return self._remote.pod_id

    def run(
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

        A command that is cancelled or times out also ends on the pod: its process group gets SIGTERM, and
        SIGKILL ten seconds later. So it does after a lost connection, once the pod's ssh server notices.
        Background processes of a command that ends by itself go on.

        Args:
            command: A line for the shell on the pod, or a list of arguments.
            env: Environment variables; sent through standard input, so that no argument or log shows them.
            cwd: The working directory, relative to the home directory.
            input: Its standard input; by default it has none.
            timeout: Seconds from its start.
            on_line: Callback for each :class:`~primepods.OutputLine` of standard output and error, in this
                thread; the last 64 KiB of each are kept then.
            check: Whether a nonzero exit code is an error.
            capture: ``False`` passes its output to this process's own standard output and error, byte for
                byte, as it arrives; nothing is kept.

        Raises:
            LoginError: The pod refused all logins. Nothing was run.
            CommandError: With ``check``: the exit code is not 0.
            CommandTimeoutError: It ran longer than ``timeout``.
            ConnectionLostError: ``ssh`` has failed. The command may have run.
            ConfigError: ``ssh`` is missing, or the folder for host keys is unusable.
        """
        return self._portal.call(
            self._remote.run,
            command,
            env=env,
            cwd=cwd,
            input=input,
            timeout=timeout,
            on_line=in_calling_thread(on_line),
            check=check,
            capture=capture,
        )

    def upload(
        self, local: str | os.PathLike[str], remote: str, *, on_progress: OnProgress | None = None
    ) -> None:
        """Copy a file or a folder to the pod, whole or not at all.

        The contents of a folder go into the folder ``remote``, which is created if needed; existing files of
        the same names are replaced. A file is called ``remote``, or goes into it where that is a folder or
        ends with a slash. Modes, times, links and empty folders are kept; sockets, pipes and devices are
        skipped. The pod needs ``tar``.

        Args:
            local: The file or the folder here.
            remote: The destination, relative to the home directory.
            on_progress: Called in this thread a few times a second with the bytes so far.

        Raises:
            LoginError: The pod refused all logins.
            TransferError: The pod cannot take it: no space, no permission, a file where a folder must be.
            ConnectionLostError: ``ssh`` has failed.
            OSError: Something cannot be read here.
        """
        self._portal.call(self._remote.upload, local, remote, on_progress=in_calling_thread(on_progress))

    def download(
        self, remote: str, local: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> None:
        """Copy a file or a folder from the pod, whole or not at all.

        The contents of a folder go into the folder ``local``, which is created if needed; existing files of
        the same names are replaced. A file is called ``local``, or goes into it where that is a folder or
        ends with a slash. Modes (but for what others may write), times, links and empty folders are kept.
        Nothing is written outside of ``local``: links that leave the folder, pipes and devices are left out,
        and an error names them when all else is there.

        Args:
            remote: The file or the folder on the pod, relative to the home directory.
            local: The destination.
            on_progress: Called in this thread a few times a second with the bytes so far.

        Raises:
            LoginError: The pod refused all logins.
            TransferError: There is no such file, it cannot be read, or must not be written here; or something
                was left out.
            ConnectionLostError: ``ssh`` has failed.
            OSError: Something cannot be written here.
        """
        self._portal.call(self._remote.download, remote, local, on_progress=in_calling_thread(on_progress))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id}>"
