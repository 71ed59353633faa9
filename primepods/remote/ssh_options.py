"""Login options, and the command line of ssh."""

from __future__ import annotations

import errno
import ipaddress
import os
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import PurePath
from typing import Final

import anyio
import attrs

from .._utils.arguments import check_seconds, check_string, check_strings
from .._utils.text import clip, one_line, quote
from ..config import default_ssh_command, environment_without_key
from ..errors import ConfigError
from ..ssh import SSHTarget
from ._host_keys import host_key_settings

_EXAMPLE: Final = SSHTarget("root", "localhost")
_MAX_MESSAGE_LENGTH: Final = 1_000
_MISSING_ERRORS: Final = {errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC}
_RUN_TIMEOUT: Final = 20.0
_EMULATED: Final = ipaddress.IPv4Network("198.18.0.0/15")
"""Addresses of emulated pods: reserved for benchmarks, so no real pod has one."""
_DEFAULTS: Final = {
    "BatchMode": "yes",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "15",
    "ServerAliveCountMax": "4",
    "RemoteCommand": "none",
    "LogLevel": "ERROR",
}
_FIXED: Final = ("-T", "-a", "-x", "-o", "ControlMaster=no", "-o", "ControlPath=none")
"""Options before those of the user: a user's ``-o`` cannot override them, but a flag such as ``-A`` can.

No connection is shared, since a command on the pod must end when the connection of its ``ssh`` ends.
"""


def _check_timeout(_: object, __: object, value: float) -> None:
    check_seconds("login_timeout", value)


def _to_options(value: Sequence[str]) -> tuple[str, ...]:
    options = check_strings("ssh_options", value)
    try:
        _EXAMPLE.argv(*options)  # rejects words that are not options
    except ValueError as exc:
        # The message begins with `options`; the parameter here is `ssh_options`.
        raise ValueError(f"ssh_{exc}") from None
    return options


def _to_program(value: str | tuple[str, ...]) -> tuple[str, ...]:
    if value in ("ssh", ("ssh",)):  # the default
        value = default_ssh_command()
    try:
        words = value if isinstance(value, tuple) else shlex.split(check_string("ssh_command", value))
    except ValueError as exc:
        raise ValueError(f"ssh_command must be in the syntax of a shell, got {quote(value)}: {exc}") from None
    if not words:
        raise ValueError(f"ssh_command must be a program and its options, got {quote(value)}")
    return check_strings("ssh_command", words)


@attrs.frozen(kw_only=True)
class SSHOptions:
    """Login options.

    Attributes:
        login_timeout: Seconds to retry the login.
        ssh_options: Options of ``ssh``; they override most defaults. The agent is forwarded only with ``-A``,
            which lets the pod use your keys.
        ssh_command: The program to run as ``ssh``, with its first arguments; by default
            ``PRIMEPODS_SSH_COMMAND``, or ``ssh``.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: An argument is invalid.
    """

    login_timeout: float = attrs.field(default=300.0, validator=_check_timeout)
    ssh_options: tuple[str, ...] = attrs.field(default=(), converter=_to_options)
    ssh_command: tuple[str, ...] = attrs.field(default=("ssh",), converter=_to_program)

    async def check(self, machine: str = "pod", target: SSHTarget = _EXAMPLE) -> None:
        """Check that the program is installed and, if it is ``ssh``, accepts its options and configuration.

        Args:
            machine: See :func:`machine_name`.
            target: User, host and port, for which the configuration may have a section.

        Raises:
            ConfigError: The program cannot be started, it rejects an option or the configuration, or the host
                keys cannot be stored.
        """
        options = self.argv(machine, target)[len(self.ssh_command) :]
        program = self.ssh_command[0]
        try:
            if PurePath(program).stem != "ssh":
                # Another program need not know `-G`.
                if shutil.which(program) is None:
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                return
            # `-G` prints the configuration for a host, and does not connect.
            code, messages = await run_ssh([*self.ssh_command, "-G", *options])
        except OSError as exc:
            raise self.start_error(exc) from None
        if code:
            said = clip(one_line(messages), _MAX_MESSAGE_LENGTH)
            raise ConfigError(
                "ssh rejects its options or its configuration here, so no pod can be reached: "
                f"{said.rstrip('.') or f'exit code {code}'}. Change ssh_options or ~/.ssh/config."
            )

    def start_error(self, error: OSError) -> ConfigError:
        """Return the error for a program that could not be started."""
        failure = f"Cannot start {self.ssh_command[0]!r} ({error.strerror})"
        if error.errno in _MISSING_ERRORS:
            return ConfigError(
                f"{failure}: install OpenSSH's client, or name another program as ssh_command."
            )
        return ConfigError(f"{failure}. This process or machine may have too few resources.")

    def argv(
        self, machine: str, target: SSHTarget, line: str | None = None, *, first: Sequence[str] = ()
    ) -> list[str]:
        """Return the arguments that start ssh for a login or, with ``line``, for a command line on the pod.

        Args:
            machine: See :func:`machine_name`.
            target: User, host and port.
            line: The command line for the pod's shell.
            first: Options that override ``ssh_options`` and the defaults.

        Raises:
            ConfigError: The host keys cannot be stored.
        """
        defaults = _DEFAULTS | host_key_settings(machine)
        default_options = [word for name, value in defaults.items() for word in ("-o", f"{name}={value}")]
        # The first value of an option wins.
        options = [*_FIXED, *first, *self.ssh_options, *default_options]
        return [*self.ssh_command, *target.argv(*options, command=line)[1:]]


async def run_ssh(argv: list[str]) -> tuple[int, str]:
    """Run ``ssh`` without input; return its exit code and messages, or 0 and an empty string after 20 s.

    Raises:
        OSError: ``ssh`` cannot be started.
    """
    with anyio.move_on_after(_RUN_TIMEOUT):
        done = await anyio.run_process(
            argv,
            stdin=subprocess.DEVNULL,
            check=False,
            env=environment_without_key(),
            start_new_session=True,
        )
        return done.returncode, done.stderr.decode(errors="replace")
    return 0, ""


def is_emulated(host: str) -> bool:
    """Return whether an address is reserved for emulated pods."""
    try:
        return ipaddress.ip_address(host) in _EMULATED
    except ValueError:
        return False
