"""Availability: the offers of GPUs, clusters and disks.

API reference: https://docs.primeintellect.ai/api-reference/availability/get-gpu-availability
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, TypedDict, TypeVar, Unpack

from .._decoding.offers import decode_gpu_summary
from .._http.executor import RequestExecutor
from .._http.request import Request, page_request
from .._operations import as_operation
from .._utils.arguments import (
    check_amount,
    check_count,
    check_flag,
    check_seconds,
    check_text,
    check_texts,
)
from ..errors import APIError, PrimePodsError, ProtocolError, TransportError
from ..models.offers import DiskOffer, GpuPrices, Offer
from ..pagination import AsyncPager, FetchedPage, numbered_pager
from ._offer_search import OfferSearch
from ._paging import PAGE_SIZE, fetch_page, page_source

T = TypeVar("T")

_log = logging.getLogger("primepods")

_AVAILABILITY: Final = "/api/v1/availability"
_MAX_PAGE_SIZE: Final = 100
_INTERVAL: Final = 10.0
"""Mean seconds between two polls for an offer."""


class OfferFilters(TypedDict, total=False):
    """Keyword arguments of ``availability.gpus`` and ``availability.multi_node``: filters of the API."""

    gpu_type: str | None
    gpu_count: int | None
    regions: Iterable[str] | None
    socket: str | None
    security: str | None
    data_center_id: str | None
    cloud_id: str | None
    disks: Iterable[str] | None


class OfferCriteria(OfferFilters, total=False):
    """Keyword arguments of ``availability.find`` and ``availability.cheapest``."""

    max_price: float | None
    spot: bool
    provider: str | None
    exclude_providers: Iterable[str]


class AsyncAvailability:
    """``client.availability``: the offers of GPUs, clusters and disks. Its calls cost nothing.

    Any request may also raise the errors that :class:`~primepods.AsyncPods` lists.
    """

    def __init__(self, executor: RequestExecutor) -> None:
        self._executor = executor

    def gpus(self, *, page_size: int = PAGE_SIZE, **filters: Unpack[OfferFilters]) -> AsyncPager[Offer]:
        """Iterate over the offers of single machines: ``GET /api/v1/availability/gpus``.

        Sends nothing until iterated. An offer that moves to another page during the iteration may be missed,
        because the API numbers its pages.

        Args:
            gpu_type: GPU by its name in the API, such as ``H100_80GB``; ``CPU_NODE`` for machines
                without GPUs.
            gpu_count: Number of GPUs of the machine.
            regions: Regions, such as ``["united_states", "eu_north"]``.
            socket: Socket of the GPUs, such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: The ``data_center`` of an offer.
            cloud_id: The ``cloud_id`` of an offer.
            disks: Ids of disks; only offers to which they can be attached.
            page_size: Offers per request, from 1 to 100.
        """
        return self._offers("gpus", _filters(**filters), page_size)

    def multi_node(self, *, page_size: int = PAGE_SIZE, **filters: Unpack[OfferFilters]) -> AsyncPager[Offer]:
        """Iterate over the offers of clusters: ``GET /api/v1/availability/multi-node``. See :meth:`gpus`.

        Args:
            gpu_type: GPU by its name in the API, such as ``H100_80GB``.
            gpu_count: Number of GPUs of all nodes together.
            regions: Regions, such as ``["united_states", "eu_north"]``.
            socket: Socket of the GPUs, such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: The ``data_center`` of an offer.
            cloud_id: The ``cloud_id`` of an offer.
            disks: Ids of disks; only offers to which they can be attached.
            page_size: Offers per request, from 1 to 100.
        """
        return self._offers("multi-node", _filters(**filters), page_size)

    def disks(
        self,
        *,
        regions: Iterable[str] | None = None,
        data_center_id: str | None = None,
        cloud_id: str | None = None,
        page_size: int = PAGE_SIZE,
    ) -> AsyncPager[DiskOffer]:
        """Iterate over the offers of disks: ``GET /api/v1/availability/disks``.

        Args:
            regions: Regions, such as ``["united_states", "eu_north"]``.
            data_center_id: The ``data_center`` of an offer.
            cloud_id: The ``cloud_id`` of an offer.
            page_size: Offers per request, from 1 to 100.
        """
        filters = _filters(regions=regions, data_center_id=data_center_id, cloud_id=cloud_id)
        return self._pager("disks", filters, page_size, DiskOffer, _disk_key)

    @as_operation("availability.find")
    async def find(
        self,
        *,
        unavailable: bool = False,
        limit: int | None = None,
        wait: float | None = None,
        **criteria: Unpack[OfferCriteria],
    ) -> list[Offer]:
        """Return the offers of machines and clusters that fit, cheapest first.

        Compares :attr:`~primepods.Offer.price_hr` and ignores the currency. By default, sold-out and prepaid
        offers (``prepaid_time``) and offers without a price (0 counts as none) do not fit. Unreadable offers
        are skipped and logged (WARNING); ``ProtocolError`` is raised if all offers of machines, or all of
        clusters, are unreadable.

        Args:
            gpu_type: A common name (``"H100"``, ``"RTX 4090"``, ``"A100 80GB"``, in any case), the API's name
                (``"H100_80GB"``), or a pattern (``"H*"``). By default any GPU; ``"CPU_NODE"`` for machines
                without GPUs.
            gpu_count: Total number of GPUs, over all nodes; 1 by default, ``None`` for any number.
            max_price: The highest price per hour.
            spot: Whether to include spot machines, which the provider may terminate at any time.
            provider: Only offers of this provider, such as ``hyperstack``.
            exclude_providers: Providers to leave out.
            regions: Regions, such as ``["united_states", "eu_north"]``.
            socket: Socket of the GPUs, such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: The ``data_center`` of an offer.
            cloud_id: The ``cloud_id`` of an offer.
            disks: Ids of disks; only offers to which they can be attached.
            unavailable: Whether to include offers that are sold out or prepaid and, without ``max_price``,
                offers without a price.
            limit: Maximum number of offers; by default all.
            wait: Seconds to poll, about every 10 s, until an offer fits; by default, one try. A transient
                error is raised only at the last poll.

        Returns:
            The offers; an empty list if none fits.

        Raises:
            ValueError: The API lists no such GPU (the message suggests names), or an argument is invalid.
        """
        search = _make_search(unavailable=unavailable, **criteria)
        if limit is not None:
            check_count("limit", limit, minimum=1)
        return search.select(await self._poll_until_found(search, wait))[:limit]

    @as_operation("availability.cheapest")
    async def cheapest(self, *, wait: float | None = None, **criteria: Unpack[OfferCriteria]) -> Offer:
        """Return the cheapest offer that fits and can be rented now: the first of :meth:`find`.

        Args:
            gpu_type: GPU, such as ``"H100"``; see :meth:`find`.
            gpu_count: Total number of GPUs, over all nodes; 1 by default, ``None`` for any number.
            max_price: The highest price per hour.
            spot: Whether to include spot machines, which the provider may terminate at any time.
            provider: Only offers of this provider, such as ``hyperstack``.
            exclude_providers: Providers to leave out.
            regions: Regions, such as ``["united_states", "eu_north"]``.
            socket: Socket of the GPUs, such as ``SXM5``.
            security: ``secure_cloud`` or ``community_cloud``.
            data_center_id: The ``data_center`` of an offer.
            cloud_id: The ``cloud_id`` of an offer.
            disks: Ids of disks; only offers to which they can be attached.
            wait: Seconds to poll until an offer fits; by default, one try.

        Raises:
            SoldOutError: No offer fits; the message names the criteria and the alternatives.
            ValueError: The API lists no such GPU (the message suggests names), or an argument is invalid.
        """
        search = _make_search(**criteria)
        offers = await self._poll_until_found(search, wait)
        matches = search.select(offers)
        if matches:
            return matches[0]
        prices: list[GpuPrices] = []
        if not offers:
            with suppress(PrimePodsError):  # the message works without them
                prices = await self.summary()
        raise search.sold_out_error(offers, prices, f"{_AVAILABILITY}/gpus")

    @as_operation("availability.summary")
    async def summary(self, *, multi_node: bool = False) -> list[GpuPrices]:
        """Return the lowest prices by GPU and GPU count: ``GET /api/v1/availability/gpu-summary``.

        This gives an overview of the market with one request, but no stock levels.

        Args:
            multi_node: Whether to return the prices of clusters: ``GET
                /api/v1/availability/multi-node-summary``, whose response is documented as similar.
        """
        check_flag("multi_node", multi_node)
        path = f"{_AVAILABILITY}/{'multi-node' if multi_node else 'gpu'}-summary"
        return await self._executor.call(Request(method="GET", path=path), decode_gpu_summary)

    async def _poll_until_found(self, search: OfferSearch, wait: float | None) -> list[Offer]:
        """Return the offers of the wanted GPU once one of them fits, or after ``wait`` seconds."""
        clock = self._executor.settings.clock
        timeout = 0.0 if wait is None else check_seconds("wait", wait, minimum=0.0)
        ends_at = clock.time() + timeout
        while True:
            is_last = clock.time() >= ends_at
            # From 0.75 to 1.25 intervals, so that many clients do not poll at the same time.
            pause = _INTERVAL * (0.75 + clock.random() / 2)
            try:
                offers = await self._read_offers(search)
            except (APIError, ProtocolError, TransportError) as exc:
                if is_last or not exc.transient:
                    raise
                _log.warning("the offers could not be read, polling again: %s", exc)
                offers = []
                pause = max(pause, getattr(exc, "retry_after", None) or 0.0)
            if is_last or search.select(offers):
                return offers
            await self._executor.transport.pause(max(0.0, min(pause, ends_at - clock.time())))

    async def _read_offers(self, search: OfferSearch) -> list[Offer]:
        """Return the readable offers of the wanted GPU, including those that do not fit.

        Raises:
            ValueError: The API lists other GPUs, but neither the offers nor the summary have the wanted one.
        """

        async def read(endpoint: str) -> list[Offer]:
            pager = self._offers(endpoint, search.filters, _MAX_PAGE_SIZE)
            offers, error = await pager.collect()
            if error is not None:
                if not offers or not isinstance(error, ProtocolError):
                    raise error
                _log.warning("comparing only the readable offers (%d): %s", len(offers), error)
            return offers

        machines, clusters = await self._executor.map(read, ["gpus", "multi-node"])
        offers = [offer for offer in (*machines, *clusters) if search.has_gpu(offer.gpu_type)]
        if not offers and search.gpu_type is not None:
            listed = [offer.gpu_type for offer in (*machines, *clusters)]
            listed += [row.gpu_type for row in await self.summary()]
            search.check_gpu(listed)
        return offers

    def _offers(self, endpoint: str, filters: Mapping[str, Any], page_size: int) -> AsyncPager[Offer]:
        return self._pager(endpoint, filters, page_size, Offer, _offer_key)

    def _pager(
        self,
        endpoint: str,
        filters: Mapping[str, Any],
        page_size: int,
        model: type[T],
        key: Callable[[T], str],
    ) -> AsyncPager[T]:
        check_count("page_size", page_size, minimum=1, maximum=_MAX_PAGE_SIZE)
        name = f"availability.{endpoint.replace('-', '_')}"
        path = f"{_AVAILABILITY}/{endpoint}"

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

        source = page_source(self._executor, fetch, path, name=name)
        return numbered_pager(source, page_size)


def _make_search(
    *,
    gpu_type: str | None = None,
    gpu_count: int | None = 1,
    max_price: float | None = None,
    spot: bool = False,
    provider: str | None = None,
    exclude_providers: Iterable[str] = (),
    unavailable: bool = False,
    **filters: Any,
) -> OfferSearch:
    check_flag("spot", spot)
    check_flag("unavailable", unavailable)
    excluded = check_texts("exclude_providers", exclude_providers)
    return OfferSearch(
        gpu_type=None if gpu_type is None else check_text("gpu_type", gpu_type),
        gpu_count=gpu_count,
        max_price=None if max_price is None else check_amount("max_price", max_price, "price"),
        spot=spot,
        provider=None if provider is None else check_text("provider", provider).lower(),
        exclude_providers=frozenset(name.lower() for name in excluded),
        unavailable=unavailable,
        filters=_filters(gpu_count=gpu_count, **filters),
    )


def _filters(
    *,
    regions: Iterable[str] | None = None,
    disks: Iterable[str] | None = None,
    gpu_count: int | None = None,
    gpu_type: str | None = None,
    socket: str | None = None,
    security: str | None = None,
    data_center_id: str | None = None,
    cloud_id: str | None = None,
) -> dict[str, Any]:
    texts = {
        "gpu_type": gpu_type,
        "socket": socket,
        "security": security,
        "data_center_id": data_center_id,
        "cloud_id": cloud_id,
    }
    filters: dict[str, Any] = {
        name: check_text(name, value) for name, value in texts.items() if value is not None
    }
    if gpu_count is not None:
        filters["gpu_count"] = check_count("gpu_count", gpu_count, minimum=1)
    if regions is not None:
        filters["regions"] = check_texts("regions", regions)
    if disks is not None:
        filters["disks"] = check_texts("disks", disks)
    return filters


def _offer_key(offer: Offer) -> str:
    """Return a key that identifies an offer; ``cloud_id`` alone may not be unique."""
    machine = (offer.cloud_id, offer.provider, offer.gpu_type, offer.gpu_count, offer.socket)
    place = (offer.data_center, offer.country, offer.security)
    return repr((machine, place, offer.is_spot, offer.prepaid_time, offer.price_hr))


def _disk_key(offer: DiskOffer) -> str:
    place = (offer.data_center, offer.country, offer.security)
    return repr((offer.cloud_id, offer.provider, place, offer.is_multinode, offer.spec.price_per_unit))
