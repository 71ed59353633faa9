"""The wire shapes of offers."""

from .._state.market import Amount, DiskOffer, Offer
from .shapes import encode

LOW = 2
MEDIUM = 5


def offers_answer(rows: list[dict[str, object]], total: int) -> bytes:
    """A page of offers; clients read on until they have `total` rows, so it must be exact."""
    return encode({"items": rows, "totalCount": total})


def stock_status(left: int | None) -> str:
    """The schema's word for how many are left; `None` means no end of them."""
    if left is None:
        return "Available"
    if left <= 0:
        return "Unavailable"
    return "Low" if left <= LOW else "Medium" if left <= MEDIUM else "High"


def summary_answer(prices: dict[str, dict[str, dict[str, float | None]]]) -> bytes:
    """The cheapest prices by GPU and number of GPUs."""
    return encode(
        {
            gpu: {count: {"cheapest": best} for count, best in by_count.items()}
            for gpu, by_count in prices.items()
        }
    )


def offer_row(offer: Offer, left: int | None) -> dict[str, object]:
    """An offer as the availability endpoints show it."""
    community = offer.provider.security == "community_cloud"
    cluster = offer.nodes > 1
    return {
        "cloudId": offer.cloud_id,
        "gpuType": offer.gpu.name,
        "socket": offer.gpu.socket,
        "provider": offer.provider.name,
        "region": offer.provider.region,
        "dataCenter": offer.provider.data_center,
        "country": offer.provider.country,
        "gpuCount": offer.count,
        "gpuMemory": offer.gpu.memory,
        "disk": amount(offer.disk),
        "sharedDisk": amount(None),
        "vcpu": amount(offer.vcpus),
        "memory": amount(offer.memory),
        "internetSpeed": None,
        "interconnect": 400 if cluster else None,
        "interconnectType": "Infiniband" if cluster else None,
        "provisioningTime": None,
        "stockStatus": stock_status(left),
        "security": offer.provider.security,
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
    """A disk as the availability endpoint shows it."""
    return {
        "cloudId": offer.cloud_id,
        "provider": offer.provider.name,
        "dataCenter": offer.provider.data_center,
        "country": offer.provider.country,
        "region": offer.provider.region,
        "spec": amount(offer.size),
        "stockStatus": "Available",
        "security": offer.provider.security,
        "isMultinode": True,
    }


def amount(value: Amount | None) -> dict[str, object]:
    """How much there is of something; every key is there, as clients demand."""
    return {
        "minCount": value and value.least,
        "defaultCount": value and value.default,
        "maxCount": value and value.most,
        "pricePerUnit": value and value.price,
        "step": value and value.step,
        "defaultIncludedInPrice": None if value is None else value.price is None,
        "additionalInfo": None,
    }
