"""Decoder of the lowest prices by GPU type."""

from __future__ import annotations

from typing import Any

from ..models.offers import GpuPrices
from .fields import DecodeError
from .rows import as_object, decode_object


def decode_gpu_summary(data: Any) -> list[GpuPrices]:
    """Decode the response to ``GET /availability/gpu-summary`` or ``multi-node-summary``.

    The response is an object with the prices by GPU type, then by number of GPUs.
    """
    rows: list[GpuPrices] = []
    for gpu_type, counts in as_object(data).items():
        try:
            rows += [_prices(gpu_type, count, entry) for count, entry in as_object(counts).items()]
        except DecodeError as exc:
            raise exc.inside(gpu_type) from None
    return rows


def _prices(gpu_type: str, count: str, entry: Any) -> GpuPrices:
    path = count
    try:
        cheapest: Any = as_object(entry).get("cheapest") or {}
        path += ".cheapest"
        return decode_object({**as_object(cheapest), "gpuType": gpu_type, "gpuCount": count}, GpuPrices)
    except DecodeError as exc:
        raise exc.inside(path) from None
