"""The options that say which offers are wanted, and the ids of offers."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated

import typer

import primepods

from ._completion import complete_offer_gpus, complete_providers
from ._durations import parse_duration, short_duration
from ._table import tell

_PANEL = "Filters"
_ID_LENGTH = 8

GpuType = Annotated[
    str | None,
    typer.Option(
        "--gpu-type",
        "--gpu",
        help="Only this GPU: H100, 'A100 80GB' or 'H*'.",
        metavar="GPU",
        autocompletion=complete_offer_gpus,
        rich_help_panel=_PANEL,
    ),
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
    str | None,
    typer.Option(
        help="Only this provider.",
        metavar="PROVIDER",
        autocompletion=complete_providers,
        rich_help_panel=_PANEL,
    ),
]
MaxPrice = Annotated[
    float | None,
    typer.Option(min=0, help="Only up to this price per hour.", metavar="PRICE", rich_help_panel=_PANEL),
]


ExcludeProviders = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude-provider",
        help="Not from this provider; may be repeated.",
        metavar="PROVIDER",
        autocompletion=complete_providers,
        rich_help_panel=_PANEL,
    ),
]
Spot = Annotated[
    bool,
    typer.Option(
        "--spot",
        help="Also spot machines, which the provider may take away.",
        rich_help_panel=_PANEL,
    ),
]
Wait = Annotated[
    float | None,
    typer.Option(
        help="Look again for so long, such as 2h, until there is an offer.",
        metavar="TIME",
        parser=parse_duration,
        rich_help_panel=_PANEL,
    ),
]


def announce_wait(seconds: float | None) -> None:
    """Say on stderr that the command may be silent for a while."""
    if seconds:
        tell(f"Looking for an offer that fits, for up to {short_duration(seconds)}; Ctrl-C ends it.")


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
