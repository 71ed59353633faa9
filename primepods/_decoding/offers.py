"""Decoder of the lowest prices by GPU type."""

from __future__ import annotations

from typing import Any

from ..offers import GpuPrices
from .fields import DecodeError
from .rows import as_object, decode_object


def decode_gpu_summary(data: Any) -> list[GpuPrices]:
    """Decode the objects by GPU type and GPU count in the response to ``GET /availability/gpu-summary``."""
    rows: list[GpuPrices] = []
    for gpu_type, counts in as_object(data).items():
        try:
            rows += [_prices(gpu_type, count, entry) for count, entry in as_object(counts).items()]
        except DecodeError as exc:
            raise exc.inside(gpu_type) from None
    return rows


def _prices(gpu_type: str, count: str, entry: Any) -> GpuPrices:
    cheapest = as_object(as_object(entry).get("cheapest") or {})
    return decode_object({**cheapest, "gpuType": gpu_type, "gpuCount": count}, GpuPrices)
