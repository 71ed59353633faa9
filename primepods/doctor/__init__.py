"""Checks of the settings, the API and this machine, which rent nothing and change nothing at the API.

``primepods doctor`` prints them. The API key is redacted.
"""

from __future__ import annotations

import re
from pathlib import Path

from .._utils.arguments import check_seconds
from ._api import check_api, create_client
from ._check import Check
from ._machine import check_folder, check_ssh, check_versions

__all__ = ["Check", "diagnose"]


async def diagnose(
    *,
    base_url: str | None = None,
    context: str | None = None,
    team_id: str | None = None,
    timeout: float = 10.0,
) -> list[Check]:
    """Check versions, settings, the API, ssh and the folder of lease files.

    If the settings are valid, it sends a few GETs without retries, and writes and removes a lease file.
    Problems are returned as checks with a remedy.

    Args:
        base_url: As for a client.
        context: As for a client.
        team_id: As for a client.
        timeout: Seconds for each request.

    Raises:
        TypeError: An argument has the wrong type.
        ValueError: ``timeout`` is out of range.
    """
    client, checks = create_client(
        base_url=base_url, context=context, team_id=team_id, timeout=check_seconds("timeout", timeout)
    )
    if client is None:
        checks = [check_versions(), *checks, await check_ssh(None), check_folder(None)]
    else:
        executor = client._executor  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - no public name has all of it
        async with client:
            api_checks, account_keys = await check_api(client, executor)
        machine = await check_ssh(account_keys), check_folder(executor.settings)
        checks = [check_versions(), *checks, *api_checks, *machine]
        checks = [check.edited(executor.settings.api_key.scrub) for check in checks]
    return [check.edited(_hide_home) for check in checks]


def _hide_home(text: str) -> str:
    """Replace the home folder's path, which can contain the user's name, with ``~``."""
    try:
        home = Path.home()
    except RuntimeError:  # no home folder
        return text
    # If the home folder is `/` (in some containers) or `.`, every slash or dot would be replaced.
    # If it is `/home/a`, keep `/home/ab`, `/home/a-b` and `/home/a.b`.
    return re.sub(rf"{re.escape(str(home))}(?![.-]?\w)", "~", text) if home.name else text
