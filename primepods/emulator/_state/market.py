"""Offers, prices and stock, drawn from the seed."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random

import attrs

from .catalog import CLUSTER_GPUS, CLUSTER_PROVIDERS, CPU_NODE, GPUS, IMAGES, PROVIDERS, Gpu, Provider
from .randomness import random_for

STOCK_PERIOD = 300.0
"""Seconds between two draws of the stock."""
VARIABLE_RATE = 0.1
"""Share of GPU offers whose orders must set a maximum price."""
RANGED_RATE = 0.15
"""Share of GPU offers whose amounts of disk, CPUs and memory can be chosen."""
SPOT_RATE = 0.2
"""Share of GPU machines, without clusters, that are also offered at a spot price."""
SPOT_FACTOR = 0.45
"""Spot price as a share of the price on demand."""
VCPUS = (4, 16, 64)
"""Numbers of vCPUs of the machines without a GPU."""


@attrs.frozen(kw_only=True)
class Amount:
    """An amount of disk, CPUs, memory or shared disk. It can be chosen if it has ``minimum`` and ``maximum``.

    ``price`` is in US dollars per unit and hour; ``None`` if it is part of the offer's price.
    """

    default: int
    minimum: int | None = None
    maximum: int | None = None
    step: int | None = None
    price: float | None = None

    def allows(self, wanted: int) -> bool:
        """Return whether ``wanted`` can be ordered; if the amount cannot be chosen, any value is accepted."""
        if self.minimum is None or self.maximum is None:
            return True
        return self.minimum <= wanted <= self.maximum and (wanted - self.minimum) % (self.step or 1) == 0


DISK_SIZE = Amount(default=1000, minimum=100, maximum=10_000, step=100, price=0.00011)


@attrs.frozen(kw_only=True)
class Offer:
    """A machine or cluster at a price per hour."""

    cloud_id: str
    gpu: Gpu
    provider: Provider
    count: int
    """GPUs of all nodes together."""
    nodes: int = 1
    price: float
    spot: bool = False
    variable: bool = False
    """``True`` if an order must set a maximum price."""
    disk: Amount
    vcpus: Amount
    memory: Amount
    images: tuple[str, ...]


@attrs.frozen(kw_only=True)
class DiskOffer:
    """An offer of shared disks."""

    cloud_id: str
    provider: Provider
    size: Amount


class Market:
    """All offers with their prices and stock; the arguments are those of ``Emulator``."""

    def __init__(self, seed: int, stock: int | None) -> None:
        self.disks: list[DiskOffer] = [
            DiskOffer(cloud_id=f"{provider.name}-disk", provider=provider, size=DISK_SIZE)
            for provider in PROVIDERS
        ]
        self.capacities: dict[str, int] = {}
        """Capacities that were set, by cloud id: ordered pods plus remaining stock."""
        self.prices: dict[str, float] = {}
        """Prices that were set, by cloud id."""
        self._seed = seed
        self._stock = stock
        self._offers = {offer.cloud_id: offer for offer in _draw_offers(seed)}

    @property
    def offers(self) -> list[Offer]:
        return [self.offer(cloud_id) for cloud_id in self._offers]

    def offer(self, cloud_id: str) -> Offer:
        """Return an offer at its current price; raises ``KeyError`` for an unknown offer."""
        offer = self._offers[cloud_id]
        price = self.prices.get(cloud_id)
        return offer if price is None else attrs.evolve(offer, price=price)

    def check_known(self, cloud_id: str) -> None:
        """Raise ``KeyError`` if there is no such offer."""
        if cloud_id not in self._offers:
            raise KeyError(cloud_id)

    def capacity(self, cloud_id: str, now: float) -> int | None:
        """Return an offer's capacity at ``now``: ordered pods plus remaining stock, ``None`` if unlimited."""
        if cloud_id in self.capacities:
            return self.capacities[cloud_id]
        if self._stock is None:
            return None
        factor = random_for(self._seed, f"stock:{cloud_id}:{int(now // STOCK_PERIOD)}").uniform(0.5, 1.5)
        return round(self._stock * factor)


def _draw_offers(seed: int) -> Iterator[Offer]:
    rng = random_for(seed, "offers")
    for provider in PROVIDERS:
        for gpu, count in product(rng.sample(GPUS, 4), (1, 2, 4, 8)):
            offer = _offer(rng, provider, gpu, count, nodes=1)
            yield offer
            if rng.random() < SPOT_RATE:
                price = round(offer.price * SPOT_FACTOR, 2)
                yield attrs.evolve(offer, cloud_id=f"{offer.cloud_id}-spot", price=price, spot=True)
    for provider, gpu, nodes in product(CLUSTER_PROVIDERS, CLUSTER_GPUS, (2, 4)):
        yield _offer(rng, provider, gpu, 8 * nodes, nodes=nodes)
    for provider, vcpus in product(PROVIDERS[:3], VCPUS):
        yield _cpu_offer(provider, vcpus)


def _offer(rng: Random, provider: Provider, gpu: Gpu, count: int, *, nodes: int) -> Offer:
    is_ranged = rng.random() < RANGED_RATE
    disk = Amount(default=100 * count)
    vcpus = Amount(default=8 * count)
    memory = Amount(default=64 * count)
    if is_ranged:
        disk = attrs.evolve(disk, minimum=50, maximum=2000, step=10, price=0.0001)
        vcpus = attrs.evolve(vcpus, minimum=count, maximum=16 * count, step=1)
        memory = attrs.evolve(memory, minimum=4 * count, maximum=64 * count)
    cluster = f"-{nodes}n" if nodes > 1 else ""
    return Offer(
        cloud_id=f"{provider.name}-{gpu.model}-{gpu.socket.lower()}-x{count}{cluster}",
        gpu=gpu,
        provider=provider,
        count=count,
        nodes=nodes,
        price=round(gpu.price * count * rng.uniform(0.85, 1.2), 2),
        variable=rng.random() < VARIABLE_RATE,
        disk=disk,
        vcpus=vcpus,
        memory=memory,
        images=(*IMAGES, "custom_template"),
    )


def _cpu_offer(provider: Provider, vcpus: int) -> Offer:
    return Offer(
        cloud_id=f"{provider.name}-cpu-x{vcpus}",
        gpu=CPU_NODE,
        provider=provider,
        count=1,
        price=round(CPU_NODE.price * vcpus, 2),
        disk=Amount(default=100),
        vcpus=Amount(default=vcpus),
        memory=Amount(default=4 * vcpus),
        images=(IMAGES[0], "custom_template"),
    )
