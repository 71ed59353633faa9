"""Waiting for pods and watching them."""

from ._wait import AsyncWatch, OnChange, Until, failed, gone, ready, settled

__all__ = ["AsyncWatch", "OnChange", "Until", "failed", "gone", "ready", "settled"]
