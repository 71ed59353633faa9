"""Waiting for pods and watching them."""

from .conditions import Until, failed, gone, ready, settled
from .wait import OnChange
from .watch import AsyncWatch

__all__ = ["AsyncWatch", "OnChange", "Until", "failed", "gone", "ready", "settled"]
