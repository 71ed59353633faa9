"""Availability: what can be rented now, `Get GPU availability
<https://docs.primeintellect.ai/api-reference/availability/get-gpu-availability>`_.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar

from .._http.executor import RequestExecutor
from .._http.request import page_request
from .._utils.arguments import check_amount, check_count, check_flag, check_text, check_texts
from ..errors import ProtocolError
from ..offers import DiskOffer, Offer
from ..pagination import AsyncPager, FetchedPage, numbered_pager
from ._paging import fetch_page, page_source

T = TypeVar("T")

_log = logging.getLogger("primepods")

_AVAILABILITY: Final = "/api/v1/availability"
_LARGEST_PAGE: Final = 100
_NO_GPU: Final = "CPU_NODE"


class AsyncAvailability:
    """``client.availability``: the offers of GPUs, clusters and disks. Asking costs nothing.

    Every method raises, besides what it names, what those of :class:`~primepods.AsyncPods` raise.
    """

    def __init__(self, executor: RequestExecutor) -> None:
        self._executor = executor

    def gpus(  # noqa: PLR0913 - one parameter a filter of the API
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
    ) -> AsyncPager[Offer]:
        """Iterate the offers of single machines: ``GET /api/v1/availability/gpus``.

        Sends nothing until iterated. The API pages offers by number: one that moves from one page to another
        during the iteration may be missed.

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
        filters = _filters(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions,
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
        )
        return self._offers("gpus", filters, page_size)

    def multi_node(  # noqa: PLR0913 - as gpus
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
    ) -> AsyncPager[Offer]:
        """Iterate the offers of clusters: ``GET /api/v1/availability/multi-node``. See :meth:`gpus`.

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
        filters = _filters(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions,
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
        )
        return self._offers("multi-node", filters, page_size)

    def disks(
        self,
        *,
        regions: Iterable[str] | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = 100,
    ) -> AsyncPager[DiskOffer]:
        """Iterate the offers of disks: ``GET /api/v1/availability/disks``.

        Args:
            regions: Such as ``["united_states", "eu_north"]``.
            data_center_id: An offer's ``data_center``.
            cloud_id: An offer's ``cloud_id``.
            page_size: Offers per request, from 1 to 100.
        """
        filters = _filters(regions=regions, data_center_id=data_center_id, cloud_id=cloud_id)
        return self._pager("disks", filters, page_size, DiskOffer, _disk_key)

    async def cheapest(  # noqa: PLR0913 - as gpus
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

        Compares :attr:`~primepods.Offer.price_hr`, whatever its currency. Left out are offers without a
        price, those that are charged for in advance (``prepaid_time``), and, unless they are asked for,
        machines without GPUs and spot machines.

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
        filters = _filters(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions,
            socket=socket,
            security=security,
            data_center_id=data_center_id,
            cloud_id=cloud_id,
        )
        check_flag("spot", spot)
        if max_price is not None:
            check_amount("max_price", max_price, "price")
        best: tuple[float, Offer] | None = None
        for path in ("gpus", "multi-node"):
            for offer in await _readable(self._offers(path, filters, page_size)):
                price = offer.price_hr
                if price is None or (max_price is not None and price > max_price):
                    continue
                wanted = _is_wanted(offer, spot=spot, without_gpus=gpu_type is not None)
                if wanted and (best is None or price < best[0]):
                    best = price, offer
        return None if best is None else best[1]

    def _offers(self, path: str, filters: Mapping[str, Any], page_size: int) -> AsyncPager[Offer]:
        return self._pager(path, filters, page_size, Offer, _offer_key)

    def _pager(
        self,
        path: str,
        filters: Mapping[str, Any],
        page_size: int,
        model: type[T],
        key: Callable[[T], str],
    ) -> AsyncPager[T]:
        check_count("page_size", page_size, minimum=1, maximum=_LARGEST_PAGE)
        path = f"{_AVAILABILITY}/{path}"

        async def fetch(page: int, page_size: int) -> FetchedPage[T]:
            request = page_request(path, page=page, page_size=page_size, **filters)
            return await fetch_page(
                self._executor,
                request,
                model,
                offset=(page - 1) * page_size,
                limit=page_size,
                key=key,
                rows_key="items",
                count_key="totalCount",
            )

        return numbered_pager(page_source(self._executor, fetch, path), page_size)


def _is_wanted(offer: Offer, *, spot: bool, without_gpus: bool) -> bool:
    """Tell whether an offer can be had now, and is of a kind that was asked for."""
    if not offer.is_available or offer.prepaid_time:
        return False
    return (spot or not offer.is_spot) and (without_gpus or offer.gpu_type != _NO_GPU)


async def _readable(pager: AsyncPager[Offer]) -> list[Offer]:
    """Return all offers that can be read: one that cannot, or a wrong count, hides no others."""
    offers: list[Offer] = []
    try:
        async with pager:
            async for offer in pager:
                offers.append(offer)  # noqa: PERF401 - what came before an error is kept
    except ProtocolError as exc:
        if not offers:
            raise
        _log.warning("comparing those %d offers that could be read: %s", len(offers), exc)
    return offers


def _filters(
    *,
    regions: Iterable[str] | None = None,
    gpu_count: int | None = None,
    **texts: str | None,
) -> dict[str, Any]:
    """Return the parameters that are given, checked."""
    found: dict[str, Any] = {
        name: check_text(name, value) for name, value in texts.items() if value is not None
    }
    if gpu_count is not None:
        found["gpu_count"] = check_count("gpu_count", gpu_count, minimum=1)
    if regions is not None:
        found["regions"] = check_texts("regions", regions)
    return found


def _offer_key(offer: Offer) -> str:
    """Return what tells offers apart: all that an order names, and the price."""
    machine = (offer.cloud_id, offer.provider, offer.gpu_type, offer.gpu_count, offer.socket)
    place = (offer.data_center, offer.country, offer.security)
    return repr((machine, place, offer.is_spot, offer.prepaid_time, offer.price_hr))


def _disk_key(offer: DiskOffer) -> str:
    place = (offer.data_center, offer.country, offer.security)
    return repr((offer.cloud_id, offer.provider, place, offer.is_multinode, offer.spec.price_per_unit))
