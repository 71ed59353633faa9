"""``client.availability``, blocking: each call of the asynchronous one, in one line."""

from __future__ import annotations

from collections.abc import Iterable

from .._blocking import Portal
from ..offers import DiskOffer, Offer
from ..resources.availability import AsyncAvailability
from ._iterators import Pager, run_through


class Availability:
    """``client.availability``: the offers of GPUs, clusters and disks. Asking costs nothing.

    Every method raises what its counterpart in :class:`~primepods.AsyncAvailability` raises.
    """

    def __init__(self, portal: Portal, availability: AsyncAvailability) -> None:
        self._portal = portal
        self._async = availability

    def gpus(  # noqa: PLR0913 - as AsyncAvailability.gpus
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
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
            page_size=page_size,
        )
        return Pager(self._portal, pager)

    def multi_node(  # noqa: PLR0913 - as AsyncAvailability.multi_node
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
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

    def cheapest(  # noqa: PLR0913 - as AsyncAvailability.cheapest
        self,
        *,
        gpu_type: str | None = None,
        gpu_count: int | None = None,
        regions: Iterable[str] | None = None,
        socket: str | None = None,
        security: str | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = 100,
        spot: bool = False,
        max_price: float | None = None,
    ) -> Offer | None:
        """Return the cheapest offer of a machine or cluster that is to be had now; ``None`` if there is none.

        Left out are offers without a price, those that are charged for in advance, and, unless they are asked
        for, machines without GPUs and spot machines.

        Args:
            gpu_type: Such as ``H100_80GB``; ``CPU_NODE`` for machines without GPUs.
            gpu_count: GPUs in all.
            regions: Such as ``["united_states", "eu_north"]``.
            socket: Such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            page_size: Offers per request, from 1 to 100.
            spot: Whether spot machines count, too, which the provider may take away at any time.
            max_price: The highest price per hour.
        """
        return self._portal.call(
            self._async.cheapest,
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=None if regions is None else run_through(regions),
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
            page_size=page_size,
            spot=spot,
            max_price=max_price,
        )
