"""Availability endpoints."""

from __future__ import annotations

from collections.abc import Iterable

from .._state.account import Account
from .._state.market import Offer
from . import offer_shapes as shapes
from .http import Request, Response, invalid, ok, query_choice, query_integer, query_value, query_values
from .router import Route
from .vocabulary import GPU_TYPES, REGIONS, SECURITY, SOCKETS

Row = dict[str, object]


class AvailabilityApi:
    def __init__(self, account: Account) -> None:
        self._account = account

    def routes(self) -> list[Route]:
        return [
            Route("gpus", "GET", "/availability/gpus", self._gpus),
            Route("gpu_summary", "GET", "/availability/gpu-summary", self._summary),
            Route("multi_node_summary", "GET", "/availability/multi-node-summary", self._multi_node_summary),
            Route("multi_node", "GET", "/availability/multi-node", self._multi_node),
            Route("disks", "GET", "/availability/disks", self._disks),
        ]

    def _gpus(self, request: Request) -> Response:
        return self._offers(request, [offer for offer in self._account.market.offers if offer.nodes == 1])

    def _multi_node(self, request: Request) -> Response:
        return self._offers(request, [offer for offer in self._account.market.offers if offer.nodes > 1])

    def _summary(self, _call: Request) -> Response:
        return ok(shapes.summary(self._account.market.offers))

    def _multi_node_summary(self, _call: Request) -> Response:
        # Assumed to have the shape of gpu-summary: its documentation differs only in the kind of offers.
        return ok(shapes.summary(offer for offer in self._account.market.offers if offer.nodes > 1))

    def _disks(self, request: Request) -> Response:
        return _page(request, [shapes.disk_row(disk) for disk in self._account.market.disks], filters={})

    def _offers(self, request: Request, offers: list[Offer]) -> Response:
        disk_ids = query_values(request, "disks")
        filters: Row = {
            "gpuCount": query_integer(request, "gpu_count", default=None),
            "gpuType": query_choice(request, "gpu_type", GPU_TYPES),
            "socket": query_choice(request, "socket", SOCKETS),
            "security": query_choice(request, "security", SECURITY),
        }
        places = {disk.id: disk.data_center for disk in self._account.disks_at()[1]}
        offers = [
            offer
            for offer in offers
            if all(places.get(disk_id) == offer.provider.data_center for disk_id in disk_ids)
        ]
        rows = [shapes.offer_row(offer, self._account.remaining_stock(offer.cloud_id)) for offer in offers]
        return _page(request, rows, filters=filters)


def _page(request: Request, rows: Iterable[Row], *, filters: Row) -> Response:
    """Return a page of the rows that match ``filters`` and the query's regions, data center and cloud id.

    A filter whose value is ``None`` matches all rows.
    """
    page = query_integer(request, "page", default=1, low=1)
    size = query_integer(request, "page_size", default=100, low=1, high=100)
    regions = query_values(request, "regions")
    if not set(regions) <= set(REGIONS):
        raise invalid(("regions", f"Input should be one of {', '.join(REGIONS)}"))
    place = {
        "dataCenter": query_value(request, "data_center_id"),
        "cloudId": query_value(request, "cloud_id"),
    }
    wanted = {key: value for key, value in {**filters, **place}.items() if value is not None}
    in_regions = [row for row in rows if not regions or row["region"] in regions]
    matches = [row for row in in_regions if all(row[key] == value for key, value in wanted.items())]
    return shapes.offers_response(matches[(page - 1) * size : page * size], total=len(matches))
