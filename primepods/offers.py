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
    """How much of something an offer has, and may be ordered with.

    Attributes:
        min_count: The least that can be ordered; ``None`` if the offer does not say.
        default_count: What comes without asking.
        max_count: The most that can be ordered; ``None`` if the offer does not say.
        step: The steps from ``min_count`` on; ``None`` for any number.
        price_per_unit: What one costs an hour.
        default_included_in_price: Whether the offer's price covers ``default_count``.
        additional_info: The API's remark.
    """

    min_count: int | None = None
    default_count: int | None = None
    max_count: int | None = None
    step: int | None = None
    price_per_unit: float | None = None
    default_included_in_price: bool | None = None
    additional_info: str | None = None

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
    """What an offer costs an hour, for the whole machine and without the amounts that are priced by unit.

    Attributes:
        on_demand: The price in the secure cloud.
        community_price: The price in the community cloud.
        is_variable: Whether it changes with the market.
        currency: Such as ``USD``.
    """

    on_demand: float | None = None
    community_price: float | None = None
    is_variable: bool | None = None
    currency: str | None = None


@attrs.frozen(kw_only=True, repr=False)
class Offer(Model):
    """A machine, or a cluster of them, that can be rented.

    Attributes:
        cloud_id: What an order names.
        gpu_type: Such as ``H100_80GB``; ``CPU_NODE`` for a machine without GPUs.
        gpu_count: GPUs in all.
        gpu_memory: GB of memory per GPU.
        disk: GB of disk.
        shared_disk: GB of shared disk.
        vcpu: Virtual CPUs.
        memory: GB of RAM.
        internet_speed: Mbps.
        interconnect: Gbps between GPUs or nodes.
        provisioning_time: Estimated minutes until it runs.
        stock_status: ``Available``, ``Low``, ``Medium``, ``High``, ``Unavailable``, or a word added later.
        security: ``secure_cloud`` or ``community_cloud``.
        images: What it can be ordered with.
        is_spot: Whether the provider may take it away.
        prepaid_time: Hours that are charged at once when it is ordered, used or not.
    """

    _SUMMARY = (
        *("cloud_id", "gpu_count", "gpu_type", "socket", "provider", "country"),
        *("stock_status", "is_spot", "prepaid_time", "price_hr"),
    )

    cloud_id: str
    gpu_type: str
    socket: str
    provider: str
    gpu_count: int
    prices: Prices
    region: str | None = None
    data_center: str | None = None
    country: str | None = None
    gpu_memory: int | None = None
    disk: SpecRange = SpecRange()
    shared_disk: SpecRange = SpecRange()
    vcpu: SpecRange = SpecRange()
    memory: SpecRange = SpecRange()
    internet_speed: int | None = None
    interconnect: int | None = None
    interconnect_type: str | None = None
    provisioning_time: int | None = None
    stock_status: str | None = None
    security: str | None = None
    images: tuple[str, ...] = ()
    is_spot: bool | None = None
    prepaid_time: float | None = None

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
    """The lowest prices of so many GPUs of a type, across all regions: a row of ``availability.summary()``.

    Attributes:
        gpu_type: Such as ``H100_80GB``.
        gpu_count: GPUs in all.
        on_demand: The lowest price per hour in the secure cloud.
        community_price: The same in the community cloud.
        spot_price: The same for spot machines, which the provider may take away.
    """

    gpu_type: str
    gpu_count: int
    on_demand: float | None = None
    community_price: float | None = None
    spot_price: float | None = None


@attrs.frozen(kw_only=True, repr=False)
class DiskOffer(Model):
    """Room on a disk that several pods can share.

    Attributes:
        spec: How many GB there are to order, and what one costs an hour.
        stock_status: As :attr:`Offer.stock_status`.
        is_multinode: Whether several pods can use it at once.
    """

    _SUMMARY = ("cloud_id", "provider", "country", "stock_status", "is_multinode")

    provider: str
    cloud_id: str | None = None
    data_center: str | None = None
    country: str | None = None
    region: str | None = None
    spec: SpecRange = SpecRange()
    stock_status: str | None = None
    security: str | None = None
    is_multinode: bool | None = None

    @property
    def is_available(self) -> bool:
        """Whether it can be had, as far as the API knows."""
        return self.stock_status != _UNAVAILABLE

    def to_dict(self) -> dict[str, Any]:
        """Return the fields but ``extra``, and ``is_available``, as JSON can hold them."""
        return super().to_dict() | {"is_available": self.is_available}
