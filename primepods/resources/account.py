"""The key's user and permissions, the user's teams, and the wallet.

API reference: https://docs.primeintellect.ai/api-reference
"""

from __future__ import annotations

import logging
from operator import attrgetter
from typing import Any, Final

import attrs

from .._decoding.fields import DecodeError
from .._decoding.rows import as_object, decode_object
from .._http.executor import RequestExecutor
from .._http.request import encode_id, page_request
from .._http.transport import Transport
from .._operations import as_operation
from .._utils.arguments import check_count, check_id
from .._utils.secret import Secret
from ..config import KEY_PAGE
from ..errors import AuthenticationError, ConfigError, PrimePodsError, ProtocolError
from ..models.account import Account, BillingEntry, Team, TeamMember, Wallet
from ..pagination import AsyncPager, FetchedPage, OffsetReader
from ._paging import PAGE_SIZE, fetch_page, list_pager, page_source

log: logging.Logger = logging.getLogger("primepods")

_WHOAMI: Final = "/api/v1/user/whoami"
_TEAMS: Final = "/api/v1/user/teams"
_MEMBERS: Final = "/api/v1/teams/{id}/members"
_WALLET: Final = "/api/v1/billing/wallet"
_MAX_WALLET_LIMIT: Final = 100
"""Max entries of a page of the wallet, set by the API."""


class AsyncAccountInfo:
    """``client.account``: the key's user and permissions, the user's teams, and the wallet.

    Its calls cost nothing and change nothing. Any request may also raise the errors that
    :class:`~primepods.AsyncPods` lists.
    """

    def __init__(self, executor: RequestExecutor) -> None:
        self._executor = executor

    @as_operation("account.whoami")
    async def whoami(self) -> Account:
        """Return the key's user and permissions: ``GET /api/v1/user/whoami``."""
        request = page_request(_WHOAMI, **self._team)
        return await self._executor.call(request, _decode_account)

    def teams(self, *, page_size: int = PAGE_SIZE) -> AsyncPager[Team]:
        """Iterate over the user's teams, each exactly once: ``GET /api/v1/user/teams``.

        Args:
            page_size: Teams per request, from 1 to 1,000.
        """
        key = attrgetter("team_id")
        return list_pager(self._executor, _TEAMS, Team, page_size, name="account.teams", key=key)

    def members(self, team_id: str, *, page_size: int = PAGE_SIZE) -> AsyncPager[TeamMember]:
        """Iterate over the members of a team, each exactly once: ``GET /api/v1/teams/{id}/members``.

        Args:
            team_id: The team's id.
            page_size: Members per request, from 1 to 1,000.
        """
        path = _MEMBERS.format(id=encode_id(check_id(team_id, name="team_id", listed_by="account.teams()")))
        return list_pager(
            self._executor,
            path,
            TeamMember,
            page_size,
            name="account.members",
            key=attrgetter("user_id"),
            route=_MEMBERS,
        )

    @as_operation("account.wallet")
    async def wallet(self, *, limit: int | None = None) -> Wallet:
        """Return the balance and the billing entries of the wallet: ``GET /api/v1/billing/wallet``.

        For a client with a team, this is the team's wallet. Entries that cannot be read are left out. A
        warning is logged for them, unless ``limit`` ends the reading first.

        Args:
            limit: Maximum number of entries, the latest first; by default all, 100 per request.
        """
        if limit is not None:
            check_count("limit", limit, minimum=1)
        heads: list[Wallet] = []

        def keep_head(data: Any) -> None:
            heads.append(decode_object({**as_object(data), "recent_billings": None}, Wallet))

        async def fetch(offset: int, size: int) -> FetchedPage[BillingEntry]:
            request = page_request(_WALLET, offset=offset, limit=size, **self._team)
            return await fetch_page(
                self._executor,
                request,
                BillingEntry,
                offset=offset,
                limit=size,
                rows_key="recent_billings",
                count_key="total_billings",
                on_body=keep_head,
            )

        entries: list[BillingEntry] = []
        if limit == 1:
            # The caller may want only the balance: send one request, even if the entry cannot be read.
            rows = (await fetch(0, 1)).rows
            entries += [row for row in rows[:1] if isinstance(row, BillingEntry)]
            return attrs.evolve(heads[0], entries=tuple(entries))
        page_size = min(limit or _MAX_WALLET_LIMIT, _MAX_WALLET_LIMIT)
        reader = OffsetReader(page_source(self._executor, fetch, _WALLET), page_size)
        try:
            async with AsyncPager(lambda: reader, path=_WALLET, page_size=page_size) as pager:
                async for entry in pager:
                    entries.append(entry)
                    if len(entries) == limit:
                        break
        except ProtocolError as exc:
            # If all entries have come, the error is about those that cannot be read.
            if not reader.rows.is_complete:
                raise
            log.warning("Entries of the wallet cannot be read and are left out: %s", exc)
        return attrs.evolve(heads[0], entries=tuple(entries))

    @property
    def _team(self) -> dict[str, str]:
        team_id = self._executor.settings.team_id
        return {} if team_id is None else {"teamId": team_id}


def _decode_account(data: Any) -> Account:
    body = as_object(data)
    try:
        return decode_object(body.get("data"), Account)
    except DecodeError as exc:
        raise exc.inside("data") from None


async def check_watchdog_key(executor: RequestExecutor, key: str) -> bool:
    """Check that the API does not say that a watchdog's key is unknown, or may not delete pods.

    Only a deletion proves that a key can delete; ``whoami`` reports the permissions of some keys.

    Returns:
        Whether the API says that the key may delete pods.

    Raises:
        ConfigError: The API says so.
    """
    settings = attrs.evolve(executor.settings, api_key=Secret(key))
    transport = Transport(settings, executor.transport.given_session)
    problem = "may not delete pods"
    try:
        account = await AsyncAccountInfo(RequestExecutor(settings, transport)).whoami()
        may_delete = account.allows("instances", "pods", write=True)
        if may_delete is not False:
            return bool(may_delete)
    except AuthenticationError:
        problem = "is not accepted by the API"
    except PrimePodsError as exc:
        log.info("The permissions of the watchdog's key are unknown: %s", exc)
        return False
    finally:
        await transport.aclose()
    permission = "the permission Instances (Read and Write)"
    raise ConfigError(f"The watchdog's key {problem}. Create one at {KEY_PAGE} with {permission}.")
