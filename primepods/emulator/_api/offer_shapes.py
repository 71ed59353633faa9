"""JSON shapes of offers."""

from __future__ import annotations

from collections.abc import Iterable

from .._state.market import Amount, DiskOffer, Offer
from .http import Reply, ok

LOW = 2
MEDIUM = 5
COMMUNITY = "community_cloud"

Prices = dict[str, float | None]


def offers_response(rows: list[dict[str, object]], total: int) -> Reply:
    """Return a page of offers; ``total`` must be exact: clients read until they have that many rows."""
    return ok({"items": rows, "totalCount": total})


def offer_row(offer: Offer, left: int | None) -> dict[str, object]:
    """Return the JSON row of an offer; ``left`` is the remaining stock (``None``: unlimited)."""
    provider = offer.provider
    community = provider.security == COMMUNITY
    cluster = offer.nodes > 1
    return {
        "cloudId": offer.cloud_id,
        "gpuType": offer.gpu.name,
        "socket": offer.gpu.socket,
        "provider": provider.name,
        "region": provider.region,
        "dataCenter": provider.data_center,
        "country": provider.country,
        "gpuCount": offer.count,
        "gpuMemory": offer.gpu.memory,
        "disk": _amount(offer.disk),
        "sharedDisk": _amount(None),
        "vcpu": _amount(offer.vcpus),
        "memory": _amount(offer.memory),
        "internetSpeed": None,
        "interconnect": 400 if cluster else None,
        "interconnectType": "Infiniband" if cluster else None,
        "provisioningTime": None,
        "stockStatus": _stock_status(left),
        "security": provider.security,
        "prices": {
            "onDemand": None if community else offer.price,
            "communityPrice": offer.price if community else None,
            "isVariable": offer.variable,
            "currency": "USD",
        },
        "images": list(offer.images),
        "isSpot": True if offer.spot else None,
        "prepaidTime": None,
    }


def disk_row(offer: DiskOffer) -> dict[str, object]:
    """Return the JSON row of a disk."""
    return {
        "cloudId": offer.cloud_id,
        "provider": offer.provider.name,
        "dataCenter": offer.provider.data_center,
        "country": offer.provider.country,
        "region": offer.provider.region,
        "spec": _amount(offer.size),
        "stockStatus": "Available",
        "security": offer.provider.security,
        "isMultinode": True,
    }


def summary(offers: Iterable[Offer]) -> dict[str, dict[str, dict[str, Prices]]]:
    """Return the cheapest prices by GPU and number of GPUs: on demand, community, spot."""
    found: dict[str, dict[str, dict[str, Prices]]] = {}
    for offer in offers:
        empty: Prices = {"onDemand": None, "communityPrice": None, "spotPrice": None}
        by_count = found.setdefault(offer.gpu.name, {})
        cheapest = by_count.setdefault(str(offer.count), {"cheapest": empty})["cheapest"]
        community = offer.provider.security == COMMUNITY
        kind = "spotPrice" if offer.spot else "communityPrice" if community else "onDemand"
        best = cheapest[kind]
        cheapest[kind] = offer.price if best is None else min(best, offer.price)
    return found


def _stock_status(left: int | None) -> str:
    """Return the schema's stock status for a remaining stock."""
    if left is None:
        return "Available"
    if left <= 0:
        return "Unavailable"
    return "Low" if left <= LOW else "Medium" if left <= MEDIUM else "High"


def _amount(value: Amount | None) -> dict[str, object]:
    """Return an amount with all keys, which clients require."""
    return {
        "minCount": value and value.minimum,
        "defaultCount": value and value.default,
        "maxCount": value and value.maximum,
        "pricePerUnit": value and value.price,
        "step": value and value.step,
        "defaultIncludedInPrice": None if value is None else value.price is None,
        "additionalInfo": None,
    }
