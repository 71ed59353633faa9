"""``client.availability``, blocking: delegates to the asynchronous one."""

from __future__ import annotations

from collections.abc import Iterable

from .._blocking import Portal
from ..offers import DiskOffer, GpuPrices, Offer
from ..resources.availability import AsyncAvailability
from ._iterators import Pager, materialize


class Availability:
    """``client.availability``: the offers of GPUs, clusters and disks. Its calls cost nothing.

    Every method raises the same errors as its counterpart in :class:`~primepods.AsyncAvailability`.
    """

    def __init__(self, portal: Portal, availability: AsyncAvailability) -> None:
        self._portal = portal
        self._async = availability

    def gpus(
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        disks: Iterable[str] | None = None,
        page_size: int = 100,
    ) -> Pager[Offer]:
        """Iterate the offers of single machines: ``GET /api/v1/availability/gpus``.

        Args:
            gpu_type: Such as ``H100_80GB``; ``CPU_NODE`` for machines without GPUs.
            gpu_count: GPUs of the machine.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            disks: Ids of disks: only offers to which they can be attached.
            page_size: Offers per request, from 1 to 100.
        """
        pager = self._async.gpus(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions,
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            disks=disks,
            page_size=page_size,
        )
        return Pager(self._portal, pager)

    def multi_node(
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        disks: Iterable[str] | None = None,
        page_size: int = 100,
    ) -> Pager[Offer]:
        """Iterate the offers of clusters: ``GET /api/v1/availability/multi-node``.

        Args:
            gpu_type: Such as ``H100_80GB``.
            gpu_count: GPUs of all nodes.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            disks: Ids of disks: only offers to which they can be attached.
            page_size: Offers per request, from 1 to 100.
        """
        pager = self._async.multi_node(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions,
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            disks=disks,
            page_size=page_size,
        )
        return Pager(self._portal, pager)

    def disks(
        self,
        *,
        regions: Iterable[str] | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = 100,
    ) -> Pager[DiskOffer]:
        """Iterate the offers of disks: ``GET /api/v1/availability/disks``.

        Args:
            regions: Such as ``["united_states", "eu_north"]``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            page_size: Offers per request, from 1 to 100.
        """
        pager = self._async.disks(
            regions=regions, data_center_id=data_center_id, cloud_id=cloud_id, page_size=page_size
        )
        return Pager(self._portal, pager)

    def find(
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = 1,
        max_price: float | None = None,
        spot: bool = False,
        provider: str | None = None,
        exclude_providers: Iterable[str] = (),
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        disks: Iterable[str] | None = None,
        unavailable: bool = False,
        limit: int | None = None,
        wait: float | None = None,
    ) -> list[Offer]:
        """Return the offers that fit and can be rented now, machines and clusters, cheapest first.

        Compares :attr:`~primepods.Offer.price_hr`, whatever its currency. Excludes offers without a price (0
        means none) and prepaid offers (``prepaid_time``). An unreadable offer does not hide the others: it is
        logged (WARNING).

        Args:
            gpu_type: A common name (``"H100"``, ``"RTX 4090"``, ``"A100 80GB"``, in any case), the API's name
                (``"H100_80GB"``), or a pattern (``"H*"``). By default any GPU; ``"CPU_NODE"`` for machines
                without one.
            gpu_count: GPUs in all; ``None`` for any number.
            max_price: The highest price per hour.
            spot: Whether to include spot machines, which the provider may reclaim at any time.
            provider: Such as ``hyperstack``: only this one.
            exclude_providers: Providers to leave out.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            disks: Ids of disks: only offers to which they can be attached.
            unavailable: Whether to include offers that are sold out, have no price, or are prepaid.
            limit: Maximum number of offers; by default all.
            wait: Seconds to poll, about every 10 s, until an offer fits. Transient errors do not end it.

        Returns:
            The offers; an empty list if none fits.

        Raises:
            ValueError: The API lists no such GPU (the message names similar ones), or an argument is invalid.
        """
        return self._portal.call(
            self._async.find,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            max_price=max_price,
            spot=spot,
            provider=provider,
            exclude_providers=materialize(exclude_providers),
            regions=None if regions is None else materialize(regions),
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            disks=None if disks is None else materialize(disks),
            unavailable=unavailable,
            limit=limit,
            wait=wait,
        )

    def cheapest(
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = 1,
        max_price: float | None = None,
        spot: bool = False,
        provider: str | None = None,
        exclude_providers: Iterable[str] = (),
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        disks: Iterable[str] | None = None,
        wait: float | None = None,
    ) -> Offer:
        """Return the cheapest offer that fits and can be rented now: the first of :meth:`find`.

        Args:
            gpu_type: Such as ``"H100"``; see :meth:`find`.
            gpu_count: GPUs in all; ``None`` for any number.
            max_price: The highest price per hour.
            spot: Whether to include spot machines, which the provider may reclaim at any time.
            provider: Such as ``hyperstack``: only this one.
            exclude_providers: Providers to leave out.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            disks: Ids of disks: only offers to which they can be attached.
            wait: Seconds to poll until an offer fits.

        Raises:
            SoldOutError: No offer fits; the message names the request and the alternatives.
            ValueError: The API lists no such GPU (the message names similar ones), or an argument is invalid.
        """
        return self._portal.call(
            self._async.cheapest,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            max_price=max_price,
            spot=spot,
            provider=provider,
            exclude_providers=materialize(exclude_providers),
            regions=None if regions is None else materialize(regions),
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            disks=None if disks is None else materialize(disks),
            wait=wait,
        )

    def summary(self) -> list[GpuPrices]:
        """Return the lowest prices of each GPU and number of GPUs: ``GET /api/v1/availability/gpu-summary``.

        One request for an overview of the market, without stock levels.
        """
        return self._portal.call(self._async.summary)
