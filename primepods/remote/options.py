"""Login options: the ssh program, its options, and the timeout."""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
from collections.abc import Sequence
from typing import Final

import attrs

from .._utils.arguments import check_seconds, check_string, check_words
from .._utils.text import quote
from ..config import lease_folder
from ..errors import ConfigError
from ..ssh import SSHTarget

_ALIAS: Final = re.compile(r"[A-Za-z0-9_-]{1,100}")
_EXAMPLE: Final = SSHTarget("root", "localhost")
_DEFAULTS: Final = {
    "BatchMode": "yes",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "StrictHostKeyChecking": "accept-new",
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "RemoteCommand": "none",
    "LogLevel": "ERROR",
}
_FIXED: Final = ("-T", "-a", "-x", "-o", "ControlMaster=no", "-o", "ControlPath=none")
"""Options that users cannot override.

No connection is shared, since a command on the pod must end when the connection of its ``ssh`` ends.
"""


def _check_timeout(_: object, __: object, value: float) -> None:
    check_seconds("login_timeout", value)


def _to_options(value: Sequence[str]) -> tuple[str, ...]:
    options = check_words("ssh_options", value)
    try:
        _EXAMPLE.argv(*options)  # rejects words that are no options
    except ValueError as exc:
        # The message begins with `options`; the parameter here is `ssh_options`.
        raise ValueError(f"ssh_{exc}") from None
    return options


def _to_program(value: str | tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(value, tuple):
        return value  # the default
    try:
        words = tuple(shlex.split(check_string("ssh_command", value)))
    except ValueError as exc:
        raise ValueError(f"ssh_command must be words as in a shell, got {quote(value)}: {exc}") from None
    if not words:
        raise ValueError(f"ssh_command must be a program and its options, got {quote(value)}, which is empty")
    return words


@attrs.frozen(kw_only=True)
class SSHOptions:
    """Login options.

    Attributes:
        login_timeout: Seconds to retry the login.
        ssh_options: Arguments of ``ssh``; they override ours.
        ssh_command: The program in place of ``ssh``, with its first arguments.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is no number of seconds, no option of ``ssh``, or no program.
    """

    login_timeout: float = attrs.field(default=300.0, validator=_check_timeout)
    ssh_options: tuple[str, ...] = attrs.field(default=(), converter=_to_options)
    ssh_command: tuple[str, ...] = attrs.field(default=("ssh",), converter=_to_program)

    def check_program(self) -> None:
        """Check that the program is installed.

        Raises:
            ConfigError: The program is not installed.
        """
        if shutil.which(self.ssh_command[0]) is None:
            raise self.missing_program("not found")

    def missing_program(self, reason: object) -> ConfigError:
        """Return the error for a program that cannot be started."""
        return ConfigError(
            f"Cannot run {self.ssh_command[0]!r} ({reason}): install OpenSSH's client, or name another "
            "program as ssh_command."
        )

    def argv(self, pod_id: str, target: SSHTarget, line: str, *, first: Sequence[str] = ()) -> list[str]:
        """Return the arguments of ``ssh`` that run a command line on a pod.

        Args:
            pod_id: The pod's id. Its host key is stored under the id, since pods reuse addresses.
            target: User, host and port.
            line: The command line for the pod's shell.
            first: Options that override ``ssh_options`` and the defaults.

        Raises:
            ConfigError: The folder for the host keys cannot be created.
        """
        defaults = {
            **_DEFAULTS,
            "UserKnownHostsFile": f'"{known_hosts()}"',
            "HostKeyAlias": host_alias(pod_id),
        }
        default_options = [word for name, value in defaults.items() for word in ("-o", f"{name}={value}")]
        # The first value of an option wins.
        options = [*_FIXED, *first, *self.ssh_options, *default_options]
        return [*self.ssh_command, *target.argv(*options, command=line)[1:]]


def host_alias(pod_id: str) -> str:
    """Return the name under which a pod's host key is stored."""
    if _ALIAS.fullmatch(pod_id):
        return pod_id
    return hashlib.sha256(pod_id.encode()).hexdigest()


def known_hosts() -> str:
    """Return the path of the file with the pods' host keys; create its folder.

    Raises:
        ConfigError: The folder cannot be created.
    """
    folder = lease_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigError(
            f"The folder {folder} for the pods' host keys cannot be created: {exc.strerror}. Set "
            "PRIMEPODS_STATE_DIR to a writable folder."
        ) from None
    return str(folder / "known_hosts")
