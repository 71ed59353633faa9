"""Endpoints for the user, teams and the wallet."""

from __future__ import annotations

from .._state.account import TEAM_ID, Account
from ..clock import timestamp
from .http import Call, Request, Response, encode, ok, query_integer, query_value, refuse
from .router import Route
from .shapes import USER_ID, WALLET_ID, page_of

_RESOURCES = {
    "Instance": "compute",
    "Cluster": "compute",
    "Disk": "disks",
    "Sandbox": "sandboxes",
    "Image": "images",
}
"""Types of wallet rows, by the type in the history. Other types are lowercased."""
_SINCE = -86400.0
"""Creation time of user and team, in seconds on the emulator's clock."""

Row = dict[str, object]


class UserApi:
    def __init__(self, account: Account) -> None:
        self._account = account
        self._since = timestamp(account.clock.epoch, _SINCE)

    def routes(self) -> list[Route]:
        return [
            Route("whoami", "GET", "/user/whoami", self._whoami),
            Route("teams", "GET", "/user/teams", self._teams),
            Route("team_members", "GET", "/teams/{team_id}/members", self._members),
            Route("wallet", "GET", "/billing/wallet", self._wallet),
        ]

    def _whoami(self, request: Call) -> Response:
        user: Row = {
            "id": USER_ID,
            "role": "USER",
            "createdAt": self._since,
            "name": "Emulated User",
            "slug": "emulated",
            "email": "user@emulator.invalid",
            "image": None,
            "emailVerified": True,
            "hasBetaAccess": False,
            "isBanned": False,
            "skipPrepay": False,
            "blacklist": [],
            "scope": request.scope,
            "teamId": query_value(request, "teamId"),
        }
        return ok({"status": "success", "data": user})

    def _teams(self, request: Request) -> Response:
        team = {"teamId": TEAM_ID, "name": "Emulated Team", "slug": "emulated-team", "role": "ADMIN"}
        return self._page(request, [{**team, "createdAt": self._since}])

    def _members(self, request: Request, team_id: str) -> Response:
        if team_id != TEAM_ID:
            raise refuse(404, "Team not found")
        names = {USER_ID: ("Emulated User", "ADMIN"), "clemulator0003user": ("Other User", "MEMBER")}
        rows: list[Row] = [
            {"userId": user_id, "userName": name, "userEmail": None, "role": role, "joinedAt": self._since}
            for user_id, (name, role) in names.items()
        ]
        return self._page(request, rows)

    def _page(self, request: Request, rows: list[Row]) -> Response:
        return page_of(request, rows, encode, self._account.config.max_page_size)

    def _wallet(self, request: Request) -> Response:
        limit = query_integer(request, "limit", default=20, low=1, high=100)
        offset = query_integer(request, "offset", default=0, low=0)
        team_id = query_value(request, "teamId")
        bills = [bill for bill in self._account.bills() if team_id in (None, bill.team_id)]
        epoch = self._account.clock.epoch
        rows: list[Row] = [
            {
                "id": f"bill-{bill.id}",
                "created_at": timestamp(epoch, bill.created),
                "updated_at": timestamp(epoch, bill.terminated or 0.0),
                "last_billed_at": timestamp(epoch, bill.terminated or 0.0),
                "amount_usd": bill.billed,
                "currency": "USD",
                "resource_type": _RESOURCES.get(bill.type, bill.type.lower()),
                "resource_id": bill.id,
            }
            for bill in bills[offset : offset + limit]
        ]
        return ok(
            {
                "wallet_id": WALLET_ID,
                "team_id": team_id,
                "balance_usd": self._account.balance(),
                "currency": "USD",
                "total_billings": len(bills),
                "recent_billings": rows,
            }
        )
