"""Settings and their sources. Only this package reads environment variables and the files below.

A setting is usually taken from the first of these sources that has it:

- the argument;
- the environment: ``PRIME_API_KEY``, ``PRIME_TEAM_ID``, ``PRIME_API_BASE_URL`` or ``PRIME_BASE_URL``, and
  ``PRIME_CONTEXT``, the name of a context;
- a file of `prime`: ``~/.prime/environments/NAME.json`` with a context, else ``~/.prime/config.json``;
- the default.

A context without a key uses the key of ``config.json``. So does the built-in context ``production``, which
has no file. If the context is an argument, the variables above are ignored. Otherwise, if arguments or the
environment have both the key and the base URL, no file of `prime` is read. A key from a file is only sent to
the host to which the file assigns it.

The limit on the price per hour of all pods is in ``PRIMEPODS_MAX_HOURLY``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult

import attrs

from .._utils.arguments import check_count, check_seconds
from .._utils.clock import SYSTEM_CLOCK, Clock
from .._utils.plain import ToDict
from .._utils.secret import Secret
from .._utils.text import quote
from ..errors import ConfigError
from ..retry import RetryPolicy
from . import _environment as variables
from ._environment import WATCHDOG_KEY, from_environment
from ._environment import child_environment as child_environment
from ._environment import default_ssh_command as default_ssh_command
from ._environment import environment_variable as environment_variable
from ._environment import environment_without_key as environment_without_key
from ._files import DEFAULT_BASE_URL as DEFAULT_BASE_URL
from ._files import Found, from_argument, read_files
from ._files import saved_contexts as saved_contexts
from ._headers import check_header_value, check_user_agent
from ._host import this_host as this_host
from ._max_hourly import find_max_hourly
from ._max_hourly import max_hourly as max_hourly
from ._urls import check_base_url as check_base_url
from ._urls import find_proxy as find_proxy
from ._urls import is_loopback as is_loopback
from ._urls import origin as origin

if TYPE_CHECKING:
    from .._operations.operation import EventHook


KEY_PAGE: Final = "https://app.primeintellect.ai/dashboard/tokens"
"""Page on which users create API keys."""
DEFAULT_TIMEOUT: Final = 30.0
"""Default timeout of one attempt, in seconds."""
DEFAULT_DEADLINE: Final = 120.0
"""Default deadline of one call with all its retries, in seconds."""
DEFAULT_MAX_CONCURRENCY: Final = 16
"""Default max number of a client's requests in flight."""


@attrs.frozen(kw_only=True)
class Settings:
    """Resolved and validated settings of a client. They are hashable, and pickles do not hold the key."""

    api_key: Secret = attrs.field(repr=False)
    key_source: str = attrs.field(default="argument api_key", eq=False)
    base_url: str = DEFAULT_BASE_URL
    team_id: str | None = None
    timeout: float = DEFAULT_TIMEOUT
    deadline: float = DEFAULT_DEADLINE
    max_concurrency: int = DEFAULT_MAX_CONCURRENCY
    retry: RetryPolicy = attrs.field(factory=RetryPolicy)
    user_agent: str | None = None
    proxy: Secret | None = attrs.field(default=None, repr=False)
    clock: Clock = attrs.field(default=SYSTEM_CLOCK, repr=False)
    on_event: EventHook | None = attrs.field(default=None, eq=False, repr=False)
    """Callback for events; not compared or hashed."""


def resolve(
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
    on_event: EventHook | None = None,
) -> Settings:
    """Resolve a client's arguments to :class:`Settings`.

    With ``own_connections``, also look for a proxy.

    Raises:
        ConfigError: No key was found, a setting or file is not valid, or the key belongs to another host.
        ValueError: A number is out of range, or a header or the user agent is not valid.
        TypeError: An argument has the wrong type.
    """
    found = _find_settings(api_key=api_key, base_url=base_url, team_id=team_id, context=context)
    if found.key is None:
        # With the argument `context`, the variable is ignored.
        variable = ", the environment variable PRIME_API_KEY," if context is None else ""
        remedy = "set PRIME_API_KEY" if context is None else "save it in that file"
        raise ConfigError(
            f"No API key found in the argument api_key{variable} or a file such as ~/.prime/config.json. "
            f"Create a key at {KEY_PAGE} with the permission Instances (Read, or Read and Write to order and "
            f"delete) and {remedy}."
        )
    url_parts = check_base_url(found.url)
    _check_key_host(found.key, found.url, url_parts)
    team = None if found.team is None else check_header_value("team ID", found.team)
    return Settings(
        api_key=Secret(check_header_value("API key", found.key)),
        key_source=found.key.source,
        base_url=url_parts.geturl(),
        team_id=team,
        timeout=check_seconds("timeout", timeout),
        deadline=check_seconds("deadline", deadline),
        max_concurrency=check_count("max_concurrency", max_concurrency, minimum=1, maximum=None),
        retry=check_retry(retry),
        user_agent=None if user_agent is None else check_user_agent(user_agent),
        proxy=find_proxy(url_parts) if own_connections else None,
        on_event=on_event,
    )


@attrs.frozen(kw_only=True)
class SettingSource(ToDict):
    """A setting and its source.

    Attributes:
        name: Name of the setting.
        value: The value, or ``set`` in place of a secret; ``None`` if the setting is not set.
        source: Where the value comes from; without a value, a reason or a hint.
    """

    name: str
    value: str | None
    source: str


def explain(
    *, base_url: str | None = None, team_id: str | None = None, context: str | None = None
) -> tuple[SettingSource, ...]:
    """Return the settings that would be used with these arguments, and their sources, without secrets.

    Raises:
        ConfigError: A file, context, URL or proxy is not valid, or there is no place for the lease files.
        TypeError: An argument is not a string.
    """
    found = _find_settings(api_key=None, base_url=base_url, team_id=team_id, context=context)
    has_proxy = find_proxy(check_base_url(found.url)) is not None
    folder = from_environment(variables.STATE_DIR) or Found(str(lease_folder()), "the default")
    no_key = "PRIME_API_KEY is not set, and no file has one" if context is None else "no file has one"
    return (
        _explained("api_key", found.key, no_key, is_secret=True),
        _explained("base_url", found.url),
        _explained("team_id", found.team, "your own account"),
        _explained("context", found.context, "none is chosen"),
        # Leave out the address, which may hold a password.
        SettingSource(
            name="proxy",
            value="set" if has_proxy else None,
            source="HTTPS_PROXY and similar variables, except for hosts in NO_PROXY",
        ),
        _explained("lease_folder", folder),
        _explained("max_hourly", find_max_hourly(), "no limit: see PRIMEPODS_MAX_HOURLY"),
    )


def _explained(
    name: str, found: Found | None, if_missing: str = "", *, is_secret: bool = False
) -> SettingSource:
    if found is None:
        return SettingSource(name=name, value=None, source=if_missing)
    return SettingSource(name=name, value="set" if is_secret else found.value, source=found.source)


def lease_folder() -> Path:
    """Return the directory of the lease files: ``PRIMEPODS_STATE_DIR``, or ``~/.primepods/leases``.

    Raises:
        ConfigError: The path needs a home directory, and there is none.
    """
    folder = from_environment(variables.STATE_DIR)
    try:
        return Path(folder.value).expanduser() if folder else Path.home() / ".primepods" / "leases"
    except RuntimeError:
        raise ConfigError(
            "There is no home directory for the files of leases: set PRIMEPODS_STATE_DIR to a folder."
        ) from None


def check_retry(value: RetryPolicy) -> RetryPolicy:
    """Return ``value`` if it is a :class:`RetryPolicy`; raise TypeError otherwise."""
    if not isinstance(value, RetryPolicy):
        remedy = "for no retries: RetryPolicy(attempts=1)"
        raise TypeError(f"retry must be a primepods.RetryPolicy, got {quote(value)}; {remedy}")
    return value


@attrs.frozen(kw_only=True, eq=False, repr=False)
class _FoundSettings:
    """Settings with their sources, before validation."""

    key: Found | None
    url: Found
    team: Found | None
    context: Found | None


def _find_settings(
    *, api_key: str | None, base_url: str | None, team_id: str | None, context: str | None
) -> _FoundSettings:
    chosen_context = from_argument("context", context)
    key = from_argument("api_key", api_key)
    url = from_argument("base_url", base_url)
    team = from_argument("team_id", team_id)
    # A context given as an argument selects an account, and the environment may belong to another one.
    if chosen_context is None:
        key = key or from_environment(variables.API_KEY)
        url = url or from_environment(variables.BASE_URL)
        team = team or from_environment(variables.TEAM_ID)
        if key and url:
            # Both select the account: read neither PRIME_CONTEXT nor a file, not even for the team.
            return _FoundSettings(key=key, url=url, team=team, context=None)
        chosen_context = from_environment(variables.CONTEXT)
    files = read_files(chosen_context)
    if not key:
        found = ((file, file.text("api_key")) for file in files)
        key = next((Found(text, f"field api_key of {file.path}", file) for file, text in found if text), None)
    # Read URL and team only from the first file: a context without a team does not use that of `config.json`.
    if not url:
        url = files[0].base_url if files else Found(DEFAULT_BASE_URL, "the default")
    if not team and files and (text := files[0].text("team_id")):
        team = Found(text, f"field team_id of {files[0].path}")
    return _FoundSettings(key=key, url=url, team=team, context=chosen_context)


def _check_key_host(key: Found, url: Found, parts: SplitResult) -> None:
    """Raise if a key from a file would be sent to an origin to which it does not belong."""
    if key.file is None:
        return
    owner = key.file.key_base_url
    if origin(check_base_url(owner)) != origin(parts):
        raise ConfigError(
            f"The API key comes from {key.file.path} and belongs to {owner.value}, but the base URL is "
            f"{quote(url.value)} ({url.source}). Pass api_key or set PRIME_API_KEY for that host as well."
        )


def resolve_watchdog_key(given: str | None, own: Secret) -> Secret:
    """Return the key of a watchdog: the given one, that of ``PRIMEPODS_WATCHDOG_KEY``, or ``own`` for "own".

    Raises:
        ConfigError: There is no key, it is not valid, or it is the client's own although "own" was not given.
    """
    found = from_environment(WATCHDOG_KEY) if given is None else Found(given, "argument api_key of Watchdog")
    own_choice = 'or choose the key "own", which puts this client\'s key on the pod'
    remedy = f"Create one at {KEY_PAGE} with the permission Instances (Read and Write)"
    if found is None:
        raise ConfigError(f"The watchdog has no key. {remedy} and set PRIMEPODS_WATCHDOG_KEY, {own_choice}.")
    key = own if given == "own" else Secret(check_header_value("watchdog's key", found))
    if given != "own" and key == own:
        raise ConfigError(f"The watchdog's key ({found.source}) is the client's own. {remedy}, {own_choice}.")
    if '"' in key or "\\" in key:
        raise ConfigError(f"The watchdog's key has a quote or a backslash, which curl cannot read. {remedy}.")
    return key
