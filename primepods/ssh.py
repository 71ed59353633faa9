"""SSH targets, and the parser of the API's ``sshConnection`` strings.

Known forms: ``root@1.2.3.4 -p 22``, ``ssh root@1.2.3.4 -p 22``, ``ssh -p 22 root@1.2.3.4``,
``root@1.2.3.4:22``, ``root@[2001:db8::1] -p 22``, and ``ubuntu@`` while no host is assigned yet.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import attrs

from ._utils.arguments import check_string
from ._utils.plain import ToDict
from ._utils.text import quote

# Neither pattern allows an option of ssh, a blank, or a character that is special in a shell.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_MAX_LENGTH = 512
_DEFAULT_PORT = 22


def _check_user(_: object, __: object, value: str) -> None:
    if not _USER.fullmatch(check_string("user", value)):
        raise ValueError(
            f"user must be letters, digits and _ . + -, and not begin with . + or -, got {value!r}"
        )


def _check_host(_: object, __: object, value: str) -> None:
    if not (_HOST.fullmatch(check_string("host", value)) or _is_ipv6(value)):
        raise ValueError(f"host must be a host name or an IP address, got {value!r}")


def _check_port(_: object, __: object, value: object) -> None:
    highest = 65_535
    if type(value) is not int or not 1 <= value <= highest:
        raise ValueError(f"port must be from 1 to {highest}, got {value!r}")


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    # A scope ("%eth0") may contain any character.
    return "%" not in text


@attrs.frozen
class SSHTarget(ToDict):
    """Host, port and user of an SSH login.

    Raises:
        TypeError: The user or host is not a string.
        ValueError: The user, host or port is not valid.
    """

    user: str = attrs.field(validator=_check_user)
    """Login name; ``root`` if the API gives none."""
    host: str = attrs.field(validator=_check_host)
    """Host name or IP address; an IPv6 address has no brackets."""
    port: int = attrs.field(default=_DEFAULT_PORT, validator=_check_port)
    """TCP port."""

    def argv(self, *options: str, command: str | Sequence[str] | None = None) -> list[str]:
        """Return the ``ssh`` command as a list for ``subprocess``.

        ``--`` ends the options, so that nothing after it is read as an option.

        Args:
            options: Options of ``ssh``, one word each: ``"-A", "-L", "8080:localhost:8080"``.
            command: Command to run on the pod. A string is a line for the pod's shell, which interprets
                ``$``, ``|`` and quotes in it; a sequence is a program and its arguments, each quoted for
                that shell.

        Raises:
            TypeError: An option is not a string, or ``command`` is not a string or a sequence of strings.
            ValueError: The first of ``options`` does not begin with ``-``, one of them is ``--``, or
                ``command`` is empty.
        """
        if not all(isinstance(option, str) for option in options):
            raise TypeError(f"options must be strings, got {quote(options)}")
        if "--" in options or (options and not options[0].startswith("-")):
            raise ValueError(
                f"options must begin with an option and must not contain '--', got {quote(options)}. Pass "
                "the command for the pod as command=."
            )
        line = [] if command is None else [_command_line(command)]
        return ["ssh", "-p", str(self.port), *options, "--", f"{self.user}@{self.host}", *line]

    def config_block(self, name: str) -> str:
        """Return a ``Host`` block for ``~/.ssh/config``, so that ``ssh name`` logs in.

        Args:
            name: Letters, digits and ``_ . -``; the first must not be ``.`` or ``-``.

        Raises:
            TypeError: The name is not a string.
            ValueError: The name is not of this form.
        """
        if not _HOST.fullmatch(check_string("name", name)):
            raise ValueError(
                f"name must be letters, digits and _ . -, and not begin with . or -, got {quote(name)}"
            )
        return f"Host {name}\n    HostName {self.host}\n    User {self.user}\n    Port {self.port}\n"

    def to_dict(self) -> dict[str, Any]:
        """Return user, host, port, and the ``ssh`` command as one line."""
        return {"user": self.user, "host": self.host, "port": self.port, "command": str(self)}

    def __str__(self) -> str:
        """Return the ``ssh`` command as one line for a shell."""
        return f"ssh -p {self.port} {self.user}@{self.host}"


def _command_line(command: str | Sequence[str]) -> str:
    """Return one line for the pod's shell: ``ssh`` joins its arguments with spaces, without quotes."""
    if not _is_command(command):
        raise TypeError(f"command must be a string or a sequence of strings, got {quote(command)}")
    line = command if isinstance(command, str) else shlex.join(command)
    if not line.strip():
        raise ValueError("command is empty: leave it out to log in")
    return line


def _is_command(command: object) -> bool:
    return isinstance(command, Sequence) and all(isinstance(word, str) for word in cast("Any", command))


@lru_cache(maxsize=4_096)  # each poll parses the same strings again
def parse_ssh(text: str | None) -> SSHTarget | None:
    """Parse an ``sshConnection`` string; return ``None`` if it is not a usable login (yet).

    Args:
        text: The API's text for one node.
    """
    if not text or len(text) > _MAX_LENGTH or not text.strip().isprintable():
        return None
    words = text.split()
    if words[:1] == ["ssh"]:
        del words[0]
    option = _take_port_option(words)
    port = None if option is None else _port(option)
    if len(words) != 1 or (option is not None and port is None):
        return None
    user, at, host = words[0].rpartition("@")
    host, host_port = _split_port(host)
    if port is None:
        port = _DEFAULT_PORT if host_port is None else host_port
    try:
        return SSHTarget(user if at else "root", host, port)
    except ValueError:
        return None


def _take_port_option(words: list[str]) -> str | None:
    """Remove ``-p 22`` or ``-p22`` from ``words``; return its value, or ``None`` without such an option."""
    # Compare prefixes only: a host may be called `gpu-p100`.
    index = next((index for index, word in enumerate(words) if word.startswith("-p")), None)
    if index is None:
        return None
    value = words.pop(index).removeprefix("-p")
    if not value and index < len(words):
        value = words.pop(index)
    return value


def _port(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else None


def _split_port(host: str) -> tuple[str, int | None]:
    """Split ``host:port`` and ``[v6]:port``; a bare IPv6 address has no port."""
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:]+))(?::([0-9]{1,5}))?", host)
    if parts is None:
        return host, None
    return parts[1] or parts[2], _port(parts[3] or "")
