"""What can be rented: rows of ``GET /api/v1/availability/gpus``, ``multi-node`` and ``disks``.

From the API's schema, `Get GPU availability
<https://docs.primeintellect.ai/api-reference/availability/get-gpu-availability>`_.
"""

from __future__ import annotations

from typing import Any, Final

import attrs

from ._utils.plain import to_plain
from ._utils.text import one_line
from .models import Model

_UNAVAILABLE: Final = "Unavailable"
_COMMUNITY: Final = "community_cloud"


@attrs.frozen(kw_only=True)
class SpecRange(Model):
    """How much of something an offer has, and may be ordered with."""

    min_count: int | None = None
    """The least that can be ordered; ``None`` if the offer does not say."""
    default_count: int | None = None
    """What comes without asking."""
    max_count: int | None = None
    """The most that can be ordered; ``None`` if the offer does not say."""
    step: int | None = None
    """The steps from ``min_count`` on; ``None`` for any number."""
    price_per_unit: float | None = None
    """What one costs an hour."""
    default_included_in_price: bool | None = None
    """Whether the offer's price covers ``default_count``."""
    additional_info: str | None = None
    """The API's remark."""

    def allows(self, count: int) -> bool:
        """Tell whether so much can be ordered, as far as the offer says."""
        least = self.min_count or 0
        too_many = self.max_count is not None and count > self.max_count
        return least <= count and not too_many and (count - least) % (self.step or 1) == 0

    def price_hr(self, count: int | None = None) -> float:
        """Return what so much adds to the offer's price per hour.

        Args:
            count: How much; by default ``default_count``.
        """
        default = self.default_count or 0
        free = default if self.default_included_in_price else 0
        return max(0, (default if count is None else count) - free) * (self.price_per_unit or 0.0)


@attrs.frozen(kw_only=True)
class Prices(Model):
    """What an offer costs an hour, for the whole machine and without the amounts that are priced by unit."""

    on_demand: float | None = None
    """The price in the secure cloud."""
    community_price: float | None = None
    """The price in the community cloud."""
    is_variable: bool | None = None
    """Whether it changes with the market."""
    currency: str | None = None
    """Such as ``USD``."""


@attrs.frozen(kw_only=True, repr=False)
class Offer(Model):
    """A machine, or a cluster of them, that can be rented."""

    _DERIVED = (("price_hr", float | None), ("is_available", bool))
    _SUMMARY = (
        *("cloud_id", "gpu_count", "gpu_type", "socket", "provider", "country"),
        *("stock_status", "is_spot", "prepaid_time", "price_hr"),
    )

    cloud_id: str
    """What an order names."""
    gpu_type: str
    """Such as ``H100_80GB``; ``CPU_NODE`` for a machine without GPUs."""
    socket: str
    """Such as ``SXM5`` or ``PCIe``."""
    provider: str
    """Such as ``hyperstack``."""
    gpu_count: int
    """GPUs in all."""
    prices: Prices
    """What it costs, in parts; see :attr:`price_hr`."""
    region: str | None = None
    """Such as ``united_states``."""
    data_center: str | None = None
    """The provider's word for the place."""
    country: str | None = None
    """Such as ``US``."""
    gpu_memory: int | None = None
    """GB of memory per GPU."""
    disk: SpecRange = SpecRange()
    """GB of disk."""
    shared_disk: SpecRange = SpecRange()
    """GB of shared disk."""
    vcpu: SpecRange = SpecRange()
    """Virtual CPUs."""
    memory: SpecRange = SpecRange()
    """GB of RAM."""
    internet_speed: int | None = None
    """Mbps."""
    interconnect: int | None = None
    """Gbps between GPUs or nodes."""
    interconnect_type: str | None = None
    """Such as ``Infiniband``."""
    provisioning_time: int | None = None
    """Estimated minutes until it runs."""
    stock_status: str | None = None
    """``Available``, ``Low``, ``Medium``, ``High``, ``Unavailable``, or a word added later."""
    security: str | None = None
    """``secure_cloud`` or ``community_cloud``."""
    images: tuple[str, ...] = ()
    """What it can be ordered with."""
    is_spot: bool | None = None
    """Whether the provider may take it away."""
    prepaid_time: float | None = None
    """Hours that are charged at once when it is ordered, used or not."""

    @property
    def is_available(self) -> bool:
        """Whether it can be had, as far as the API knows."""
        return self.stock_status != _UNAVAILABLE

    @property
    def price_hr(self) -> float | None:
        """What it costs an hour as it stands: the whole machine, with all amounts at their defaults.

        ``None`` if the API names no price.
        """
        return self.price_for()

    def price_for(
        self, *, disk_size: int | None = None, vcpus: int | None = None, memory: int | None = None
    ) -> float | None:
        """Return what it costs an hour with these amounts, as far as the offer says.

        Args:
            disk_size: GB of disk.
            vcpus: Virtual CPUs.
            memory: GB of RAM.
        """
        base = self._base_price
        if base is None:
            return None
        chosen = self.disk.price_hr(disk_size) + self.vcpu.price_hr(vcpus) + self.memory.price_hr(memory)
        return base + chosen + self.shared_disk.price_hr()

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but ``extra``, and ``price_hr`` and ``is_available``, as JSON can hold them."""
        return super().to_dict() | {"price_hr": to_plain(self.price_hr), "is_available": self.is_available}

    def __str__(self) -> str:
        """Return one line for people: GPUs, provider and place, price per hour, stock, what is special."""
        place = self.country or self.region
        price = "no price" if self.price_hr is None else f"{self.price_hr:g} {self.prices.currency or ''}"
        parts = [
            f"{self.gpu_count} x {self.gpu_type} {self.socket}",
            f"{self.provider} in {place}" if place else self.provider,
            price if self.price_hr is None else f"{price.rstrip()} an hour",
            self.stock_status,
            "spot" if self.is_spot else None,
            f"{self.prepaid_time:g} hours charged in advance" if self.prepaid_time else None,
        ]
        return " · ".join(one_line(part) for part in parts if part)

    @property
    def _base_price(self) -> float | None:
        on_demand, community = self.prices.on_demand, self.prices.community_price
        if on_demand is None or (self.security == _COMMUNITY and community is not None):
            return community
        return on_demand


@attrs.frozen(kw_only=True)
class GpuPrices(Model):
    """The lowest prices of so many GPUs of a type in all regions: a row of ``availability.summary()``."""

    gpu_type: str
    """Such as ``H100_80GB``."""
    gpu_count: int
    """GPUs in all."""
    on_demand: float | None = None
    """The lowest price per hour in the secure cloud."""
    community_price: float | None = None
    """The same in the community cloud."""
    spot_price: float | None = None
    """The same for spot machines, which the provider may take away."""


@attrs.frozen(kw_only=True, repr=False)
class DiskOffer(Model):
    """Room on a disk that several pods can share."""

    _DERIVED = (("is_available", bool),)
    _SUMMARY = ("cloud_id", "provider", "country", "stock_status", "is_multinode")

    provider: str
    """Such as ``hyperstack``."""
    cloud_id: str | None = None
    """What an order names."""
    data_center: str | None = None
    """The provider's word for the place."""
    country: str | None = None
    """Such as ``US``."""
    region: str | None = None
    """Such as ``united_states``."""
    spec: SpecRange = SpecRange()
    """How many GB there are to order, and what one costs an hour."""
    stock_status: str | None = None
    """As :attr:`Offer.stock_status`."""
    security: str | None = None
    """``secure_cloud`` or ``community_cloud``."""
    is_multinode: bool | None = None
    """Whether several pods can use it at once."""

    @property
    def is_available(self) -> bool:
        """Whether it can be had, as far as the API knows."""
        return self.stock_status != _UNAVAILABLE

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but ``extra``, and ``is_available``, as JSON can hold them."""
        return super().to_dict() | {"is_available": self.is_available}
