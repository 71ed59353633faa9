"""``client.pods.remote``, blocking: delegates to the asynchronous one."""

from __future__ import annotations

import os
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from ..remote import AsyncRemote, CommandResult, OnLine, OnProgress
from ._call import in_calling_thread
from ._portal import Portal

P = ParamSpec("P")
R = TypeVar("R")


class Remote:
    """Client for commands and file copies on one pod, with the system's ``ssh``; see ``pods.remote``.

    Each call has its own connection; any number may run at once. Your ssh configuration, keys and agent
    apply. The login is retried for ``login_timeout``; nothing is sent before it succeeds.
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
        SIGKILL ten seconds later. The same happens once the pod's ssh server notices a lost connection.
        Background processes of a command that ends by itself continue.

        Args:
            command: A line for the shell on the pod, or a list of arguments.
            env: Environment variables; sent through standard input, so that no argument or log shows them.
            cwd: The working directory, relative to the home directory.
            input: The command's standard input; by default empty.
            timeout: Seconds from the start of the command.
            on_line: Callback for each :class:`~primepods.OutputLine` of standard output and error, in this
                thread. With it, the result holds only the last 64 KiB of each.
            check: Whether a nonzero exit code is an error.
            capture: ``False`` passes the output to this process's own standard output and error, byte for
                byte, as it arrives; the result holds none of it.

        Raises:
            LoginError: The pod refused all logins. Nothing was run.
            CommandError: With ``check``: the exit code is not 0.
            CommandTimeoutError: The command ran longer than ``timeout``.
            ConnectionLostError: ``ssh`` has failed. The command may have run.
            ConfigError: ``ssh`` is missing, or the folder for host keys is unusable.
        """
        return self._call(
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
        left out. The pod needs ``tar``.

        Args:
            local: The local file or folder.
            remote: The target, relative to the home directory.
            exclude: Patterns of files and folders to leave out of a folder, as for rsync and tar: ``".git"``
                and ``"*.pyc"`` match a name at any depth, ``"docs/build"`` the end of a path, ``"/build"``
                only the top, ``"build/"`` only folders; ``*`` and ``?`` stop at a slash, ``**`` does not.
            on_progress: Callback for the bytes so far, a few times a second, in this thread.

        Raises:
            LoginError: The pod refused all logins.
            TransferError: The pod cannot store the copy: no space, no permission, a file in place of a
                folder.
            ConnectionLostError: ``ssh`` has failed.
            OSError: A local file cannot be read.
            ValueError: A path or a pattern is invalid.
        """
        self._call(
            self._remote.upload, local, remote, exclude=exclude, on_progress=in_calling_thread(on_progress)
        )

    def download(
        self, remote: str, local: str | os.PathLike[str], *, on_progress: OnProgress | None = None
    ) -> None:
        """Copy a file or a folder from the pod, completely or not at all.

        The content of a folder goes into the folder ``local``, which is created if needed; existing files of
        the same names are replaced. A file is named ``local``, or goes into ``local`` if that is a folder or
        ends with a slash. Modes (without write permission for others), times, links and empty folders are
        kept. Nothing is written outside ``local``: links that leave the folder, pipes and devices are left
        out, and when everything else is copied, a ``TransferError`` names them.

        Args:
            remote: The file or folder on the pod, relative to the home directory.
            local: The local target.
            on_progress: Callback for the bytes so far, a few times a second, in this thread.

        Raises:
            LoginError: The pod refused all logins.
            TransferError: There is no such file, it cannot be read, a path in it leads outside ``local``, or
                something was left out.
            ConnectionLostError: ``ssh`` has failed.
            OSError: A local file cannot be written.
        """
        self._call(self._remote.download, remote, local, on_progress=in_calling_thread(on_progress))

    def _call(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.call(function, *args, **kwargs)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.pod_id}>"
