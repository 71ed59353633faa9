"""`primepods offers`: offers of machines and clusters, with prices."""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any, Final

import attrs

import primepods
from primepods._utils.money import money

from .._shared.command import Api, api_command
from .._shared.offer_options import OfferFilters, announce_wait, machine, offer_id
from .._shared.options import flag, option
from .._shared.output import LimitOption, ModelTable, PrintOptions
from .._shared.table import Cell, Column, print_info


class SortKey(StrEnum):
    """Values of ``--sort``."""

    PRICE = "price"
    PER_GPU = "per-gpu"
    GPU = "gpu"
    PROVIDER = "provider"


@attrs.frozen
class _OfferRow:
    """An offer with the id that `primepods create` takes."""

    offer: primepods.Offer

    def to_dict(self) -> dict[str, Any]:
        return {"id": offer_id(self.offer), **self.offer.to_dict()}


@api_command
def command(
    api: Api,
    *,
    filters: OfferFilters,
    print_options: PrintOptions,
    sort: Annotated[
        SortKey,
        option("price, per-gpu, gpu or provider.", "ORDER", case_sensitive=False),
    ] = SortKey.PRICE,
    unavailable: Annotated[bool, flag("Include sold out, unpriced and prepaid offers.", "--all")] = False,
    limit: LimitOption = None,
) -> None:
    """Find machines and clusters to rent, by default the cheapest first.

    Prices are per hour for the whole machine; PER GPU is the price for each of its GPUs. Pass the ID to
    `primepods create`.

    Examples:
      primepods offers --gpu-type H100 --gpu-count 8
      primepods offers --spot --sort per-gpu --limit 10
      primepods offers --gpu-type B200 --exclude-provider runpod --wait 2h
    """
    _OFFERS.check(print_options)
    announce_wait(filters.wait)
    # Without --gpu-count, find offers with any number of GPUs: the default of `find` is 1.
    arguments: dict[str, Any] = {"gpu_count": None, **filters.given()}
    with api.client() as client:
        found = client.availability.find(unavailable=unavailable, **arguments)
    offers = sorted(found, key=_SORT_KEYS[sort])[:limit]
    _OFFERS.print([_OfferRow(offer) for offer in offers], print_options)
    if not offers and not print_options.ids_only:
        print_info("No offers match now.")


def _amount(part: primepods.SpecRange) -> str:
    """Return the default amount, with a ``+`` if more can be ordered; empty if there is no default."""
    if part.default_count is None:
        return ""
    more = part.max_count is not None and part.max_count > part.default_count
    return f"{part.default_count}+" if more else f"{part.default_count}"


def _money(offer: primepods.Offer, amount: float | None) -> str:
    return money(amount, offer.prices.currency)


def _per_gpu(offer: primepods.Offer) -> float | None:
    if offer.price_hr is None or not offer.gpu_count:
        return None
    return offer.price_hr / offer.gpu_count


def _sort_key(amount: float | None) -> float:
    """Return an amount as a sort key; offers without a price come last."""
    return math.inf if amount is None else amount


_OFFERS: Final = ModelTable(
    empty_model=lambda: _OfferRow(
        primepods.Offer(
            cloud_id="", gpu_type="", socket="", provider="", gpu_count=0, prices=primepods.Prices()
        )
    ),
    id_of=lambda row: offer_id(row.offer),
    cells={
        Column("ID"): lambda row: offer_id(row.offer),
        Column("GPU"): lambda row: machine(row.offer),
        Column("SOCKET", rank=3): lambda row: row.offer.socket,
        Column("PROVIDER", min_width=8, rank=1): lambda row: row.offer.provider,
        Column("WHERE", rank=2): lambda row: row.offer.country or row.offer.region or "",
        Column("STOCK", rank=2): lambda row: Cell(
            row.offer.stock_status or "", None if row.offer.is_available else "red"
        ),
        Column("SPOT", rank=1): lambda row: "spot" if row.offer.is_spot else "",
        Column("VCPUS", right=True, rank=5): lambda row: _amount(row.offer.vcpu),
        Column("RAM GB", right=True, rank=5): lambda row: _amount(row.offer.memory),
        Column("DISK GB", right=True, rank=5): lambda row: _amount(row.offer.disk),
        Column("SECURITY", rank=6): lambda row: row.offer.security or "",
        Column("PER GPU", right=True, rank=4): lambda row: _money(row.offer, _per_gpu(row.offer)),
        Column("PRICE/H", right=True): lambda row: _money(row.offer, row.offer.price_hr),
    },
)
_SORT_KEYS: dict[SortKey, Callable[[primepods.Offer], Any]] = {
    SortKey.PRICE: lambda offer: _sort_key(offer.price_hr),
    SortKey.PER_GPU: lambda offer: _sort_key(_per_gpu(offer)),
    SortKey.GPU: lambda offer: (offer.gpu_type, offer.gpu_count, _sort_key(offer.price_hr)),
    SortKey.PROVIDER: lambda offer: (offer.provider, _sort_key(offer.price_hr)),
}
