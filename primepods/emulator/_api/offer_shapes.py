"""JSON shapes of offers."""

from __future__ import annotations

from collections.abc import Iterable

from .._state.market import Amount, DiskOffer, Offer

MAX_LOW = 2
"""Largest remaining stock that is ``Low``."""
MAX_MEDIUM = 5
"""Largest remaining stock that is ``Medium``."""
COMMUNITY = "community_cloud"

Prices = dict[str, float | None]


def offer_row(offer: Offer, remaining: int | None) -> dict[str, object]:
    """Return the JSON row of an offer; ``remaining`` is the remaining stock, ``None`` for unlimited."""
    provider = offer.provider
    is_community = provider.security == COMMUNITY
    is_cluster = offer.nodes > 1
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
        "interconnect": 400 if is_cluster else None,
        "interconnectType": "Infiniband" if is_cluster else None,
        "provisioningTime": None,
        "stockStatus": _stock_status(remaining),
        "security": provider.security,
        "prices": {
            "onDemand": None if is_community else offer.price,
            "communityPrice": offer.price if is_community else None,
            "isVariable": offer.variable,
            "currency": "USD",
        },
        "images": list(offer.images),
        "isSpot": True if offer.spot else None,
        "prepaidTime": None,
    }


def disk_row(offer: DiskOffer) -> dict[str, object]:
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
    by_gpu: dict[str, dict[str, dict[str, Prices]]] = {}
    for offer in offers:
        empty: Prices = {"onDemand": None, "communityPrice": None, "spotPrice": None}
        by_count = by_gpu.setdefault(offer.gpu.name, {})
        cheapest = by_count.setdefault(str(offer.count), {"cheapest": empty})["cheapest"]
        kind = "communityPrice" if offer.provider.security == COMMUNITY else "onDemand"
        kind = "spotPrice" if offer.spot else kind
        best = cheapest[kind]
        cheapest[kind] = offer.price if best is None else min(best, offer.price)
    return by_gpu


def _stock_status(remaining: int | None) -> str:
    if remaining is None:
        return "Available"
    if remaining <= 0:
        return "Unavailable"
    if remaining <= MAX_LOW:
        return "Low"
    return "Medium" if remaining <= MAX_MEDIUM else "High"


def _amount(value: Amount | None) -> dict[str, object]:
    """Return the JSON of an amount. Without one, all values are null, since some clients require the keys."""
    return {
        "minCount": value and value.minimum,
        "defaultCount": value and value.default,
        "maxCount": value and value.maximum,
        "pricePerUnit": value and value.price,
        "step": value and value.step,
        "defaultIncludedInPrice": value and value.price is None,
        "additionalInfo": None,
    }
