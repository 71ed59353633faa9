"""Offers: which are wanted, in which order, and how they are named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any

import attrs
import typer

import primepods

from ._filters import gpu_matches

_PANEL = "Filters"
_ID_LENGTH = 8

GpuType = Annotated[
    str | None,
    typer.Option(help="Only this GPU: H100_80GB, H100 or 'H*'.", metavar="GPU", rich_help_panel=_PANEL),
]
GpuCount = Annotated[
    int | None,
    typer.Option(min=1, help="Only with so many GPUs in all.", metavar="NUMBER", rich_help_panel=_PANEL),
]
Regions = Annotated[
    list[str] | None,
    typer.Option(
        help="Only in this region, as united_states; may be repeated.",
        metavar="REGION",
        rich_help_panel=_PANEL,
    ),
]
Socket = Annotated[
    str | None, typer.Option(help="Only this socket, as SXM5.", metavar="SOCKET", rich_help_panel=_PANEL)
]
Security = Annotated[
    str | None,
    typer.Option(help="secure_cloud or community_cloud.", metavar="CLOUD", rich_help_panel=_PANEL),
]
Provider = Annotated[
    str | None, typer.Option(help="Only this provider.", metavar="PROVIDER", rich_help_panel=_PANEL)
]
MaxPrice = Annotated[
    float | None,
    typer.Option(min=0, help="Only up to this price per hour.", metavar="PRICE", rich_help_panel=_PANEL),
]


@attrs.frozen(kw_only=True)
class OfferFilter:
    """Which offers are wanted; what is not given leaves all.

    Attributes:
        offer_id: As :func:`offer_id` makes it.
        spot: ``True`` for machines that the provider may take away, ``False`` for the others.
        max_price: The highest price per hour.
    """

    offer_id: str | None = None
    gpu_type: str | None = None
    gpu_count: int | None = None
    regions: list[str] | None = None
    socket: str | None = None
    security: str | None = None
    provider: str | None = None
    spot: bool | None = None
    max_price: float | None = None

    def find(self, client: primepods.Client) -> Iterator[primepods.Offer]:
        """Yield the machines and clusters that are wanted, as they come; the API filters where it can."""
        asked: dict[str, Any] = {
            "gpu_count": self.gpu_count,
            "regions": self.regions or None,
            "socket": self.socket,
            "security": self.security,
        }
        error: primepods.ProtocolError | None = None
        for offers in (client.availability.gpus(**asked), client.availability.multi_node(**asked)):
            try:
                yield from filter(self._matches, offers)
            except primepods.ProtocolError as exc:  # all that could be read came before it
                error = exc
        if error is not None:
            raise error

    def _matches(self, offer: primepods.Offer) -> bool:
        price = offer.price_hr
        return (
            (self.offer_id is None or offer_id(offer) == self.offer_id)
            and (self.gpu_type is None or gpu_matches(self.gpu_type, offer.gpu_type))
            and (self.provider is None or offer.provider == self.provider)
            and (self.spot is None or bool(offer.is_spot) == self.spot)
            and (self.max_price is None or (price is not None and price <= self.max_price))
        )


def offer_id(offer: primepods.Offer) -> str:
    """Return a short name for an offer, which stays the same while only price and stock change."""
    machine = (offer.cloud_id, offer.provider, offer.gpu_type, offer.gpu_count, offer.socket)
    place = (offer.region, offer.data_center, offer.country, offer.security, offer.is_spot)
    amounts = [part.default_count for part in (offer.disk, offer.shared_disk, offer.vcpu, offer.memory)]
    text = json.dumps([*machine, *place, *amounts])
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]


def price_or_last(offer: primepods.Offer) -> float:
    """Return an offer's price per hour to sort by: what has none comes last."""
    return float("inf") if offer.price_hr is None else offer.price_hr
