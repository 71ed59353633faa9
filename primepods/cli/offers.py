"""`primepods offers`: what can be rented, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Annotated, Any

import attrs
import typer

import primepods

from ._command import Api, api_command
from ._offers import (
    ExcludeProviders,
    GpuCount,
    GpuType,
    MaxPrice,
    Provider,
    Regions,
    Security,
    Socket,
    Spot,
    Wait,
    offer_id,
    price_or_last,
)
from ._output import Output, OutputOption, print_models
from ._pod_table import price
from ._table import Cell, Column, print_table, tell

_COLUMNS = (
    Column("ID"),
    Column("GPU"),
    Column("SOCKET", rank=3),
    Column("PROVIDER", least=8),
    Column("WHERE", rank=2),
    Column("STOCK", rank=1),
    Column("SPOT", rank=1),
    Column("VCPUS", right=True, rank=5),
    Column("RAM GB", right=True, rank=5),
    Column("DISK GB", right=True, rank=5),
    Column("SECURITY", rank=6),
    Column("PER GPU", right=True, rank=4),
    Column("PRICE/H", right=True),
)


class Order(StrEnum):
    """What ``--sort`` takes."""

    PRICE = "price"
    PER_GPU = "per-gpu"
    GPU = "gpu"
    PROVIDER = "provider"


@attrs.frozen
class _Named:
    """An offer, and the id that `primepods create --id` takes."""

    offer: primepods.Offer

    def to_dict(self) -> dict[str, Any]:
        """Return the offer's fields, the id first."""
        return {"id": offer_id(self.offer), **self.offer.to_dict()}


SortOption = Annotated[
    Order,
    typer.Option("--sort", help="price, per-gpu, gpu or provider.", metavar="ORDER", case_sensitive=False),
]


@api_command
def command(  # noqa: PLR0913 - one parameter an option
    api: Api,
    *,
    output: OutputOption = Output.TABLE,
    sort: SortOption = Order.PRICE,
    unavailable: Annotated[
        bool,
        typer.Option("--all", help="Also sold out, unpriced and prepaid offers."),
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many.", metavar="NUMBER")] = None,
    gpu_type: GpuType = None,
    gpu_count: GpuCount = None,
    regions: Regions = None,
    socket: Socket = None,
    security: Security = None,
    provider: Provider = None,
    exclude_providers: ExcludeProviders = None,
    spot: Spot = False,
    max_price: MaxPrice = None,
    wait: Wait = None,
) -> None:
    """Find machines and clusters to rent, cheapest first.

    Prices are per hour for the whole machine, PER GPU for each of its GPUs. The ID is for `primepods create`.

    Examples:
      primepods offers --gpu-type H100 --gpu-count 8
      primepods offers --spot --sort per-gpu --limit 10
      primepods offers --gpu-type B200 --exclude-provider runpod --wait 2h
    """
    with api.client() as client:
        found = client.availability.find(
            gpu_type=gpu_type,
            gpu_count=gpu_count,
            regions=regions or None,
            socket=socket,
            security=security,
            provider=provider,
            exclude_providers=exclude_providers or (),
            spot=spot,
            max_price=max_price,
            unavailable=unavailable,
            wait=wait,
        )
    offers = sorted(found, key=_KEYS[sort])[:limit]
    print_models([_Named(offer) for offer in offers], output, _print_table)
    if not offers:
        tell("No offers like that now.")


def _print_table(offers: Sequence[_Named]) -> None:
    print_table(_COLUMNS, [_cells(named.offer) for named in offers])


def _cells(offer: primepods.Offer) -> list[str | Cell]:
    return [
        offer_id(offer),
        f"{offer.gpu_count} x {offer.gpu_type}",
        offer.socket,
        offer.provider,
        offer.country or offer.region or "",
        Cell(offer.stock_status or "", None if offer.is_available else "red"),
        "spot" if offer.is_spot else "",
        *(_amount(part) for part in (offer.vcpu, offer.memory, offer.disk)),
        offer.security or "",
        price(_per_gpu(offer)),
        price(offer.price_hr),
    ]


def _amount(part: primepods.SpecRange) -> str:
    """Return what comes without asking, and a sign if more can be had."""
    if part.default_count is None:
        return ""
    more = part.max_count is not None and part.max_count > part.default_count
    return f"{part.default_count}+" if more else f"{part.default_count}"


def _per_gpu(offer: primepods.Offer) -> float | None:
    return None if offer.price_hr is None or not offer.gpu_count else offer.price_hr / offer.gpu_count


def _by_gpu_price(offer: primepods.Offer) -> float:
    each = _per_gpu(offer)
    return float("inf") if each is None else each


_KEYS: dict[Order, Callable[[primepods.Offer], Any]] = {
    Order.PRICE: price_or_last,
    Order.PER_GPU: _by_gpu_price,
    Order.GPU: lambda offer: (offer.gpu_type, offer.gpu_count, price_or_last(offer)),
    Order.PROVIDER: lambda offer: (offer.provider, price_or_last(offer)),
}
