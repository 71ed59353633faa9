"""Availability endpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable

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
        market = self._account.market
        # The summary of clusters is assumed to have the shape of gpu-summary: its documentation differs only
        # in the kind of offers.
        handlers: dict[str, Callable[[Request], Response]] = {
            "gpus": lambda request: self._offers(request, is_cluster=False),
            "gpu-summary": lambda _: ok(shapes.summary(market.offers)),
            "multi-node-summary": lambda _: ok(shapes.summary(self._machines(is_cluster=True))),
            "multi-node": lambda request: self._offers(request, is_cluster=True),
            "disks": lambda request: _page(request, map(shapes.disk_row, market.disks), filters={}),
        }
        return [
            Route(path.replace("-", "_"), "GET", f"/availability/{path}", handler)
            for path, handler in handlers.items()
        ]

    def _machines(self, *, is_cluster: bool) -> list[Offer]:
        return [offer for offer in self._account.market.offers if (offer.nodes > 1) == is_cluster]

    def _offers(self, request: Request, *, is_cluster: bool) -> Response:
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
            for offer in self._machines(is_cluster=is_cluster)
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
    # The count must be exact, since `prime` reads until it has that many rows.
    return ok({"items": matches[(page - 1) * size : page * size], "totalCount": len(matches)})
