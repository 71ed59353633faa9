"""Selection of the offers that fit a search, and the error if none does."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import attrs

from .._utils.gpu_names import CPU_NODE, gpu_matches, similar_gpus
from .._utils.money import money
from ..errors import SoldOutError
from ..models.offers import GpuPrices, Offer

_MAX_NAMES: Final = 12
_TOO_EXPENSIVE: Final = "above that price"


@attrs.frozen(kw_only=True)
class OfferSearch:
    """Criteria of a search for offers.

    Attributes:
        gpu_type: The GPU as the user wrote it; ``None`` for any.
        gpu_count: Total number of GPUs; ``None`` for any number.
        max_price: The highest price per hour.
        spot: Whether spot machines fit.
        provider: The only provider that fits, in lower case; ``None`` for any.
        exclude_providers: Providers that do not fit, in lower case.
        unavailable: Whether sold-out and prepaid offers fit and, without ``max_price``, offers without a
            price.
        filters: The API's filter parameters.
    """

    gpu_type: str | None
    gpu_count: int | None
    max_price: float | None
    spot: bool
    provider: str | None
    exclude_providers: frozenset[str]
    unavailable: bool
    filters: Mapping[str, Any]

    def has_gpu(self, gpu_type: str) -> bool:
        """Return whether ``gpu_type`` is wanted; a search for any GPU leaves out CPU nodes."""
        if self.gpu_type is None:
            return gpu_type != CPU_NODE
        return gpu_matches(self.gpu_type, gpu_type)

    def select(self, offers: Iterable[Offer]) -> list[Offer]:
        """Return the offers that fit, cheapest first."""
        return sorted((offer for offer in offers if self._rejection(offer) is None), key=_price_or_last)

    def check_gpu(self, listed: Iterable[str]) -> None:
        """Check that the API lists the wanted GPU.

        Raises:
            ValueError: The API lists only other GPUs; the message suggests names.
        """
        names = sorted(set(listed))
        # An empty list does not prove that the name is wrong: everything may be sold out.
        if self.gpu_type is None or not names or any(map(self.has_gpu, names)):
            return
        similar = similar_gpus(self.gpu_type, names)
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        known = f"Did you mean {' or '.join(similar)}?" if similar else f"It lists {_join(names)}{more}."
        raise ValueError(f"The API lists no GPU {self.gpu_type!r}. {known}")

    def sold_out_error(self, offers: Sequence[Offer], prices: Iterable[GpuPrices], path: str) -> SoldOutError:
        """Return the error that names the criteria and the alternatives.

        Args:
            offers: The offers of the GPU, none of which fits.
            prices: The rows of ``availability.summary``, to find other GPU counts if there are no offers.
            path: The endpoint of the offers.
        """
        alternatives = self._rejections_text(offers) if offers else self._other_counts_text(prices)
        message = f"No offer can be rented now for: {self._criteria_text()}. {alternatives}"
        return SoldOutError(
            f"{message} Allow another GPU, GPU count, region or price, or wait.",
            status_code=404,
            method="GET",
            path=path,
            message=message,
        )

    def _rejection(self, offer: Offer) -> str | None:
        """Return why an offer does not fit, as a phrase; ``None`` if it fits."""
        provider, price = offer.provider.lower(), offer.price_hr
        is_other = self.provider is not None and self.provider != provider
        may_lack_price = self.unavailable and self.max_price is None
        checks = {
            "from other providers": is_other or provider in self.exclude_providers,
            "spot": bool(offer.is_spot) and not self.spot,
            "sold out": not (offer.is_available or self.unavailable),
            "charged in advance": bool(offer.prepaid_time) and not self.unavailable,
            # A price of 0 or less counts as unknown.
            "without a price": (price or 0.0) <= 0 and not may_lack_price,
            _TOO_EXPENSIVE: self.max_price is not None and (price or 0.0) > self.max_price,
        }
        return next((reason for reason, holds in checks.items() if holds), None)

    def _rejections_text(self, offers: Sequence[Offer]) -> str:
        rejections = [(self._rejection(offer), offer) for offer in offers]
        counts = Counter(reason for reason, _ in rejections)
        parts = _join(f"{count} {reason}" for reason, count in counts.items())
        text = f"The API has {len(offers)} such offer{'s' * (len(offers) > 1)}: {parts}."
        too_expensive = [offer for reason, offer in rejections if reason == _TOO_EXPENSIVE]
        if not too_expensive:
            return text
        best = min(too_expensive, key=_price_or_last)
        price = money(best.price_hr, best.prices.currency)
        return f"{text} The cheapest of those {_TOO_EXPENSIVE} costs {price} an hour."

    def _other_counts_text(self, prices: Iterable[GpuPrices]) -> str:
        counts = sorted({row.gpu_count for row in prices if self.has_gpu(row.gpu_type)} - {self.gpu_count})
        if self.gpu_count is None or not counts:
            return "The API has no such offer."
        return f"The API lists it with other GPU counts: {_join(map(str, counts))}."

    def _criteria_text(self) -> str:
        count = "" if self.gpu_count is None else f"{self.gpu_count} x "
        parts = [f"{count}{self.gpu_type or 'any GPU'}"]
        if self.max_price is not None:
            parts.append(f"price at most {self.max_price:g} an hour")
        for name, value in self.filters.items():
            if name != "gpu_count":
                words = value if isinstance(value, str) else _join(value)
                parts.append(f"{name.removesuffix('_id').replace('_', ' ')} {words}")
        if self.provider is not None:
            parts.append(f"provider {self.provider}")
        if self.exclude_providers:
            parts.append(f"not from {_join(sorted(self.exclude_providers))}")
        return ", ".join(parts)


def _price_or_last(offer: Offer) -> float:
    price = offer.price_hr or 0.0
    return price if price > 0 else math.inf


def _join(words: Iterable[str]) -> str:
    return ", ".join(list(words)[:_MAX_NAMES])
