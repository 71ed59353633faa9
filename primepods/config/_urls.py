"""Validation of base URLs, so that the key is not sent to the wrong place, and choice of a proxy."""

from __future__ import annotations

import ipaddress
import re
import urllib.request
from urllib.parse import SplitResult, urlsplit

from .._utils.secret import Secret
from .._utils.text import quote
from ..errors import ConfigError
from ._files import DEFAULT_BASE_URL, Found

_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_loopback(host: str) -> bool:
    """Return whether ``host`` is a loopback name or address."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(parts: SplitResult) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL; a missing port becomes the scheme's default."""
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)


def check_base_url(found: Found) -> SplitResult:
    """Return the URL in normal form, without ``/api/v1`` or a slash at its end.

    Raises:
        ConfigError: The value is not a URL, may hold a secret, or is plain http to another machine.
    """
    remedy = f"Correct it, or remove it to use {DEFAULT_BASE_URL}."
    for signs, what in (("@", "user or password"), ("?#", "query or fragment")):
        if any(sign in found.value for sign in signs):  # do not show the URL, which may hold a secret
            raise ConfigError(
                f"The base URL ({found.source}) holds a {what}; remove it. The key goes in api_key."
            )
    text = found.value.strip()
    subject = f"The base URL {quote(text)} ({found.source})"
    parts = _split_url(text)
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname or parts.port == 0:
        raise ConfigError(f"{subject} is not of the form https://host. {remedy}")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ConfigError(
            f"{subject} is plain http, which would send the API key unencrypted. Use https; http is accepted "
            "for loopback addresses only."
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    is_default_port = parts.port in {None, _DEFAULT_PORTS[parts.scheme]}
    netloc = host if is_default_port else f"{host}:{parts.port}"
    path = parts.path.rstrip("/").removesuffix("/api/v1").rstrip("/")
    return SplitResult(parts.scheme, netloc, path, "", "")


def _split_url(text: str) -> SplitResult | None:
    """Split a URL; return ``None`` if its host, its port or a character is not valid."""
    if not re.fullmatch(r"[!-~]+", text):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port  # raises if the port is not valid
        if "[" in parts.netloc:
            ipaddress.IPv6Address(parts.hostname or "")
            return parts
    except ValueError:
        return None
    return parts if re.fullmatch(_HOST, parts.hostname or "") else None


def find_proxy(url: SplitResult) -> Secret | None:
    """Return the proxy for ``url`` from the environment or, on macOS and Windows, the system's settings.

    Return ``None`` if there is no proxy, or if the host is loopback or in ``NO_PROXY``.

    Raises:
        ConfigError: The proxy is not a URL, or aiohttp does not support this kind of proxy.
    """
    host = url.hostname or ""
    if is_loopback(host):
        return None
    proxies = {name: Secret(value) for name, value in urllib.request.getproxies().items()}
    scheme = url.scheme if url.scheme in proxies else "all"
    proxy = proxies.get(scheme)
    if not proxy or urllib.request.proxy_bypass(url.netloc):
        return None
    if "://" not in proxy:
        proxy = Secret(f"http://{proxy}")
    kind = _proxy_kind(proxy)
    if kind is None:
        raise ConfigError(
            f"The proxy of the environment ({scheme.upper()}_PROXY) or the system is not a URL. Correct or "
            "unset it."
        )
    if kind not in _DEFAULT_PORTS:
        raise ConfigError(
            f"The proxy of the environment ({scheme.upper()}_PROXY) or the system is a {kind} proxy, which "
            "aiohttp does not support. Unset it, or list the host in NO_PROXY. A Python program can also "
            "pass a `session` with a connector of aiohttp-socks."
        )
    return proxy


def _proxy_kind(proxy: Secret) -> str | None:
    """Return the scheme of a proxy's URL, or ``None`` if it is not a URL."""
    try:
        parts = urlsplit(str(proxy))
        is_usable = parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts.scheme if is_usable else None
