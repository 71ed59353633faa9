"""The one reader of the API's ``sshConnection`` strings.

Seen in the wild: ``root@1.2.3.4 -p 22``, ``ssh root@1.2.3.4 -p 22``, ``ssh -p 22 root@1.2.3.4``,
``root@1.2.3.4:22``, ``root@[2001:db8::1] -p 22``, and ``ubuntu@`` while no host is assigned yet.
"""

from __future__ import annotations

import ipaddress
import re

import attrs

# What cannot be an option, a second word, or mean anything to a shell that somebody pastes it into.
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_LONGEST = 512


def _check_user(_: object, __: object, value: str) -> None:
    if not _USER.fullmatch(value):
        msg = f"user must be letters, digits and _ . + - and not begin with a sign, got {value!r}"
        raise ValueError(msg)


def _check_host(_: object, __: object, value: str) -> None:
    if not (_HOST.fullmatch(value) or _is_ipv6(value)):
        msg = f"host must be a host name or an IP address, got {value!r}"
        raise ValueError(msg)


def _check_port(_: object, __: object, value: object) -> None:
    highest = 65_535
    if type(value) is not int or not 1 <= value <= highest:
        msg = f"port must be from 1 to {highest}, got {value!r}"
        raise ValueError(msg)


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    # A scope ("%eth0") may hold any character at all.
    return "%" not in text


@attrs.frozen
class SSHTarget:
    """Where and as whom to log in.

    Attributes:
        user: Login name; ``root`` where the API names none.
        host: Host name or IP address; an IPv6 address without brackets.
        port: TCP port.

    Raises:
        ValueError: A part that ``ssh`` could read as an option or as more than one word.
    """

    user: str = attrs.field(validator=_check_user)
    host: str = attrs.field(validator=_check_host)
    port: int = attrs.field(default=22, validator=_check_port)

    def argv(self) -> list[str]:
        """Return the command as a list for ``subprocess``; append the remote command to it, if any.

        ``--`` ends the options, so that nothing after it can become one.
        """
        return ["ssh", "-p", str(self.port), "--", f"{self.user}@{self.host}"]

    def __str__(self) -> str:
        """Return the command as one line to paste into a shell."""
        return f"ssh -p {self.port} {self.user}@{self.host}"


def parse_ssh(text: str | None) -> SSHTarget | None:
    """Read one ``sshConnection`` string; ``None`` where it names no usable host (yet).

    Args:
        text: What the API sent for one node.
    """
    if not text or len(text) > _LONGEST or not text.strip().isprintable():
        return None
    words = text.split()
    if words[:1] == ["ssh"]:
        del words[0]
    # Word by word: a host may be called `gpu-p100`, which holds no port.
    flag = next((n for n, word in enumerate(words) if word.startswith("-p")), None)
    port = None
    if flag is not None:
        given = words.pop(flag).removeprefix("-p") or (words.pop(flag) if flag < len(words) else "")
        port = _port(given)
        if port is None:
            return None
    if len(words) != 1:
        return None
    user, at, host = words[0].rpartition("@")
    host, host_port = _split_port(host)
    port = host_port if port is None else port
    try:
        return SSHTarget(user if at else "root", host, 22 if port is None else port)
    except ValueError:
        return None


def _port(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else None


def _split_port(host: str) -> tuple[str, int | None]:
    """Split ``host:port`` and ``[v6]:port``; a bare IPv6 address has no port."""
    parts = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:]+))(?::([0-9]{1,5}))?", host)
    if parts is None:
        return host, None
    return parts[1] or parts[2], _port(parts[3] or "")
