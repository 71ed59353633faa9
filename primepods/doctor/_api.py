"""Checks of the settings and of the API."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping
from typing import Any, Final

from .._http.executor import RequestExecutor
from .._utils.money import money
from ..client import AsyncClient
from ..config import KEY_PAGE, environment_variable, explain, max_hourly, resolve_watchdog_key
from ..errors import (
    APIError,
    AuthenticationError,
    ConfigError,
    PermissionDeniedError,
    PrimePodsError,
    ProtocolError,
)
from ..models.account import Account, Permission, Wallet
from ..resources.account import check_watchdog_key
from ..retry import RetryPolicy
from ._check import Check, failure, ok, warning

_MAX_SKEW: Final = 30.0
"""Seconds by which this machine's clock may differ from the server's."""
_SLOW_RESPONSE: Final = 2.0
"""Seconds above which a response is slow."""


def create_client(
    *, base_url: str | None, context: str | None, team_id: str | None, timeout: float
) -> tuple[AsyncClient | None, list[Check]]:
    """Return a client without retries and checks of its settings; ``None`` if the settings are not valid."""
    try:
        max_hourly()  # orders need it to be valid
        sources = {
            source.name: source for source in explain(base_url=base_url, context=context, team_id=team_id)
        }
        client = AsyncClient(
            base_url=base_url,
            context=context,
            team_id=team_id,
            timeout=timeout,
            deadline=timeout,
            retry=RetryPolicy(attempts=1),
        )
    except ConfigError as exc:
        return None, [failure("settings", str(exc), "See `primepods config`.")]
    key = sources.pop("api_key")
    others = "; ".join(
        f"{source.name} {source.value} ({source.source})" for source in sources.values() if source.value
    )
    return client, [ok("key", f"set, from {key.source}"), ok("settings", others)]


async def check_api(
    client: AsyncClient, executor: RequestExecutor
) -> tuple[list[Check], frozenset[str] | None]:
    """Check the connection to the API, this machine's clock, the key's permissions and the balance.

    Returns:
        The checks, and the account's public SSH keys; ``None`` if the keys were not all read.
    """
    started_at = time.monotonic()
    pods = await _result(client.pods.page(limit=1))
    connected_at = time.monotonic()
    if not _is_response_of_api(pods):
        remedy = "If that does not help, see the API's status page."
        return [failure("API", str(pods), remedy)], None
    # Measure again: the first request had to open a connection.
    await _result(client.pods.page(limit=1))
    seconds = time.monotonic() - connected_at
    detail = (
        f"{executor.settings.base_url} responds in {seconds * 1e3:.0f} ms, "
        f"{(connected_at - started_at) * 1e3:.0f} ms with connecting"
    )
    latency = ok("API", detail)
    if seconds > _SLOW_RESPONSE:
        latency = warning("API", detail, "Waits and lists will be slow: look for a slow network or proxy.")
    keys, keys_error = await client.ssh_keys.list().collect()
    results = {
        "pods": pods,
        "history": await _result(client.pods.history_page(limit=1)),
        "offers": await _result(client.availability.summary()),
        "SSH keys": keys_error or keys,
    }
    checks = [
        latency,
        _check_clock(executor.transport.server_clock.now()),
        *_check_permissions(results, await _result(client.account.whoami())),
        *_check_balance(await _result(client.account.wallet(limit=1))),
        *await _check_watchdog_key(executor),
    ]
    if keys_error is not None:
        return checks, None
    # `check_ssh` compares keys without their comments.
    return checks, frozenset(" ".join(key.public_key.split()[:2]) for key in keys)


async def _result(call: Awaitable[Any]) -> Any:
    """Return the result of a call, or its :class:`PrimePodsError`."""
    try:
        return await call
    except PrimePodsError as exc:
        return exc.with_traceback(None)


async def _check_watchdog_key(executor: RequestExecutor) -> list[Check]:
    """Check the key of watchdogs, if it is set."""
    name = "watchdog key"
    if not (environment_variable("PRIMEPODS_WATCHDOG_KEY") or "").strip():
        return []
    try:
        key = resolve_watchdog_key(None, executor.settings.api_key)
        may_delete = await check_watchdog_key(executor, key)
    except ConfigError as exc:
        return [failure(name, str(exc), "Set PRIMEPODS_WATCHDOG_KEY to such a key, or unset it.")]
    if may_delete:
        return [ok(name, "may delete pods")]
    detail = "set; the API does not tell its permissions, so only a deletion shows whether it may delete"
    return [ok(name, detail)]


def _check_clock(server_time: float | None) -> Check:
    if server_time is None:
        remedy = "Sweeps by age will refuse to delete anything; look for a proxy that removes `Date`."
        return warning("clock", "the server does not state its time", remedy)
    skew = time.time() - server_time
    detail = f"{abs(skew):,.0f} s {'ahead of' if skew > 0 else 'behind'} the server's"
    if abs(skew) <= _MAX_SKEW:
        return ok("clock", detail)
    remedy = "Set this machine's clock (NTP): ages are wrong, and certificates may be refused."
    return warning("clock", detail, remedy)


def _is_response_of_api(result: Any) -> bool:
    """Return whether the API seems to have responded, with data, an error status or an unreadable row."""
    if isinstance(result, ProtocolError):
        return result.path.startswith("data[")
    return isinstance(result, APIError) or not isinstance(result, PrimePodsError)


def _check_balance(wallet: Any) -> list[Check]:
    """Check that the wallet has funds, if it could be read."""
    if not isinstance(wallet, Wallet):
        return []
    detail = f"{money(wallet.balance, wallet.currency)} left"
    if wallet.balance > 0:
        return [ok("balance", detail)]
    return [warning("balance", detail, "Add funds to the wallet: orders are refused.")]


def _check_permissions(results: dict[str, Any], user: Any) -> list[Check]:
    """Check which resources the key may read, and which the API says it may change.

    Args:
        results: The response or the error of each resource, by the resource's name.
        user: The user of the key, or the error.
    """
    scope: Mapping[str, Permission | None] = user.scope if isinstance(user, Account) else {}
    read_only = ", ".join(name for name, rights in scope.items() if rights and not rights.write)
    errors = {what: result for what, result in results.items() if isinstance(result, PrimePodsError)}
    readable = ", ".join(what for what in results if what not in errors)
    for what, error in errors.items():
        if isinstance(error, AuthenticationError):
            remedy = f"Create a key at {KEY_PAGE}, and put it where the present one comes from."
            return [failure("permissions", f"the API does not accept the key: {error.message}", remedy)]
        if not isinstance(error, PermissionDeniedError):
            remedy = "Try again later; if it still fails, report this."
            if isinstance(error, ProtocolError):
                remedy = "Check the base URL and the proxy. If they lead to the API, report this."
            return [failure("permissions", f"{what} cannot be read: {error}", remedy)]
    if not errors:
        if read_only:
            remedy = f"To order and delete, make a key with Read and Write at {KEY_PAGE}."
            return [warning("permissions", f"reads {readable}; may not change {read_only}", remedy)]
        changes = (
            "may change what it reads" if scope else "only an order or a deletion shows whether it may write"
        )
        return [ok("permissions", f"reads {readable}; {changes}")]
    remedy = f"Give the key these permissions at {KEY_PAGE}, or check the team."
    detail = f"may not read {', '.join(errors)}"
    if readable:
        detail += f"; reads {readable}"
    if "pods" in errors:
        return [failure("permissions", detail, remedy)]
    return [warning("permissions", detail, remedy)]
