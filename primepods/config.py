"""Settings, and where they come from: the only module that reads the environment or files.

Each setting is looked for in this order: the argument; the environment (``PRIME_API_KEY``, ``PRIME_TEAM_ID``,
``PRIME_API_BASE_URL`` or ``PRIME_BASE_URL``, and ``PRIME_CONTEXT``, which names a saved context); the
official command's files ``~/.prime/environments/NAME.json`` (of the context) and ``~/.prime/config.json``;
the default. A context that is an argument goes before the environment: who names an account means no other.
The files are only read. A key from a file goes to that file's host and no other.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

import attrs

from ._utils.arguments import check_seconds
from ._utils.clock import SYSTEM_CLOCK, Clock
from ._utils.secret import Secret
from ._utils.strict_json import is_object
from ._utils.text import quote
from .errors import ConfigError
from .retry import RetryPolicy

KEY_PAGE: Final = "https://app.primeintellect.ai/dashboard/tokens"
"""Where API keys are made."""
DEFAULT_BASE_URL: Final = "https://api.primeintellect.ai"
DEFAULT_TIMEOUT: Final = 30.0
"""Seconds for one attempt."""
DEFAULT_DEADLINE: Final = 120.0
"""Seconds for one call with all its retries."""
DEFAULT_MAX_CONCURRENCY: Final = 16
"""Requests in flight from one client."""

BUILT_IN_CONTEXT: Final = "production"
"""The context that needs no file: the vendor's host."""

_URL_VARIABLES = ("PRIME_API_BASE_URL", "PRIME_BASE_URL")
_CONTEXT_NAME = re.compile(r"[A-Za-z0-9_-]+")
_HOST = re.compile(r"[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\.?")
_DEFAULT_PORTS = {"http": 80, "https": 443}


@attrs.frozen(kw_only=True)
class Settings:
    """All that a client was told, resolved and checked. Hashable; pickles without the key."""

    api_key: Secret = attrs.field(repr=False)
    base_url: str = DEFAULT_BASE_URL
    team_id: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    deadline: float = DEFAULT_DEADLINE
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    user_agent: str | None = None
    proxy: Secret | None = attrs.field(default=None, repr=False)
    clock: Clock = attrs.field(default=SYSTEM_CLOCK, repr=False)


@attrs.frozen
class _Found:
    """A value, perhaps the key, and where it was found."""

    value: str = attrs.field(repr=False)
    source: str
    file: _File | None = None


@attrs.frozen
class _File:
    """One of the official command's files, read.

    Attributes:
        key_base_url: The base URL to which the file's key belongs, where another is used with it.
        context: The built-in context, which takes only the key from the file.
    """

    path: Path
    fields: Mapping[str, Any] = attrs.field(repr=False)
    key_base_url: str | None = None
    context: _Found | None = None

    def text(self, name: str) -> str | None:
        value = self.fields.get(name)
        if value is None:
            return None
        if isinstance(value, str):
            return value.strip() or None
        kind = type(value).__name__
        del value  # tracebacks show what a frame holds
        msg = f"{self.path}: {name} must be a string, not {kind}. Correct the file."
        raise ConfigError(msg)

    @property
    def base_url(self) -> str:
        return self.text("base_url") or DEFAULT_BASE_URL


def resolve(  # noqa: PLR0913 - one parameter a setting
    *,
    api_key: str | None,
    base_url: str | None,
    team_id: str | None,
    timeout: float,
    deadline: float,
    max_concurrency: int,
    retry: RetryPolicy,
    user_agent: str | None,
    own_connections: bool,
    context: str | None = None,
) -> Settings:
    """Turn a client's arguments into :class:`Settings`.

    A client with connections of its own uses the proxy that the environment names.

    Raises:
        ConfigError: No key anywhere, or a key, URL, file or variable that cannot be used.
        ValueError: A number out of range.
        TypeError: An argument of the wrong type.
    """
    # For tracebacks that print this frame's variables.
    api_key = Secret(api_key) if isinstance(api_key, str) else api_key
    named = _argument("context", context)
    # Who names a context means its account, and none that the environment happens to hold.
    ignored = named is not None
    given_key = _argument("api_key", api_key) or _environment("PRIME_API_KEY", ignored=ignored)
    given_url = _argument("base_url", base_url) or _environment(*_URL_VARIABLES, ignored=ignored)
    # With both given the files say nothing that matters: their team belongs to their own key and host.
    needed = named is not None or given_key is None or given_url is None
    files = _read_files(named or _environment("PRIME_CONTEXT")) if needed else []
    key = given_key or _find_key(files)
    url = given_url or _find_base_url(files)
    url_parts = check_base_url(url)
    _check_key_host(key, url, url_parts)
    team_variable = _environment("PRIME_TEAM_ID", ignored=ignored)
    team = _find_team(_argument("team_id", team_id) or team_variable, files)
    return Settings(
        api_key=_check_key(key),
        base_url=url_parts.geturl(),
        team_id=team,
        timeout=check_seconds("timeout", timeout),
        deadline=check_seconds("deadline", deadline),
        max_concurrency=_check_concurrency(max_concurrency),
        retry=check_retry(retry),
        user_agent=None if user_agent is None else _check_user_agent(user_agent),
        proxy=find_proxy(url_parts) if own_connections else None,
    )


def lease_folder() -> Path:
    """Return the folder with the files of leases: ``PRIMEPODS_STATE_DIR``, or ``~/.primepods/leases``.

    Raises:
        ConfigError: There is neither the variable nor a home directory.
    """
    folder = os.environ.get("PRIMEPODS_STATE_DIR", "").strip()
    try:
        return Path(folder) if folder else Path.home() / ".primepods" / "leases"
    except RuntimeError:
        msg = "There is no home directory for the files of leases: set PRIMEPODS_STATE_DIR to a folder."
    raise ConfigError(msg)


def check_retry(value: RetryPolicy) -> RetryPolicy:
    """Return ``value`` if it is a :class:`RetryPolicy`."""
    if not isinstance(value, RetryPolicy):
        remedy = "for no retries: RetryPolicy(attempts=1)"
        msg = f"retry must be a primepods.RetryPolicy, got {quote(value)}; {remedy}"
        raise TypeError(msg)
    return value


def is_loopback(host: str) -> bool:
    """Tell whether ``host`` names this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin(parts: SplitResult) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL, default ports spelt out."""
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme)


def check_base_url(found: _Found) -> SplitResult:
    """Return the URL in its one spelling: no trailing slash, no ``/api/v1``.

    Raises:
        ConfigError: It is no URL, or would send the key unencrypted to another machine.
    """
    remedy = f"Give one like {DEFAULT_BASE_URL}, or remove it to use that."
    # What may hold a secret is not repeated, and no variable of this frame either.
    if "@" in found.value:
        msg = f"The base URL ({found.source}) holds a user or password; remove it. The key goes in api_key."
        raise ConfigError(msg)
    if "?" in found.value or "#" in found.value:
        msg = f"The base URL ({found.source}) holds a query or fragment; remove it. The key goes in api_key."
        raise ConfigError(msg)
    text = found.value.strip()
    parts = _split_url(text)
    port = None if parts is None else parts.port
    if parts is None or parts.scheme not in _DEFAULT_PORTS or not parts.hostname or port == 0:
        msg = f"The base URL {quote(text)} ({found.source}) is not of the form https://host. {remedy}"
        raise ConfigError(msg)
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        msg = (
            f"The base URL {quote(text)} ({found.source}) is plain http, which would send the API key "
            "unencrypted. Use https; http is accepted for loopback addresses only."
        )
        raise ConfigError(msg)
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port in {None, _DEFAULT_PORTS[parts.scheme]} else f"{host}:{port}"
    path = parts.path.rstrip("/")
    if "//" in path or any(segment in {".", ".."} for segment in path.split("/")):
        msg = f"The base URL {quote(text)} ({found.source}) has a path with empty or dot segments. {remedy}"
        raise ConfigError(msg)
    return SplitResult(parts.scheme, netloc, path.removesuffix("/api/v1"), "", "")


def _split_url(text: str) -> SplitResult | None:
    """Split a URL if its host could be one and all of it can be sent."""
    if not re.fullmatch(r"[!-~]+", text):
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
        if "[" in parts.netloc:
            ipaddress.IPv6Address(parts.hostname or "")
            return parts
    except ValueError:
        return None
    return parts if re.fullmatch(_HOST, parts.hostname or "") else None


def find_proxy(url: SplitResult) -> Secret | None:
    """Return the proxy that the environment names for ``url``, as httpx would find it.

    Raises:
        ConfigError: The proxy is of a kind that aiohttp does not speak.
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
        msg = (
            f"The environment ({scheme.upper()}_PROXY) names a proxy by what is no URL. Correct or unset it."
        )
        raise ConfigError(msg)
    if kind not in _DEFAULT_PORTS:
        msg = (
            f"The environment ({scheme.upper()}_PROXY) names a {kind} proxy, which aiohttp does not speak. "
            "Unset it, list the host in NO_PROXY, or pass a `session` whose connector speaks it, such as "
            "one of aiohttp-socks."
        )
        raise ConfigError(msg)
    return proxy


def _proxy_kind(proxy: str) -> str | None:
    """Return the scheme of a proxy's URL, or ``None`` if it is no URL."""
    try:
        parts = urlsplit(str(proxy))
        usable = parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts.scheme if usable else None


def _read_files(context: _Found | None) -> list[_File]:
    """Return the official command's files that count, the most specific first."""
    try:
        folder = Path.home() / ".prime"
    except RuntimeError:  # no home directory: then there are no files
        return []
    config = _read_file(folder / "config.json")
    files = [] if config is None else [config]
    if context is None:
        return files
    if context.value.lower() == BUILT_IN_CONTEXT:
        # The file's key (if it is for that host), the vendor's host, no team.
        if config is None:
            return []
        key_only = {"api_key": config.fields.get("api_key")}
        return [_File(config.path, key_only, key_base_url=config.base_url, context=context)]
    shown = f"The context {context.value!r} ({context.source})"
    if not _CONTEXT_NAME.fullmatch(context.value):
        msg = f"{shown} is none: its name has letters, digits, hyphens and underscores only. Correct it."
        raise ConfigError(msg)
    path = folder / "environments" / f"{context.value}.json"
    chosen = _read_file(path)
    if chosen is None:
        msg = f"{shown} is not saved here: {path} does not exist. Correct or remove it."
        raise ConfigError(msg)
    return [chosen, *files]


def _read_file(path: Path) -> _File | None:
    # The error is raised where neither its chain nor a variable holds the document, and with it the key.
    try:
        fields = json.loads(path.read_bytes())
        if is_object(fields):
            return _File(path, fields)
        del fields
        reason = "it is not a JSON object"
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        reason = exc.strerror or "it cannot be read"
    except (ValueError, RecursionError):
        reason = "it is not JSON"
    msg = f"{path} cannot be used: {reason}. Repair or remove it, or give both api_key and base_url."
    raise ConfigError(msg)


def _environment(*names: str, ignored: bool = False) -> _Found | None:
    for name in () if ignored else names:
        value = os.environ.get(name, "").strip()
        if value:
            return _Found(value, f"environment variable {name}")
    return None


def _argument(name: str, value: str | None) -> _Found | None:
    if value is None:
        return None
    if not isinstance(value, str):
        # A key that somebody passes as bytes is still a key.
        got = type(value).__name__ if name == "api_key" else quote(value)
        msg = f"{name} must be a string, got {got}"
        raise TypeError(msg)
    if not value.strip():
        msg = f"The argument {name} is empty. Pass a value, or leave it out to use the environment and files."
        raise ConfigError(msg)
    return _Found(value.strip(), f"argument {name}")


def _find_key(files: list[_File]) -> _Found:
    for file in files:
        value = file.text("api_key")
        if value:
            return _Found(value, f"field api_key of {file.path}", file)
    looked = "the argument api_key, the environment variable PRIME_API_KEY, ~/.prime/config.json"
    msg = (
        f"No API key found in {looked}. Make one at {KEY_PAGE} (permission Instances: Read, or Read and "
        "Write to delete) and set PRIME_API_KEY."
    )
    raise ConfigError(msg)


def _find_base_url(files: list[_File]) -> _Found:
    if files:
        context = files[0].context
        source = f"field base_url of {files[0].path}" if context is None else context.source
        return _Found(files[0].base_url, source, files[0])
    return _Found(DEFAULT_BASE_URL, "the default")


def _find_team(found: _Found | None, files: list[_File]) -> str | None:
    if found is None and files:
        value = files[0].text("team_id")
        found = _Found(value, f"field team_id of {files[0].path}") if value else None
    if found is None:
        return None
    return _header_safe("team ID", found)


def _check_key_host(key: _Found, url: _Found, parts: SplitResult) -> None:
    """Refuse to send a file's key to a host that the same file does not name."""
    if key.file is None:
        return
    owner = _Found(key.file.key_base_url or key.file.base_url, f"field base_url of {key.file.path}")
    if origin(check_base_url(owner)) != origin(parts):
        msg = (
            f"The API key comes from {key.file.path} and belongs to {owner.value}, but the base URL is "
            f"{quote(url.value)} ({url.source}). Pass api_key or set PRIME_API_KEY for that host as well."
        )
        raise ConfigError(msg)


def _header_safe(what: str, found: _Found) -> str:
    if not (found.value.isascii() and found.value.isprintable()) or " " in found.value:
        msg = (
            f"The {what} ({found.source}) holds spaces, control or non-ASCII characters, which a request "
            "cannot carry. Copy it again."
        )
        raise ConfigError(msg)
    return found.value


def _check_key(found: _Found) -> Secret:
    return Secret(_header_safe("API key", found))


def _check_concurrency(value: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        msg = f"max_concurrency must be an integer, got {quote(value)}"
        raise TypeError(msg)
    if value < 1:
        msg = f"max_concurrency must be at least 1, got {quote(value)}"
        raise ValueError(msg)
    return value


def _check_user_agent(value: str) -> str:
    if not isinstance(value, str):
        msg = f"user_agent must be a string, got {quote(value)}"
        raise TypeError(msg)
    if not (value.strip() and value.isascii() and value.isprintable()):
        msg = f"user_agent must be printable ASCII text, got {quote(value)}"
        raise ValueError(msg)
    return value.strip()
