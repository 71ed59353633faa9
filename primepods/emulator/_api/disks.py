"""Endpoints for disks."""

from __future__ import annotations

from .._state.account import Account
from .._state.boot import DELETING
from .._state.disks import DiskRecord
from ..clock import timestamp
from .http import Call, Response, encode, ok, refuse
from .router import Route
from .shapes import USER_ID, WALLET_ID, page_of, team_of
from .validation import json_body, nullable, object_of, one_of, positive_integer, string
from .vocabulary import PROVIDERS

_ORDER = object_of(
    {
        "disk": object_of(
            {"size": positive_integer},
            optional={
                "name": nullable(string),
                "country": nullable(string),
                "cloudId": nullable(string),
                "dataCenterId": nullable(string),
            },
            closed=True,
        ),
        "provider": object_of({"type": one_of(*PROVIDERS)}),
    },
    optional={"team": nullable(object_of({"teamId": string}))},
    closed=True,
)
_UPDATE = object_of({"name": string})


class DisksApi:
    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        return [
            Route("disk_list", "GET", "/disks/", self._list),
            Route("disk_create", "POST", "/disks/", self._create),
            Route("disk_get", "GET", "/disks/{disk_id}", self._get),
            Route("disk_update", "PATCH", "/disks/{disk_id}", self._update),
            Route("disk_delete", "DELETE", "/disks/{disk_id}", self._delete),
        ]

    def _list(self, request: Call) -> Response:
        then, disks = self._account.disks_at(request.lag)
        return page_of(
            request, disks, lambda disk: encode(self._row(disk, then)), self._account.config.max_page_size
        )

    def _get(self, request: Call, disk_id: str) -> Response:
        disk, then = self._find(request, disk_id)
        return ok(self._row(disk, then))

    def _create(self, request: Call) -> Response:
        body = json_body(request, _ORDER)
        order, provider = body["disk"], body["provider"]["type"]
        # The schema allows an order without `cloudId`; the default is imagined.
        cloud_id = order.get("cloudId") or f"{provider}-disk"
        offers = [offer for offer in self._account.market.disks if offer.cloud_id == cloud_id]
        if not offers or offers[0].provider.name != provider:
            raise refuse(400, f"{provider} has no disk offer {cloud_id}")
        [offer] = offers
        place = {"country": offer.provider.country, "dataCenterId": offer.provider.data_center}
        for key, value in place.items():
            if order.get(key) not in (None, value):
                raise refuse(400, f"Offer {cloud_id} has {key} {value}, not {order[key]}")
        size = int(order["size"])
        if not offer.size.allows(size):
            steps = f"in steps of {offer.size.step}"
            raise refuse(400, f"size must be from {offer.size.minimum} to {offer.size.maximum} {steps}")
        if self._account.is_out_of_funds():
            raise refuse(402, "Insufficient funds")
        disk = self._account.add_disk(offer, size, order.get("name"), team_of(body, self._account))
        return ok(self._row(disk, disk.created))

    def _update(self, request: Call, disk_id: str) -> Response:
        name = json_body(request, _UPDATE)["name"]
        disk, then = self._find(request, disk_id)
        disk.name, disk.updated = name, then
        return ok(self._row(disk, then))

    def _delete(self, request: Call, disk_id: str) -> Response:
        disk, _ = self._find(request, disk_id)
        if users := self._account.users_of(disk.id):
            # Imagined: no response is documented for this case.
            raise refuse(409, f"Disk is attached to {', '.join(users)}")
        if request.deletion_lost_after is not None:
            return ok({"status": DELETING})
        return ok({"status": self._account.delete_disk(disk)})

    def _find(self, request: Call, disk_id: str) -> tuple[DiskRecord, float]:
        then, disks = self._account.disks_at(request.lag)
        found = [disk for disk in disks if disk.id == disk_id]
        if not found:
            raise refuse(404, "Disk not found")
        return found[0], then

    def _row(self, disk: DiskRecord, now: float) -> dict[str, object]:
        epoch = self._account.clock.epoch
        return {
            "id": disk.id,
            "name": disk.name,
            "createdAt": timestamp(epoch, disk.created),
            "updatedAt": timestamp(epoch, disk.updated),
            "terminatedAt": None,
            "status": disk.status(now),
            "providerType": disk.provider,
            "size": disk.size,
            "info": {
                "country": disk.country,
                "dataCenterId": disk.data_center,
                "cloudId": disk.cloud_id,
                "isMultinode": True,
            },
            "priceHr": disk.price_hr,
            "stoppedPriceHr": None,
            "provisioningPriceHr": 0,
            "userId": USER_ID,
            "teamId": disk.team_id,
            "walletId": WALLET_ID,
            "pods": self._account.users_of(disk.id),
            "clusters": [],
        }
