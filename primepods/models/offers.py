"""Offers and prices: rows of ``gpus``, ``multi-node``, ``disks`` and ``gpu-summary`` below ``/availability``.

Source: the API's schema, `Get GPU availability
<https://docs.primeintellect.ai/api-reference/availability/get-gpu-availability>`_.
"""

from __future__ import annotations

from typing import Final

import attrs

from .._utils.money import money
from .._utils.text import one_line
from . import Model

_UNAVAILABLE: Final = "Unavailable"
_COMMUNITY: Final = "community_cloud"


@attrs.frozen(kw_only=True)
class SpecRange(Model):
    """Amounts of a resource that can be ordered with an offer, and their price."""

    min_count: int | None = None
    """Min amount of an order; ``None`` if the offer has no minimum."""
    default_count: int | None = None
    """Default amount."""
    max_count: int | None = None
    """Max amount of an order; ``None`` if the offer has no maximum."""
    step: int | None = None
    """Step between allowed amounts, counted from ``min_count``; ``None`` if the whole range is allowed."""
    price_per_unit: float | None = None
    """Price per hour of one unit."""
    default_included_in_price: bool | None = None
    """True if the base price (:class:`Prices`) includes ``default_count``."""
    additional_info: str | None = None
    """Note from the API."""

    def allows(self, count: int) -> bool:
        """Return whether this amount can be ordered, according to the offer."""
        minimum = self.min_count or 0
        if count < minimum or (self.max_count is not None and count > self.max_count):
            return False
        return (count - minimum) % (self.step or 1) == 0

    def price_hr(self, count: int | None = None) -> float:
        """Return the price per hour that this amount adds to the base price (:class:`Prices`).

        Args:
            count: The amount; by default ``default_count``.
        """
        default = self.default_count or 0
        if count is None:
            count = default
        included = default if self.default_included_in_price else 0
        return max(0, count - included) * (self.price_per_unit or 0.0)

    def __str__(self) -> str:
        """Return the amounts for a message: ``from 100 to 500 in steps of 100``."""
        maximum = "" if self.max_count is None else f" to {self.max_count}"
        return f"from {self.min_count or 0}{maximum} in steps of {self.step or 1}"


@attrs.frozen(kw_only=True)
class Prices(Model):
    """Base prices per hour of the whole machine, to which :meth:`SpecRange.price_hr` is added."""

    on_demand: float | None = None
    """The price in the secure cloud."""
    community_price: float | None = None
    """The price in the community cloud."""
    is_variable: bool | None = None
    """True if the price changes with the market."""
    currency: str | None = None
    """Currency, such as ``USD``."""


@attrs.frozen(kw_only=True, repr=False)
class Offer(Model):
    """A machine, or a cluster of machines, that can be rented."""

    _DERIVED = ("price_hr", "is_available")
    """Properties that :meth:`to_dict` adds."""
    _SUMMARY_FIELDS = (
        "cloud_id",
        "gpu_count",
        "gpu_type",
        "socket",
        "provider",
        "country",
        "stock_status",
        "is_spot",
        "prepaid_time",
        "price_hr",
    )

    cloud_id: str
    """Id of the offer, with which it is ordered."""
    gpu_type: str
    """GPU type, such as ``H100_80GB``; ``CPU_NODE`` for a machine without GPUs."""
    socket: str
    """GPU socket, such as ``SXM5`` or ``PCIe``."""
    provider: str
    """Provider, such as ``hyperstack``."""
    gpu_count: int
    """Total number of GPUs."""
    prices: Prices = Prices()
    """Prices by kind of cloud; see :attr:`price_hr`."""
    region: str | None = None
    """Region, such as ``united_states``."""
    data_center: str | None = None
    """The provider's name for the data center."""
    country: str | None = None
    """Country, such as ``US``."""
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
    """Bandwidth to the internet, in Mbps."""
    interconnect: int | None = None
    """Bandwidth between GPUs or nodes, in Gbps."""
    interconnect_type: str | None = None
    """Interconnect, such as ``Infiniband``."""
    provisioning_time: int | None = None
    """Estimated minutes from the order until the machine is running."""
    stock_status: str | None = None
    """``Available``, ``Low``, ``Medium``, ``High``, ``Unavailable``, or a value that the API adds later."""
    security: str | None = None
    """Kind of cloud: ``secure_cloud`` or ``community_cloud``."""
    images: tuple[str, ...] = ()
    """Images that can be ordered with this offer."""
    is_spot: bool | None = None
    """True if the provider may terminate it (a spot machine)."""
    prepaid_time: float | None = None
    """Hours that are charged with the order, used or not."""

    @property
    def is_available(self) -> bool:
        """True unless ``stock_status`` is ``Unavailable``."""
        return self.stock_status != _UNAVAILABLE

    @property
    def price_hr(self) -> float | None:
        """Price per hour of the whole machine with the default amounts; ``None`` if the API has no price."""
        return self.price_for()

    def price_for(
        self, *, disk_size: int | None = None, vcpus: int | None = None, memory: int | None = None
    ) -> float | None:
        """Return the price per hour with these or the default amounts; ``None`` if the API has no price.

        Args:
            disk_size: GB of disk.
            vcpus: Virtual CPUs.
            memory: GB of RAM.
        """
        base = self._base_price
        if base is None:
            return None
        amounts = self.disk.price_hr(disk_size) + self.vcpu.price_hr(vcpus) + self.memory.price_hr(memory)
        return base + amounts + self.shared_disk.price_hr()

    def __str__(self) -> str:
        """Return one line for people: GPUs, provider, place, price per hour, stock, special conditions."""
        place = self.country or self.region
        price = f"{money(self.price_hr, self.prices.currency)} an hour" if self.price_hr else "no price"
        parts = [
            f"{self.gpu_count} x {self.gpu_type} {self.socket}",
            f"{self.provider} in {place}" if place else self.provider,
            price,
            self.stock_status,
            "spot" if self.is_spot else None,
            f"{self.prepaid_time:g} h charged in advance" if self.prepaid_time else None,
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
    """Lowest prices for a GPU type and a number of GPUs: a row of ``availability.summary()``."""

    gpu_type: str
    """GPU type, such as ``H100_80GB``."""
    gpu_count: int
    """Total number of GPUs."""
    on_demand: float | None = None
    """Lowest price per hour in the secure cloud."""
    community_price: float | None = None
    """Lowest price per hour in the community cloud."""
    spot_price: float | None = None
    """Lowest price per hour of spot machines, which the provider may terminate."""


@attrs.frozen(kw_only=True, repr=False)
class DiskOffer(Model):
    """Offer of a disk that can be attached to pods."""

    _DERIVED = ("is_available",)
    _SUMMARY_FIELDS = ("cloud_id", "provider", "country", "stock_status", "is_multinode")

    provider: str
    """Provider, such as ``hyperstack``."""
    cloud_id: str | None = None
    """Id of the offer, with which it is ordered."""
    data_center: str | None = None
    """The provider's name for the data center."""
    country: str | None = None
    """Country, such as ``US``."""
    region: str | None = None
    """Region, such as ``united_states``."""
    spec: SpecRange = SpecRange()
    """Range of sizes in GB that can be ordered, and the price per GB and hour."""
    stock_status: str | None = None
    """Stock; see :attr:`Offer.stock_status`."""
    security: str | None = None
    """Kind of cloud: ``secure_cloud`` or ``community_cloud``."""
    is_multinode: bool | None = None
    """True if several pods can use the disk at the same time."""

    @property
    def is_available(self) -> bool:
        """True unless ``stock_status`` is ``Unavailable``."""
        return self.stock_status != _UNAVAILABLE
