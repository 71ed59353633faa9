"""What can be ordered: offers, their stock, and what is in them. Drawn once from the seed."""

from collections.abc import Iterable
from random import Random

from attrs import Factory, define, evolve, frozen

from .catalog import (
    CLUSTER_GPUS,
    CLUSTER_PROVIDERS,
    GPUS,
    IMAGES,
    PROVIDERS,
    Gpu,
    Provider,
)
from .pods import PodRecord
from .randomness import stream

PERIOD = 300.0
"""Seconds for which stock stays as it is, but for what is ordered."""
VARIABLE_RATE = 0.1
RANGED_RATE = 0.15
SPOT_RATE = 0.2
SPOT_DISCOUNT = 0.45


@frozen(kw_only=True)
class Amount:
    """How much of something an offer has; `least` and `most` are `None` where it cannot be chosen."""

    default: int
    least: int | None = None
    most: int | None = None
    step: int | None = None
    price: float | None = None

    def allows(self, wanted: int) -> bool:
        """Tell whether this much can be ordered."""
        if self.least is None or self.most is None:
            return True
        return self.least <= wanted <= self.most and (wanted - self.least) % (self.step or 1) == 0


@frozen(kw_only=True)
class Offer:
    """A machine, or a cluster of them, at a price per hour."""

    cloud_id: str
    gpu: Gpu
    provider: Provider
    count: int
    nodes: int
    price: float
    spot: bool
    variable: bool
    """Whether an order has to say the highest price that it takes."""
    disk: Amount
    vcpus: Amount
    memory: Amount
    images: tuple[str, ...]


@frozen(kw_only=True)
class DiskOffer:
    """Room on a shared disk."""

    cloud_id: str
    provider: Provider
    size: Amount


@define(eq=False)
class Market:
    """All offers, and how many of each can be had."""

    seed: int
    stock: int | None
    """About how many of each offer there are; `None` means no end of them."""
    forced: dict[str, int] = Factory(dict[str, int])
    """What a test has said about how many there are of an offer, ordered ones included."""
    offers: tuple[Offer, ...] = Factory(lambda self: tuple(draw_offers(self.seed)), takes_self=True)
    disks: tuple[DiskOffer, ...] = Factory(lambda: tuple(_disk_offer(provider) for provider in PROVIDERS))

    def find(self, cloud_id: str) -> Offer | None:
        """Look for the offer with this id."""
        return next((offer for offer in self.offers if offer.cloud_id == cloud_id), None)

    def left(self, offer: Offer, now: float, living: Iterable[PodRecord]) -> int | None:
        """Count how many of an offer can be had while these pods live; `None` means no end of them."""
        capacity = self._capacity(offer, now)
        if capacity is None:
            return None
        return capacity - sum(record.offer == offer.cloud_id for record in living)

    def _capacity(self, offer: Offer, now: float) -> int | None:
        if offer.cloud_id in self.forced:
            return self.forced[offer.cloud_id]
        if self.stock is None:
            return None
        period = int(now // PERIOD)
        drawn = stream(self.seed, f"stock:{offer.cloud_id}:{period}").uniform(0.5, 1.5)
        return round(self.stock * drawn)


def draw_offers(seed: int) -> Iterable[Offer]:
    """Make the offers of single machines and of clusters, some of them also at spot prices."""
    rng = stream(seed, "offers")
    for provider in PROVIDERS:
        for gpu in rng.sample(GPUS, 4):
            for count in (1, 2, 4, 8):
                offer = _offer(rng, provider, gpu, count, nodes=1)
                yield offer
                if rng.random() < SPOT_RATE:
                    yield _at_spot_price(offer)
    for provider in CLUSTER_PROVIDERS:
        for gpu in CLUSTER_GPUS:
            for nodes in (2, 4):
                yield _offer(rng, provider, gpu, 8 * nodes, nodes=nodes)


def _offer(rng: Random, provider: Provider, gpu: Gpu, count: int, *, nodes: int) -> Offer:
    ranged = rng.random() < RANGED_RATE
    size = (count, 4 * count, 16 * count) if ranged else (None, None, None)
    model = gpu.name.split("_")[0].lower()
    cluster = f"-{nodes}n" if nodes > 1 else ""
    return Offer(
        cloud_id=f"{provider.name}-{model}-{gpu.socket.lower()}-x{count}{cluster}",
        gpu=gpu,
        provider=provider,
        count=count,
        nodes=nodes,
        price=round(gpu.price * count * rng.uniform(0.85, 1.2), 2),
        spot=False,
        variable=rng.random() < VARIABLE_RATE,
        disk=Amount(default=100 * count, least=50, most=2000, step=10, price=0.0001)
        if ranged
        else Amount(default=100 * count),
        vcpus=Amount(default=8 * count, least=size[0], most=size[2], step=1 if ranged else None),
        memory=Amount(default=64 * count, least=size[1], most=64 * count if ranged else None),
        images=(*IMAGES, "custom_template"),
    )


def _at_spot_price(offer: Offer) -> Offer:
    price = round(offer.price * SPOT_DISCOUNT, 2)
    return evolve(offer, cloud_id=f"{offer.cloud_id}-spot", price=price, spot=True)


def _disk_offer(provider: Provider) -> DiskOffer:
    size = Amount(default=1000, least=100, most=10_000, step=100, price=0.00011)
    return DiskOffer(cloud_id=f"{provider.name}-disk", provider=provider, size=size)


def cheapest(offers: Iterable[Offer]) -> dict[str, dict[str, dict[str, float | None]]]:
    """Find the cheapest prices by GPU and number of GPUs: on demand, community, spot."""
    summary: dict[str, dict[str, dict[str, float | None]]] = {}
    for offer in offers:
        empty: dict[str, float | None] = {"onDemand": None, "communityPrice": None, "spotPrice": None}
        prices = summary.setdefault(offer.gpu.name, {}).setdefault(str(offer.count), empty)
        community = offer.provider.security == "community_cloud"
        kind = "spotPrice" if offer.spot else "communityPrice" if community else "onDemand"
        best = prices[kind]
        prices[kind] = offer.price if best is None else min(best, offer.price)
    return summary
