"""Checks for loopback host names and addresses."""

from __future__ import annotations

import ipaddress
import re

_PORT = re.compile(r":[0-9]{0,5}\Z")


def is_loopback(host: str) -> bool:
    """Return whether a host name or address, without a port, names the loopback."""
    if host.lower() == "localhost":
        return True
    if "%" in host:
        # `ipaddress` accepts any text after the % of an IPv6 address, as its zone: reject it.
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_loopback(host: str) -> None:
    if not is_loopback(host):
        expected = "use 127.0.0.1, ::1 or localhost"
        raise ValueError(f"the emulator serves this machine only: {expected}, not {host!r}")


def is_loopback_header(host: str) -> bool:
    """Return whether a ``Host`` header names the loopback; a missing header counts as loopback.

    This protects against DNS rebinding: a website can point its own host name to 127.0.0.1 to reach a local
    server, but the browser still sends that name.
    """
    if not host:
        return True
    name = _PORT.sub("", host)
    return is_loopback(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
